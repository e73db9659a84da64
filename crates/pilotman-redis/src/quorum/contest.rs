//! One attempt to get a quorum, by asking once or by standing in the nodes' queues.
//!
//! A vote counts from just before the question was sent that brought it; one that was pushed counts from the last question
//! that this node answered with "not yours". A vote is out of the count from the moment when we offer to yield it. With a
//! quorum of votes that count at the same time the lock is ours until the first of them ends.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::select_all;
use futures_util::stream::FuturesUnordered;
use pilotman_core::backend::{Attempt, BoxFuture, Grant, Outcome};
use pilotman_core::clock::{Sleep, Time};
use pilotman_core::{Error, ErrorKind, Result, Verdict, Vote};

use super::hold::{Begun, Lost, Nodes, QuorumHold, bit};
use super::lock::{QuorumLock, Reply, lease};
use super::set::{Place, Question, Quorum, no_quorum};
use super::{release, tokens};
use crate::lock::{ends, first_lease};
use crate::push::{Mail, Registered};
use crate::waiting::{
    AFTER_END, APART, LEAVE_FREE, OPERATION, POLL_FIRST, POLL_LONGEST, REFRESH, RETRY_FIRST, RETRY_LONGEST,
};

mod look;

use look::Look;

/// Who has some votes but no quorum looks again after this time, and then after twice as long, and so on: others may have
/// the rest, and the one of them who came first gets them all.
const SETTLE: Duration = Duration::from_millis(2);
/// See the [module](self).
struct Contest<'a> {
    quorum: &'a Arc<Quorum>,
    attempt: &'a Attempt,
    lock: &'a QuorumLock,
    nodes: Vec<Standing>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Our turn in the queues; without one we don't stand there.
    ticket: Option<u64>,
    /// How long a grant lasts that we ask for.
    lasts: Duration,
    /// How long one answer may take.
    limit: Duration,
    /// When to look again, with some votes but no quorum.
    settle_at: Option<Time>,
    settle: Duration,
    /// No further question is to be sent.
    over: Arc<AtomicBool>,
    /// So many votes there were when we looked last.
    had: usize,
    poll: Duration,
}

/// How we stand with one node.
struct Standing {
    vote: Option<Held>,
    /// The last answer, if it said "not yours".
    answered: Option<Answered>,
    /// What it grants does not count at the moment.
    aside: bool,
    /// The number of the last question, and of the one that is open.
    number: u64,
    asking: Option<u64>,
    ask_at: Time,
    error: Option<Error>,
    failing: Option<(Time, Duration)>,
    /// Until when, by its own clock in ms, the node may yield the lock by a question of ours that had no answer.
    taint: u64,
    /// The same of the question that is open.
    yields_until: u64,
    /// What its clock showed in ms, of the server that this lock is on, and when we heard of it.
    clock: Option<(u64, Time)>,
    /// Something of ours may be there.
    touched: bool,
}

impl Standing {
    /// It was ours, and we have offered it to whoever came first, without an answer so far.
    fn is_offered(&self) -> bool {
        self.asking.is_some() && self.yields_until > 0
    }

    /// It is ours; also while it is out of the count since it is offered.
    fn has_part(&self) -> bool {
        self.vote.is_some() || self.is_offered()
    }
}

#[derive(Clone, Copy)]
struct Held {
    from: Time,
    token: u64,
}

struct Answered {
    sent: Time,
    place: u64,
    holder: String,
}

struct Answer {
    at: usize,
    number: u64,
    sent: Time,
    /// With what the node's clock showed in ms.
    reply: Result<(Reply, u64)>,
}

/// Asks all nodes once. If nobody has a quorum, who came first of those who ask gets it.
pub(super) async fn attempt(quorum: &Arc<Quorum>, registry: &Lost, attempt: &Attempt) -> Result<Outcome> {
    let mut contest = Contest::new(quorum, attempt)?;
    quorum.freshen(contest.limit).await;
    let started = quorum.now();
    contest.ask_due(started);
    let outcome = contest.try_to_win(registry, started).await;
    match &outcome {
        Ok(Outcome::Granted(_)) => {}
        Ok(Outcome::Contended { .. }) => {
            contest.remember();
            contest.give_back();
        }
        // Whoever asked gives back what may be there.
        Err(_) => contest.remember(),
    }
    outcome
}

/// Stands in the queues until the lock is ours.
pub(super) async fn wait(quorum: &Arc<Quorum>, registry: &Lost, attempt: &Attempt) -> Result<Grant> {
    let mut contest = Contest::new(quorum, attempt)?;
    quorum.freshen(contest.limit).await;
    contest.stand();
    loop {
        if let Some(grant) = contest.wait_until(registry, Time::NEVER).await? {
            return Ok(grant);
        }
    }
}

impl<'a> Contest<'a> {
    fn new(quorum: &'a Arc<Quorum>, attempt: &'a Attempt) -> Result<Self> {
        quorum.environment()?;
        let now = quorum.now();
        let standing = || Standing {
            vote: None,
            answered: None,
            aside: false,
            number: 0,
            asking: None,
            ask_at: now,
            error: None,
            failing: None,
            taint: 0,
            yields_until: 0,
            clock: None,
            touched: false,
        };
        let lease = lease(attempt);
        Ok(Self {
            quorum,
            attempt,
            lock: attempt.spec.prepared(),
            nodes: quorum.members.iter().map(|_| standing()).collect(),
            asked: FuturesUnordered::new(),
            ticket: None,
            lasts: lease,
            limit: OPERATION.min(lease / 6) * 3 / 4,
            settle_at: None,
            settle: SETTLE,
            over: Arc::default(),
            had: 0,
            poll: POLL_FIRST,
        })
    }

    /// From now on we stand in the queues.
    fn stand(&mut self) {
        self.ticket = Some(self.quorum.estimate());
        self.lasts = first_lease(lease(self.attempt));
    }

    fn refresh(&self) -> Duration {
        (self.lasts / 3).min(REFRESH)
    }

    /// Asks all nodes that are due.
    fn ask_due(&mut self, now: Time) {
        let token = self.quorum.estimate();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if node.asking.is_some() || node.ask_at > now {
                continue;
            }
            node.number += 1;
            node.asking = Some(node.number);
            // Until the answer says that it is still ours.
            node.yields_until = match (node.vote.take(), node.clock) {
                (Some(_), Some((shown, at))) => {
                    let passed = now.since(at) + self.limit;
                    shown.saturating_add(passed.as_millis() as u64)
                }
                _ => 0,
            };
            let place = self.ticket.map(|ticket| Place {
                entry: self.lock.entry(at, self.attempt.id, &self.quorum.process),
                ticket,
                number: node.number,
                yields_until: node.yields_until,
            });
            let question = Question {
                member: self.lock.member(self.attempt.id),
                lease: self.lasts,
                token,
                permits: self.lock.permits(),
                place,
                over: self.over.clone(),
            };
            let (quorum, attempt, number) = (self.quorum.clone(), self.attempt.clone(), node.number);
            let limit = quorum.members[at].node.spec.response_timeout.map_or(self.limit, |set| set.min(self.limit));
            self.asked.push(Box::pin(async move {
                let reply = quorum.ask(at, attempt.spec.prepared(), &question, limit).await;
                Answer { at, number, sent: now, reply }
            }));
        }
    }

    fn hear(&mut self, Answer { at, number, sent, reply }: Answer) {
        let now = self.quorum.now();
        let refresh = self.refresh();
        let longest_poll = self.attempt.spec.options.retry.unwrap_or(POLL_LONGEST).max(Duration::from_millis(1));
        let random = self.quorum.random();
        let quarantine = self.quorum.options.quarantine;
        let node = &mut self.nodes[at];
        if node.asking != Some(number) {
            return;
        }
        node.asking = None;
        node.answered = None;
        node.error = None;
        node.touched |= reply.as_ref().err().is_none_or(|error| !error.has_no_effect());
        if let Ok((_, shown @ 1..)) = reply {
            node.clock = Some((shown, now));
            if shown > node.taint {
                node.taint = 0;
            }
        }
        match reply {
            Ok((Reply::Ours { token, aside }, node_time)) => {
                node.failing = None;
                node.aside = aside && quarantine;
                node.ask_at = sent.after(refresh);
                if node.taint == 0 {
                    node.vote = Some(Held { from: sent, token });
                } else {
                    // An earlier question may still take it away.
                    let rest = Duration::from_millis(node.taint.saturating_sub(node_time).saturating_add(1));
                    node.ask_at = node.ask_at.min(now.after(rest));
                }
            }
            Ok((Reply::Others { aside, left, place, plain, holder, position }, _)) => {
                node.failing = None;
                node.aside = aside && quarantine;
                if plain {
                    self.quorum.foreign.store(true, Ordering::Relaxed);
                    // Decorrelated jitter.
                    let first = POLL_FIRST.min(longest_poll);
                    let span = (self.poll * 3).min(longest_poll).saturating_sub(first).as_nanos().max(1) as u64;
                    self.poll = first + Duration::from_nanos(random % span);
                    node.ask_at = now.after(left.map_or(self.poll, |left| self.poll.min(left + AFTER_END)));
                } else {
                    let apart = APART * u32::try_from(position).unwrap_or(u32::MAX).min(50);
                    let regular = sent.after(refresh);
                    node.ask_at = left.map_or(regular, |left| regular.min(now.after(left + AFTER_END + apart)));
                }
                node.answered = Some(Answered { sent, place, holder });
            }
            Ok((Reply::Elsewhere, _)) => node.ask_at = now.after(RETRY_FIRST),
            Err(error) => {
                if !error.has_no_effect() {
                    node.taint = node.taint.max(node.yields_until);
                }
                let (since, pause) = node.failing.unwrap_or((now, RETRY_FIRST));
                node.failing = Some((since, (pause * 2).min(RETRY_LONGEST)));
                node.ask_at = now.after(pause);
                node.error = Some(error);
            }
        }
    }

    /// A node has told something.
    fn read(&mut self, at: usize, mail: Mail) {
        let now = self.quorum.now();
        let refresh = self.refresh();
        let leave_free = LEAVE_FREE + Duration::from_nanos(self.quorum.random() % LEAVE_FREE.as_nanos() as u64);
        let confirms = self.quorum.members[at].node.spec.confirm.is_some();
        let node = &mut self.nodes[at];
        if mail.ask {
            // The connection ended, perhaps since the node was started anew: what it said before is worth nothing.
            node.vote = None;
            node.answered = None;
        }
        if mail.ask || mail.aside {
            node.ask_at = now;
        }
        let Some(answered) = &node.answered else { return };
        // A word about an earlier place of ours is of a grant that may have ended: only the place that the last answer spoke
        // of can have been granted after it.
        if let Some(&(_, token)) = mail.granted.iter().find(|(place, _)| *place == answered.place) {
            if confirms || node.taint > 0 || now >= ends(answered.sent, self.lasts) {
                node.ask_at = now;
                return;
            }
            node.vote = Some(Held { from: answered.sent, token });
            node.answered = None;
            node.ask_at = now.after(refresh);
        } else if mail.free {
            let pause = if self.quorum.foreign.load(Ordering::Relaxed) { leave_free } else { Duration::ZERO };
            node.ask_at = node.ask_at.min(now.after(pause));
        }
    }

    async fn try_to_win(&mut self, registry: &Lost, started: Time) -> Result<Outcome> {
        let contended = Ok(Outcome::Contended { retry_after: None });
        loop {
            let now = self.quorum.now();
            match self.look(now) {
                Look::Won => match self.enter(registry).await? {
                    Some(grant) => return Ok(Outcome::Granted(grant)),
                    None => return Err(no_quorum(self.tally())),
                },
                Look::Hopeless => return Err(no_quorum(self.tally())),
                Look::Lost { to_another: true } => return contended,
                Look::Lost { to_another: false } => break,
                Look::Open => {}
            }
            match self.asked.next().await {
                Some(answer) => self.hear(answer),
                None => return Err(no_quorum(self.tally())),
            }
        }
        // Nobody has a quorum, so far: whoever came first shall have it.
        self.stand();
        let now = self.quorum.now();
        self.nodes.iter_mut().for_each(|node| node.ask_at = now);
        match self.wait_until(registry, started.after(self.limit)).await? {
            Some(grant) => Ok(Outcome::Granted(grant)),
            None => match self.tally() {
                votes if votes.verdict() == Verdict::NoQuorum => Err(no_quorum(votes)),
                _ => contended,
            },
        }
    }

    /// Stands in the queues until the lock is ours; or, if there is an end, until then or until somebody else has it.
    async fn wait_until(&mut self, registry: &Lost, end: Time) -> Result<Option<Grant>> {
        let quorum = self.quorum.clone();
        let (clock, attempt) = (quorum.clock()?, self.attempt.id);
        let registered: Vec<Registered<'_>> =
            quorum.members.iter().map(|member| member.node.pushes.register(attempt)).collect();
        loop {
            let now = quorum.now();
            match self.look(now) {
                Look::Won => {
                    if let Some(grant) = self.enter(registry).await? {
                        return Ok(Some(grant));
                    }
                    continue;
                }
                Look::Hopeless => {
                    self.remember();
                    return Err(no_quorum(self.tally()));
                }
                Look::Lost { to_another: true } if end != Time::NEVER => return Ok(None),
                Look::Lost { .. } | Look::Open => {}
            }
            if now >= end {
                return Ok(None);
            }
            self.settle_if_due(now);
            self.ask_due(now);
            let idle = self.nodes.iter().filter(|node| node.asking.is_none());
            let next = idle.map(|node| node.ask_at).chain(self.settle_at).chain([end]).min().unwrap_or(end);
            let mut timer = pin!(Sleep::until(clock.clone(), next));
            let mails = registered.iter().map(|registered| Box::pin(registered.mail()));
            let mut mails = select_all(mails);
            let mut answered = false;
            let event = std::future::poll_fn(|cx| {
                if let Poll::Ready(Some(answer)) = self.asked.poll_next_unpin(cx) {
                    return Poll::Ready(Event::Answer(answer));
                }
                if let Poll::Ready((mail, at, _)) = std::future::Future::poll(std::pin::Pin::new(&mut mails), cx) {
                    return Poll::Ready(Event::Mail(at, mail));
                }
                std::future::Future::poll(timer.as_mut(), cx).map(|()| Event::Time)
            })
            .await;
            drop(mails);
            match event {
                Event::Answer(answer) => {
                    self.hear(answer);
                    answered = true;
                }
                Event::Mail(at, mail) => self.read(at, mail),
                Event::Time => {}
            }
            if answered && self.nodes.iter().all(|node| node.asking.is_none()) {
                self.remember();
            }
        }
    }

    /// With some votes but no quorum for a while: ask all nodes again, and offer to yield to whoever came first. In vain, it
    /// is done less and less often, until there are more votes.
    fn settle_if_due(&mut self, now: Time) {
        let have = self.nodes.iter().filter(|node| node.has_part()).count();
        let more = have > self.had;
        self.had = have;
        match self.settle_at {
            _ if have == 0 => self.settle_at = None,
            Some(at) if !more && now >= at => {
                self.settle = (self.settle * 2).min(self.refresh());
                self.settle_at = Some(now.after(self.settle));
                for node in &mut self.nodes {
                    // What fails has its own pauses.
                    if node.failing.is_none() {
                        node.ask_at = now;
                    }
                }
            }
            Some(_) if !more => {}
            _ => {
                self.settle = SETTLE;
                self.settle_at = Some(now.after(SETTLE));
            }
        }
    }

    /// We have the votes. `None` if they don't last until the token is known.
    async fn enter(&mut self, registry: &Lost) -> Result<Option<Grant>> {
        let now = self.quorum.now();
        let mut votes: Vec<_> = self.votes(now).collect();
        let tokens: Vec<_> = votes.iter().map(|(at, vote)| (*at, vote.token)).collect();
        let Some(token) = tokens::agree(self.quorum, self.attempt, &tokens, self.limit).await else {
            // Some of them may be ours no longer.
            let now = self.quorum.now();
            for node in &mut self.nodes {
                node.vote = None;
                node.ask_at = now.after(RETRY_FIRST);
            }
            return if self.ticket.is_some() { Ok(None) } else { Err(no_quorum(self.tally())) };
        };
        // The lock is ours until too few of them last.
        votes.sort_by_key(|(_, vote)| std::cmp::Reverse(vote.from));
        let from = votes[self.lock.needed - 1].1.from;
        if self.quorum.now() >= ends(from, self.lasts) {
            return match self.ticket {
                Some(_) => Ok(None),
                None => {
                    Err(Error::new(ErrorKind::Unavailable, "the nodes took longer to grant the lock than a hold lasts")
                        .with_advice("ask for a longer lease")
                        .with_votes(self.tally())
                        .no_effect(false))
                }
            };
        }
        let counted = votes.iter().fold(0, |nodes, (at, _)| nodes | bit(*at));
        let touched = |nodes: Nodes, (at, node): (usize, &Standing)| {
            nodes | if node.touched || node.asking.is_some() { bit(at) } else { 0 }
        };
        let stands: Nodes = match self.ticket {
            Some(_) => self.nodes.iter().enumerate().fold(0, touched),
            None => 0,
        };
        let taints = self.nodes.iter().map(|node| match node.asking {
            Some(_) => node.taint.max(node.yields_until),
            None => node.taint,
        });
        let begun = Begun {
            counted,
            stands,
            votes: self.tally().nodes.into_iter().map(|node| node.vote).collect(),
            taints: taints.collect(),
            number: self.nodes.iter().map(|node| node.number).max().unwrap_or(0),
        };
        let hold = QuorumHold::new(self.attempt.id, token, self.lock.needed, begun, registry);
        self.lock.set_refusal(None);
        self.go_on_listening(&hold);
        Ok(Some(Grant {
            token: Some(token),
            valid_from: Some(from),
            lease: self.ticket.map(|_| self.lasts),
            state: Some(Box::new(hold)),
        }))
    }

    /// The answers that are still to come go on filling up the hold: what was sent is done in any case, and before anything
    /// that is sent later.
    fn go_on_listening(&mut self, hold: &Arc<QuorumHold>) {
        self.over.store(true, Ordering::Release);
        if self.asked.is_empty() {
            return;
        }
        let (mut asked, hold) = (std::mem::take(&mut self.asked), Arc::downgrade(hold));
        self.quorum.background.run(async move {
            while let Some(answer) = asked.next().await {
                let Some(hold) = hold.upgrade() else { return };
                match answer.reply {
                    Ok((Reply::Ours { aside: true, .. }, time)) => hold.late(answer.at, Vote::SetAside, time),
                    Ok((Reply::Ours { .. }, time)) => hold.late(answer.at, Vote::Granted, time),
                    Ok((_, time)) => hold.late(answer.at, Vote::Conflicted, time),
                    Err(error) => hold.late(answer.at, Vote::Failed(error), 0),
                }
            }
        });
    }

    /// Gives back what the nodes may have granted, and our places.
    fn give_back(&mut self) {
        // What was sent is done before anything that is sent now.
        self.over.store(true, Ordering::Release);
        self.asked.clear();
        let stood = self.ticket.is_some();
        let mut nodes: Nodes = 0;
        for (at, node) in self.nodes.iter().enumerate() {
            let known_empty = node.answered.is_some() && !stood;
            let refused = node.error.as_ref().is_some_and(Error::has_no_effect) && !stood;
            let unsent = node.asking.is_some() && !self.quorum.members[at].node.is_connected();
            if (node.touched || node.asking.is_some()) && !known_empty && !refused && !unsent {
                nodes |= bit(at);
            }
        }
        release::in_background(self.quorum, self.attempt, nodes, stood);
    }
}

enum Event {
    Answer(Answer),
    Mail(usize, Mail),
    Time,
}
