//! One Redis as the protocols see it: something that runs scripts and pushes. Where its primary is, and that it moves,
//! is dealt with here.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{AttemptId, Environment};
use pilotman_core::clock::Time;
use pilotman_core::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::sync::{Semaphore, watch};

use crate::failure;
use crate::incident::IncidentKind;
use crate::options::RedisNode;
use crate::push::Pushes;
use crate::scripts::Script;

mod confirm;
mod connect;
mod health;
mod sentinel;
mod survey;

use confirm::Confirmer;
use health::Health;
pub(crate) use survey::{Line, Login, Primary};

/// A command that a cluster can't serve at the moment is repeated after this pause.
const MOMENT: Duration = Duration::from_millis(10);
/// As many commands may be under way to a cluster. The driver sees to all of them in one task, and when that task has used
/// up the turn that the runtime gives it, commands can be left with a lock in their hands that the driver then waits for
/// for ever, as soon as a slot has moved.
const CONCURRENT: usize = 16;
/// A command counts as one of these for so long at most.
const TURN: Duration = Duration::from_millis(50);
/// The server is looked at this often at most, and only while it is used.
const LOOK: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(crate) struct Node {
    pub(crate) spec: RedisNode,
    /// What this process is called: in the values of its locks, and in the channel where it is told.
    pub(crate) process: String,
    pub(crate) pushes: Pushes,
    environment: OnceLock<Environment>,
    live: Mutex<Option<Arc<Live>>>,
    connecting: Mutex<Option<Outcome>>,
    generation: AtomicU64,
    health: Health,
    /// `true` once nothing is to be connected any more.
    closed: watch::Sender<bool>,
    sentinel_watched: AtomicBool,
    /// The scripts that will be run.
    scripts: Vec<&'static Script>,
    notices: OnceLock<OnNotice>,
}

/// Is told of what happens to the node.
type OnNotice = Box<dyn Fn(Notice) + Send + Sync>;

/// What happens to a node.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Connected,
    /// Among these that a connection ended.
    Incident(IncidentKind),
}

/// How an attempt to connect ends, for all who wait for it.
type Outcome = watch::Receiver<Option<Result<Arc<Live>>>>;

/// A connection that works, as far as is known.
pub(crate) struct Live {
    conn: Conn,
    /// What is at the other end, for people.
    pub(crate) server: String,
    /// Another one after each start of the server; empty where this user may not ask for it.
    pub(crate) run_id: String,
    pub(crate) generation: u64,
    /// Channels of the cluster's slots that are subscribed to.
    channels: Mutex<HashSet<u16>>,
    confirmer: Option<Confirmer>,
    looked: AtomicU64,
}

enum Conn {
    One(MultiplexedConnection),
    Cluster {
        commands: ClusterConnection,
        /// Apart from the commands: when a slot moves, the server says so unasked, and the driver takes that for the
        /// answer of whatever was asked last; all answers behind it would then be those of others.
        channels: ClusterConnection,
        /// Commands that may be under way: see [`CONCURRENT`].
        turns: Semaphore,
    },
}

/// The answer of a script.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// It had been sent before without an answer, so what it found may be its own doing.
    pub(crate) repeated: bool,
    /// What answered.
    pub(crate) live: Arc<Live>,
}

/// One command and its answer. The driver hands a refusal on as an answer.
async fn exchange(connection: &MultiplexedConnection, cmd: &Cmd) -> RedisResult<Value> {
    connection.clone().send_packed_command(cmd).await?.extract_error()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    async fn send(&self, slot: u16, cmd: &Cmd) -> RedisResult<Value> {
        match &self.conn {
            Conn::One(connection) => exchange(connection, cmd).await,
            Conn::Cluster { commands, turns, .. } => {
                // It is never closed.
                let turn = turns.acquire().await;
                let route = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                let mut commands = commands.clone();
                let mut answer = pin!(commands.route_command(cmd.clone(), RoutingInfo::SingleNode(route)));
                let answer = match tokio::time::timeout(TURN, answer.as_mut()).await {
                    Ok(answer) => answer,
                    // A node that hangs must not keep commands from the others.
                    Err(_) => {
                        drop(turn);
                        answer.await
                    }
                };
                // The driver hands a refusal on as an answer.
                answer?.extract_error()
            }
        }
    }
}

impl Node {
    pub(crate) fn new(spec: RedisNode, process: String, scripts: Vec<&'static Script>) -> Arc<Self> {
        Arc::new(Self {
            spec,
            process,
            pushes: Pushes::default(),
            environment: OnceLock::new(),
            live: Mutex::default(),
            connecting: Mutex::default(),
            generation: AtomicU64::new(0),
            health: Health::default(),
            closed: watch::Sender::new(false),
            sentinel_watched: AtomicBool::new(false),
            scripts,
            notices: OnceLock::new(),
        })
    }

    /// `on_lost` is told of holds that were broken.
    pub(crate) fn start(&self, environment: Environment, on_lost: impl Fn(AttemptId) + Send + Sync + 'static) {
        self.pushes.report_to(on_lost);
        // A backend belongs to one engine; a second one is none.
        let _ = self.environment.set(environment);
    }

    /// Has somebody told of what happens to this node.
    pub(crate) fn notify(&self, on_notice: impl Fn(Notice) + Send + Sync + 'static) {
        // As above.
        let _ = self.notices.set(Box::new(on_notice));
    }

    fn notice(&self, notice: Notice) {
        if let Some(on_notice) = self.notices.get() {
            on_notice(notice);
        }
    }

    pub(crate) fn environment(&self) -> Result<&Environment> {
        self.environment.get().ok_or_else(|| {
            Error::new(pilotman_core::ErrorKind::Internal, "a backend was used before its engine had started it")
        })
    }

    pub(crate) fn now(&self) -> Time {
        self.environment.get().map_or(Time::ZERO, |environment| environment.clock.now())
    }

    pub(crate) fn random(&self) -> u64 {
        self.environment.get().map_or(0, |environment| environment.random.next())
    }

    fn current(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        lock(&self.live).is_some()
    }

    /// The connection, made if there is none. Many who ask at once share one attempt, which goes on when they leave.
    pub(crate) async fn live(self: &Arc<Self>) -> Result<Arc<Live>> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let mut outcome = self.connecting()?;
        loop {
            if let Some(result) = outcome.borrow_and_update().clone() {
                return result;
            }
            if outcome.changed().await.is_err() {
                return Err(Error::new(pilotman_core::ErrorKind::Closed, "the runtime that connects has ended"));
            }
        }
    }

    fn connecting(self: &Arc<Self>) -> Result<Outcome> {
        if *self.closed.borrow() {
            return Err(Error::new(pilotman_core::ErrorKind::Closed, "the connections of these locks are closed"));
        }
        let mut connecting = lock(&self.connecting);
        if let Some(live) = self.current() {
            return Ok(watch::channel(Some(Ok(live))).1);
        }
        if let Some(outcome) = &*connecting
            && outcome.borrow().is_none()
            && outcome.has_changed().is_ok()
        {
            return Ok(outcome.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let (node, own) = (self.clone(), outcome.clone());
        tokio::spawn(async move {
            let result = node.connect().await;
            if let Ok(live) = &result {
                *lock(&node.live) = Some(live.clone());
                node.notice(Notice::Connected);
                // Closed meanwhile: nobody would ever end it.
                if *node.closed.borrow() {
                    lock(&node.live).take();
                }
            }
            sender.send_replace(Some(result));
            // Whoever waits for it has it; here it would keep a connection that is given up.
            let mut connecting = lock(&node.connecting);
            if connecting.as_ref().is_some_and(|outcome| outcome.same_channel(&own)) {
                connecting.take();
            }
        });
        *connecting = Some(outcome.clone());
        Ok(outcome)
    }

    /// This connection is of no further use.
    fn invalidate(&self, generation: u64) {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|live| live.generation == generation) {
            live.take();
            drop(live);
            self.pushes.all_ask();
        }
    }

    /// Runs a script. It is repeated once if the connection breaks, where the script bears that.
    pub(crate) async fn run(
        self: &Arc<Self>,
        script: &Script,
        slot: u16,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Answer> {
        let build = |name: &str, script: &str| {
            let mut cmd = Cmd::with_capacity(3 + keys.len() + arguments.len(), 256);
            cmd.arg(name).arg(script).arg(keys.len());
            for key in keys {
                cmd.arg(*key);
            }
            for argument in arguments {
                cmd.arg(*argument);
            }
            cmd
        };
        let cmd = build("EVALSHA", &script.hash);
        let mut repeated = false;
        let mut unsent = 1;
        loop {
            // What was sent before may have been done.
            let live = self.live().await.map_err(|error| if repeated { error.no_effect(false) } else { error })?;
            let mut result = live.send(slot, &cmd).await;
            if let Err(error) = &result
                && failure::code(error) == Some("NOSCRIPT")
            {
                tracing::debug!(script = script.name, server = live.server, "loading a script");
                result = live.send(slot, &build("EVAL", &script.body)).await;
            }
            let error = match result {
                Ok(value) => {
                    self.look_if_due(&live);
                    return Ok(Answer { value, repeated, live });
                }
                Err(error) => error,
            };
            if self.spec.is_clustered() && failure::is_momentary(&error) {
                if *self.closed.borrow() {
                    return Err(failure::failed(error));
                }
                // The caller's time is limited, so this ends.
                tokio::time::sleep(MOMENT).await;
                continue;
            }
            let broken = failure::is_broken(&error);
            if broken || failure::is_misdirected(&error) {
                self.drop_connection(&live, &error);
                if unsent > 0 && (script.repeatable || !broken) {
                    unsent -= 1;
                    repeated |= broken;
                    continue;
                }
            }
            let error = failure::failed(error);
            return Err(if repeated { error.no_effect(false) } else { error });
        }
    }

    fn drop_connection(&self, live: &Live, error: &RedisError) {
        if matches!(live.conn, Conn::Cluster { .. }) {
            // It finds its nodes again by itself.
            return;
        }
        tracing::debug!(server = live.server, %error, "a connection is given up");
        self.invalidate(live.generation);
    }

    /// A command of our own on the connection.
    pub(crate) async fn command(self: &Arc<Self>, cmd: &Cmd) -> Result<Value> {
        let live = self.live().await?;
        match live.send(0, cmd).await {
            Ok(value) => Ok(value),
            Err(error) => {
                if failure::is_broken(&error) {
                    self.drop_connection(&live, &error);
                }
                Err(failure::failed(error))
            }
        }
    }

    /// Makes sure that this process hears of what happens in a slot. On one node it does so from the start.
    pub(crate) async fn listen(self: &Arc<Self>, slot: u16, channels: &str) -> Result<()> {
        let live = self.live().await?;
        let Conn::Cluster { channels: connection, .. } = &live.conn else { return Ok(()) };
        if lock(&live.channels).contains(&slot) {
            return Ok(());
        }
        let mut connection = connection.clone();
        let subscribed = connection.ssubscribe(format!("{channels}{}", self.process));
        let Ok(subscribed) = tokio::time::timeout(LOOK, subscribed).await else {
            tracing::debug!(slot, "no answer to a subscription");
            return Ok(());
        };
        match subscribed {
            Ok(()) => {
                lock(&live.channels).insert(slot);
            }
            // A client that was handed in may not speak RESP3: then waiters ask every now and then.
            Err(error) if error.kind() == redis::ErrorKind::InvalidClientConfig => {
                tracing::debug!(%error, "no pushes from this cluster");
                lock(&live.channels).insert(slot);
            }
            // Who waits asks without it, too, and then tries it again.
            Err(error) => tracing::debug!(%error, slot, "no subscription"),
        }
        Ok(())
    }

    /// The command by which scripts publish.
    pub(crate) fn publish(&self) -> &'static str {
        if self.spec.is_clustered() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Waits until what was written on this connection before this call has gone as far as was asked for. The server that
    /// did it is asked and no other: a new primary would speak of what it has itself.
    pub(crate) async fn confirm(&self, live: &Live) -> Result<()> {
        let Some(confirmer) = &live.confirmer else { return Ok(()) };
        let confirmed = confirmer.confirm().await;
        if confirmer.is_broken() {
            // Both connections are made anew.
            self.invalidate(live.generation);
        }
        confirmed.map_err(|error| error.no_effect(false))?;
        match self.current() {
            Some(current) if current.generation == live.generation => Ok(()),
            _ => {
                Err(Error::unavailable("the connection changed before the replicas were known to have it")
                    .no_effect(false))
            }
        }
    }

    /// The cluster may have forgotten what we listen to.
    fn listen_again(&self) {
        if let Some(live) = self.current() {
            lock(&live.channels).clear();
        }
        self.pushes.all_ask();
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        lock(&self.live).take();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("spec", &self.spec).field("process", &self.process).finish_non_exhaustive()
    }
}
