//! The nodes together, and how each is asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use pilotman_core::backend::Environment;
use pilotman_core::clock::{Clock, Sleep, Time};
use pilotman_core::{Error, ErrorKind, Result};

use super::background::Background;
use super::entry::How;
use super::lock::{QuorumLock, Reply, node_millis, parse_reply, time_in};
use super::member::Member;
use super::options::{Redlock, in_node};
use super::status::QuorumStatus;
use crate::failure::nonsense;
use crate::incident::IncidentKind;
use crate::node::{Live, Node, Notice};
use crate::waiting::within;

/// Nodes that answer have this long, at the end, for what is still under way.
const CLOSING: Duration = Duration::from_secs(2);
/// A node is told this often at most that the set is in use.
const USED: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(super) struct Quorum {
    pub(super) options: Redlock,
    pub(super) members: Vec<Arc<Member>>,
    pub(super) process: String,
    /// What the nodes know this set by.
    pub(super) set: String,
    environment: OnceLock<Environment>,
    pub(super) background: Background,
    /// Programs were seen that don't stand in our queues.
    pub(super) foreign: AtomicBool,
    /// Nodes that were seen to have a say, as bits, and since when that is a majority.
    open: AtomicU64,
    open_since: AtomicU64,
    pub(super) settling: tokio::sync::Mutex<()>,
    /// The longest lease that nodes are known to have agreed on, in ms.
    pub(super) agreed: AtomicU64,
}

/// What a node is asked to do.
pub(super) struct Question {
    pub(super) member: String,
    pub(super) lease: Duration,
    /// The token that is proposed.
    pub(super) token: u64,
    pub(super) permits: String,
    pub(super) place: Option<Place>,
    /// The answer is no longer wanted: what has not been sent must not be, since it would come after the release.
    pub(super) over: Arc<AtomicBool>,
}

/// A place in the queue that is asked for.
pub(super) struct Place {
    pub(super) entry: String,
    pub(super) ticket: u64,
    /// The number of the question.
    pub(super) number: u64,
    /// Until then, by the node's clock in ms, the lock is to go to whoever waits and came before us; 0: not at all.
    pub(super) yields_until: u64,
}

impl Quorum {
    pub(super) fn new(options: Redlock, process: String) -> Arc<Self> {
        let members = options.nodes.iter().map(|spec| {
            let node = Node::new(spec.clone(), process.clone(), super::scripts::all());
            Arc::new(Member::new(spec.label(), node))
        });
        Arc::new(Self {
            members: members.collect(),
            set: options.set(),
            options,
            process,
            environment: OnceLock::new(),
            background: Background::default(),
            foreign: AtomicBool::new(false),
            open: AtomicU64::new(0),
            open_since: AtomicU64::new(Time::NEVER.as_nanos()),
            settling: tokio::sync::Mutex::default(),
            agreed: AtomicU64::new(0),
        })
    }

    /// A mutex needs so many nodes.
    pub(super) fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    pub(super) fn start(self: &Arc<Self>, environment: Environment, on_lost: super::hold::Lost) {
        for (at, member) in self.members.iter().enumerate() {
            let on_lost = on_lost.clone();
            member.node.start(environment.clone(), move |id| on_lost.reported(at, id));
            let quorum = Arc::downgrade(self);
            member.node.notify(move |notice| {
                if let Some(quorum) = quorum.upgrade() {
                    quorum.noticed(at, notice);
                }
            });
        }
        // A backend belongs to one engine; a second one is none.
        let _ = self.environment.set(environment);
    }

    pub(super) fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    pub(super) fn now(&self) -> Time {
        self.environment.get().map_or(Time::ZERO, |environment| environment.clock.now())
    }

    pub(super) fn random(&self) -> u64 {
        self.environment.get().map_or(0, |environment| environment.random.next())
    }

    pub(super) fn clock(&self) -> Result<Arc<dyn Clock>> {
        Ok(self.environment()?.clock.clone())
    }

    pub(super) async fn pause(&self, time: Duration) {
        if let Ok(clock) = self.clock() {
            Sleep::new(clock, time).await;
        }
    }

    /// A node was seen to have a say.
    pub(super) fn saw_open(&self, at: usize) {
        if self.open.load(Ordering::Relaxed) & (1 << at) != 0 {
            return;
        }
        let open = self.open.fetch_or(1 << at, Ordering::AcqRel) | 1 << at;
        if open.count_ones() as usize >= self.majority() {
            self.open_since.fetch_min(self.now().as_nanos(), Ordering::AcqRel);
        }
    }

    /// From when on votes count: since a majority of the nodes is known to have a say. Before that somebody may just have
    /// opened nodes that had never been used, of which one had voted for us and forgotten it again.
    pub(super) fn votes_count_from(&self) -> Time {
        match self.options.quarantine {
            true => Time::from_nanos(self.open_since.load(Ordering::Acquire)),
            false => Time::ZERO,
        }
    }

    /// How many clocks must be known to tell which one is off.
    fn clocks_needed(&self) -> usize {
        self.members.iter().filter(|member| !member.node.spec.is_clustered()).count() / 2 + 1
    }

    /// Whether enough clocks are known.
    pub(super) fn can_check(&self) -> bool {
        let now = self.now();
        self.members.iter().filter(|member| member.clock(now).is_some()).count() >= self.clocks_needed()
    }

    /// By how many ms a node's clock is off from the middle, and by how much that may be wrong; if enough are known. What is
    /// noted on the nodes says where the middle is, whichever of them are known; where nothing is noted, all must be.
    pub(super) fn deviation(&self, at: usize) -> Option<(i128, u128)> {
        let now = self.now();
        let known: Vec<_> =
            self.members.iter().filter_map(|member| Some((member.reading(now)?, member.noted()))).collect();
        let (its, its_error) = self.members[at].reading(now)?;
        let mut middles: Vec<_> =
            known.iter().filter_map(|((micros, error), noted)| Some((micros - (*noted)? * 1000, *error))).collect();
        if middles.is_empty() && known.len() == self.members.len() {
            middles = known.iter().map(|(reading, _)| *reading).collect();
        }
        if known.len() < self.clocks_needed() || middles.is_empty() {
            return None;
        }
        middles.sort_unstable();
        let (middle, error) = middles[(middles.len() - 1) / 2];
        Some(((its - middle) / 1000, (error + its_error).as_millis() + 1))
    }

    /// Looks at what is noted on a node, unless somebody else has just done so.
    async fn look_again(&self, at: usize) -> Result<()> {
        let member = &self.members[at];
        let before = member.looks();
        let _turn = member.looking.lock().await;
        if member.is_checked(self.now()) || member.looks() > before + 1 {
            return Ok(());
        }
        self.note(at, How::Look).await.map(drop)
    }

    /// Makes sure that the clocks of enough nodes were compared with what is noted of them. Costs nothing while the nodes are in
    /// use.
    pub(super) async fn freshen(self: &Arc<Self>, limit: Duration) {
        for _ in 0..2 {
            let now = self.now();
            let stale = |member: &Member| member.node.is_connected() && !member.is_checked(now);
            let fresh = self.members.iter().filter(|member| member.is_checked(now)).count();
            if fresh >= self.majority() {
                return;
            }
            let stale: Vec<_> = (0..self.members.len()).filter(|at| stale(&self.members[*at])).collect();
            let enough = self.majority() - fresh;
            let mut looks: FuturesUnordered<_> =
                stale.into_iter().map(|at| within(&self.members[at].node, limit, self.look_again(at))).collect();
            let mut looked = 0;
            while let Some(note) = looks.next().await {
                looked += usize::from(note.is_ok());
                if looked >= enough {
                    break;
                }
            }
        }
    }

    /// What the nodes' clocks show now in the middle, in microseconds: a number that all clients agree on, but for the
    /// error of measuring, whatever their own clocks show.
    pub(super) fn estimate(&self) -> u64 {
        let now = self.now();
        let mut clocks: Vec<_> = self.members.iter().filter_map(|member| member.clock(now)).collect();
        clocks.sort_unstable();
        let middle = clocks.get(clocks.len().saturating_sub(1) / 2).copied();
        let ours =
            || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros() as i128);
        u64::try_from(middle.unwrap_or_else(ours)).unwrap_or(0)
    }

    pub(super) fn status(&self) -> QuorumStatus {
        let now = self.now();
        QuorumStatus { needed: self.majority(), nodes: self.members.iter().map(|member| member.status(now)).collect() }
    }

    pub(super) fn changed(&self) {
        let status = self.status();
        tracing::debug!(lock.backend = "redlock", %status, "the nodes have changed");
        if let Some(observer) = &self.options.observer {
            (observer.0)(&status);
        }
    }

    /// Something happened to a node.
    fn noticed(self: &Arc<Self>, at: usize, notice: Notice) {
        use IncidentKind::{ClockStepped, Disconnected, Promoted};
        let member = &self.members[at];
        match notice {
            Notice::Connected => {
                member.set_error(None);
            }
            Notice::Incident(Disconnected) => {}
            Notice::Incident(incident) => {
                if matches!(incident, ClockStepped { .. }) {
                    member.forget_clock();
                }
                if self.options.quarantine {
                    member.set_aside(self.now().after(self.options.longest_lease));
                    tracing::warn!(
                        lock.backend = "redlock",
                        server = member.label,
                        incident = incident.as_str(),
                        "its grants of new locks don't count for {:?}",
                        self.options.longest_lease
                    );
                    // Others, who have not seen it happen, learn it from the node. A restart and a flush they see there.
                    if matches!(incident, Promoted | ClockStepped { .. }) {
                        let quorum = self.clone();
                        self.background.run(async move {
                            if let Err(error) = quorum.note(at, How::Reset).await {
                                tracing::debug!(%error, "a quarantine could not be left at its node");
                            }
                        });
                    }
                }
            }
        }
        self.changed();
    }

    /// Remembers whether a node could be used.
    fn used(&self, at: usize, error: Option<&Error>) {
        if self.members[at].set_error(error.cloned()) {
            self.changed();
        }
    }

    /// Asks a node for a lock; its answer, and what its clock showed in ms. `limit` bounds it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        at: usize,
        lock: &QuorumLock,
        question: &Question,
        limit: Duration,
    ) -> Result<(Reply, u64)> {
        // Connecting goes on behind it.
        let asked = within(&self.members[at].node, limit, self.ask_settled(at, lock, question)).await;
        // What is not wanted any more says nothing about the node.
        if !question.over.load(Ordering::Acquire) {
            self.used(at, asked.as_ref().err());
        }
        asked
    }

    async fn ask_settled(self: &Arc<Self>, at: usize, lock: &QuorumLock, question: &Question) -> Result<(Reply, u64)> {
        for _ in 0..3 {
            let live = self.live(at).await?;
            self.keep_in_use(at);
            match self.exchange(at, &live, lock, question).await? {
                (Reply::Elsewhere, _) => self.settle(at).await?,
                reply => return Ok(reply),
            }
        }
        Err(Error::unavailable("the node goes on forgetting which set of nodes it belongs to")
            .with_advice("see whether something flushes it")
            .no_effect(true))
    }

    async fn exchange(&self, at: usize, live: &Live, lock: &QuorumLock, question: &Question) -> Result<(Reply, u64)> {
        let member = &self.members[at];
        let node = &member.node;
        let set = self.expected(at, live);
        let token = question.token.to_string();
        let lease = crate::lock::millis(question.lease).to_string();
        let mut arguments: Vec<&str> =
            vec![&set, &token, &question.member, &self.process, &lease, node.publish(), &question.permits];
        let numbers;
        if let Some(place) = &question.place {
            node.listen(lock.keys[at].slot, &lock.keys[at].channels).await?;
            numbers = [place.ticket, place.number, place.yields_until].map(|number| number.to_string());
            arguments.push(&place.entry);
            arguments.extend(numbers.iter().map(String::as_str));
        }
        if question.over.load(Ordering::Acquire) {
            return Err(Error::unavailable("it was not asked in time").no_effect(true));
        }
        let sent = self.now();
        let answer = node.run(&lock.family().acquire, lock.keys[at].slot, &lock.keys(at), &arguments).await?;
        let reply = parse_reply(&answer.value).ok_or_else(|| nonsense("an acquire", &answer.value))?;
        let mut node_time = 0;
        if let Some((seconds, micros)) = time_in(&answer.value) {
            node_time = node_millis(seconds, micros);
            if !node.spec.is_clustered() {
                member.read_clock(seconds, micros, sent);
                node.read_clock(&answer.live.server, &[seconds.clone(), micros.clone()], sent);
            }
        }
        if matches!(reply, Reply::Ours { aside: false, .. } | Reply::Others { aside: false, .. }) {
            self.saw_open(at);
        }
        if matches!(reply, Reply::Ours { .. }) {
            node.confirm(&answer.live).await?;
        }
        Ok((reply, node_time))
    }

    /// How a node's notes must begin for its scripts to work for us; empty for clusters, whose slots can't all be seen.
    pub(super) fn expected(&self, at: usize, live: &Live) -> String {
        match self.members[at].node.spec.is_clustered() {
            true => String::new(),
            false => format!("{}|{}|", self.set, shown_run_id(live)),
        }
    }

    /// The connection of a node. One that could not be connected is left alone for a while.
    pub(super) async fn connected(&self, at: usize) -> Result<Arc<Live>> {
        let member = &self.members[at];
        if !member.node.is_connected()
            && let Some(error) = member.failed_just_now(self.now())
        {
            return Err(error);
        }
        let connected = member.node.live().await;
        member.connected(self.now(), connected.as_ref().err());
        connected
    }

    /// The connection of a node that is a member in its own right.
    pub(super) async fn live(self: &Arc<Self>, at: usize) -> Result<Arc<Live>> {
        let member = &self.members[at];
        let live = self.connected(at).await?;
        if let Some(refusal) = member.refusal(self.now()) {
            return Err(refusal);
        }
        if !member.is_settled(live.generation) {
            // Also tells its clock, and whether it has a say.
            let settled = self.settle(at).await;
            if let Err(error) = &settled
                && error.kind() == ErrorKind::Misconfigured
            {
                member.refuse(self.now(), error);
            }
            settled?;
            member.settled(live.generation, &live.run_id);
        }
        if !member.is_checked(self.now()) && self.deviation(at).is_some() {
            self.look_again(at).await?;
        }
        if live.run_id.is_empty() {
            return Ok(live);
        }
        // Whichever of the two comes second finds the other one, so that they never vote both.
        let is_twin = |(other, twin): &(usize, &Arc<Member>)| {
            *other != at && (*other < at || twin.node.is_connected()) && twin.run_id().as_ref() == Some(&live.run_id)
        };
        let twin = self.members.iter().enumerate().find(is_twin).map(|(_, twin)| twin);
        match twin {
            None => Ok(live),
            Some(twin) => Err(Error::misconfigured(format!(
                "the nodes {} and {} are the same server, which would have two votes",
                twin.label, member.label
            ))
            .with_advice("name each server once")),
        }
    }

    /// Tells a node now and then that the set is in use, while it is.
    pub(super) fn keep_in_use(self: &Arc<Self>, at: usize) {
        let member = &self.members[at];
        if !member.node.is_connected() || !member.is_use_due(self.now(), USED) {
            return;
        }
        let quorum = self.clone();
        self.background.run(async move {
            if let Err(error) = quorum.note(at, How::Look).await {
                tracing::debug!(%error, "a node was not told that its set is in use");
            }
        });
    }

    /// Makes sure that enough nodes can be asked.
    pub(super) async fn ready(self: &Arc<Self>) -> Result<()> {
        let mut connecting: FuturesUnordered<_> =
            (0..self.members.len()).map(|at| async move { (at, self.live(at).await.map(drop)) }).collect();
        let (mut up, mut errors) = (0, Vec::new());
        while let Some((at, result)) = connecting.next().await {
            match result {
                Ok(()) => up += 1,
                Err(error) => {
                    self.used(at, Some(&error));
                    errors.push((at, error));
                }
            }
            if up >= self.majority() || errors.len() > self.members.len() - self.majority() {
                break;
            }
        }
        // Whoever asks next says which nodes are missing.
        Ok(())
    }

    /// Whether so many nodes are connected that an attempt needs no preparation.
    pub(super) fn is_ready(&self) -> bool {
        let connected = self.members.iter().filter(|member| member.node.is_connected()).count();
        connected >= self.majority()
    }

    /// Checks all nodes.
    pub(super) async fn check(self: &Arc<Self>) -> Result<()> {
        let settled = (0..self.members.len()).map(|at| async move {
            let settled = async {
                self.live(at).await?;
                self.settle(at).await
            };
            crate::waiting::asked(&self.members[at].node, settled).await
        });
        let settled = join_all(settled).await;
        // With all of them known, each can be compared with the others.
        let compared = settled.into_iter().enumerate().map(|(at, settled)| async move {
            settled?;
            crate::waiting::asked(&self.members[at].node, self.live(at)).await.map(drop)
        });
        let mut down = Vec::new();
        for (at, result) in join_all(compared).await.into_iter().enumerate() {
            self.used(at, result.as_ref().err());
            match result {
                Ok(()) => {}
                // It will not get better by itself, even if the others are enough.
                Err(error) if error.kind() == ErrorKind::Misconfigured => {
                    return Err(in_node(&self.members[at].label, &error));
                }
                Err(error) => down.push((at, error)),
            }
        }
        if self.members.len() - down.len() >= self.majority() {
            return Ok(());
        }
        let mut votes: Vec<_> =
            self.members.iter().map(|member| (member.label.clone(), pilotman_core::Vote::Open)).collect();
        for (at, error) in down {
            votes[at].1 = pilotman_core::Vote::Failed(error);
        }
        Err(no_quorum(pilotman_core::Votes::new(self.majority(), votes)))
    }

    /// Ends all connections.
    pub(super) async fn close(&self) {
        // What waits for a node to come back is left to its leases.
        let all_there = self.members.iter().all(|member| member.node.is_connected());
        let patience = if all_there { CLOSING } else { CLOSING / 8 };
        let idle = async {
            self.background.idle().await;
            Ok(())
        };
        if within(&self.members[0].node, patience, idle).await.is_err() {
            tracing::debug!("closed before all nodes were told of everything");
        }
        for member in &self.members {
            member.node.close();
        }
    }

    /// Whether to leave a lock free for a moment, for programs that don't stand in our queues: where such were seen, one
    /// time in sixteen.
    pub(super) fn leaves_free(&self) -> bool {
        self.foreign.load(Ordering::Relaxed) && self.random().is_multiple_of(16)
    }
}

pub(super) fn shown_run_id(live: &Live) -> String {
    if live.run_id.is_empty() { "-".to_owned() } else { live.run_id.clone() }
}

/// The error of an attempt for which too few nodes could vote.
pub(super) fn no_quorum(votes: pilotman_core::Votes) -> Error {
    use pilotman_core::Vote::{Failed, SetAside};
    let aside = votes.nodes.iter().any(|node| matches!(node.vote, SetAside));
    let mut failed = votes.nodes.iter().filter_map(|node| match &node.vote {
        Failed(error) => Some(error),
        _ => None,
    });
    let kind =
        match failed.clone().count() > 0 && failed.all(|error| error.kind() == ErrorKind::Misconfigured) && !aside {
            true => ErrorKind::Misconfigured,
            false => ErrorKind::NoQuorum,
        };
    let advice = match aside {
        true => "a node that was started anew or emptied has a say again after the longest lease; start the others",
        false => "look at the nodes that failed",
    };
    Error::new(kind, "too few nodes can vote").with_advice(advice).with_votes(votes).no_effect(false)
}
