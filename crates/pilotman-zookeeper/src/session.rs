//! One session: the places that it keeps, how it is doing, how long it surely lasts.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{AttemptId, Environment};
use pilotman_core::clock::{Clock, Sleep, Time};
use pilotman_core::{Error, LossReason, Result};
use tokio::sync::Notify;
use zookeeper_client::{Client, Error as DriverError, MultiWriteError};

use crate::failure;
use crate::host::Host;
use crate::place::Place;
use crate::pulse::Pulse;

/// See [`Session::pause`].
const RETRY: Duration = Duration::from_millis(20);

/// See the [module](self).
pub(crate) struct Session {
    pub(crate) client: Client,
    /// After which time of silence the ensemble is to end it.
    asked: Duration,
    /// The member that ends it earlier.
    shortest: Mutex<Option<Host>>,
    environment: Environment,
    pulse: Mutex<Pulse>,
    places: Mutex<Places>,
    /// It has ended: its nodes are gone, or will be.
    ended: AtomicBool,
    /// It is disconnected, or the last heartbeat is not answered in time.
    troubled: AtomicBool,
    /// When the heartbeat that is under way was sent, in nanoseconds; 0: there is none.
    beating: AtomicU64,
    /// A heartbeat was answered, or the session has ended.
    pulsed: Notify,
    /// The keeper is to end.
    pub(crate) closing: Notify,
}

struct Places {
    by_id: HashMap<AttemptId, Arc<Place>>,
    /// No more may come.
    retired: bool,
    /// Since when there is none.
    empty_since: Time,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere left half done is still better than to stop renewing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// A session that was asked for at `opened`.
    pub(crate) fn new(client: Client, timeout: Duration, environment: Environment, opened: Time) -> Arc<Self> {
        let places = Places { by_id: HashMap::new(), retired: false, empty_since: opened };
        Arc::new(Self {
            client,
            asked: timeout,
            shortest: Mutex::default(),
            environment,
            pulse: Mutex::new(Pulse::new(timeout, opened)),
            places: Mutex::new(places),
            ended: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            beating: AtomicU64::new(0),
            pulsed: Notify::new(),
            closing: Notify::new(),
        })
    }

    /// The time-out that was asked for.
    pub(crate) fn asked(&self) -> Duration {
        self.asked
    }

    /// After which time of silence the ensemble ends it, as far as is known.
    pub(crate) fn timeout(&self) -> Duration {
        lock(&self.pulse).timeout()
    }

    /// This member keeps sessions for so long at most. Whether that is news.
    pub(crate) fn shorten(&self, member: &Host, most: Duration, tick: Option<Duration>) -> bool {
        let is_news = most < self.timeout();
        if is_news {
            lock(&self.pulse).shorten(most, tick);
            *lock(&self.shortest) = Some(member.clone());
            self.pulsed.notify_waiters();
        }
        is_news
    }

    /// Tells the loss of all holds once a session that was shortened may have ended: what the engine counts on for them may go
    /// further, from when more was thought.
    pub(crate) fn report_unsure(&self) {
        let unsure = {
            let pulse = lock(&self.pulse);
            pulse.timeout() < self.asked && self.now() >= pulse.surely_until()
        };
        if unsure {
            let places: Vec<_> = lock(&self.places).by_id.values().filter(|place| place.is_held()).cloned().collect();
            for place in places {
                self.environment.events.lost(place.id, LossReason::Expired);
            }
        }
    }

    /// Whether it lasts as long as this lease of a new hold.
    pub(crate) fn allows(&self, lease: Duration) -> Result<()> {
        let timeout = self.timeout();
        let shortest = lock(&self.shortest).clone();
        match shortest {
            Some(member) if timeout < lease => Err(Error::misconfigured(format!(
                "the member {member} keeps a session for {timeout:?} at most, and a session may move there: a lease of {lease:?} \
                 can't be had"
            ))
            .with_advice("raise maxSessionTimeout at that member, or ask for a shorter session time-out")),
            _ => Ok(()),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.environment.clock
    }

    pub(crate) fn now(&self) -> Time {
        self.environment.clock.now()
    }

    /// The pause before a request is repeated whose connection was lost.
    pub(crate) async fn pause(&self) {
        Sleep::new(self.clock().clone(), RETRY).await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.client.state().is_terminated()
    }

    /// Whether the server can't be heard at the moment.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// From when a lease counts that is given or renewed now.
    pub(crate) fn valid_from(&self, lease: Duration) -> Time {
        lock(&self.pulse).valid_from(lease, self.now())
    }

    /// As [`Self::valid_from`], once at least half of the lease is left: after a time without answers the session may be
    /// alive, and that not be sure.
    pub(crate) async fn surely_valid_from(&self, lease: Duration) -> Result<Time> {
        loop {
            let pulsed = self.pulsed.notified();
            if self.has_ended() {
                return Err(failure::lost_session());
            }
            self.allows(lease)?;
            let from = self.valid_from(lease);
            if from.after(lease).since(self.now()) >= lease / 2 {
                return Ok(from);
            }
            // The time is for a state of the driver that nobody tells.
            tokio::select! {
                () = pulsed => {}
                () = Sleep::new(self.clock().clone(), Pulse::cadence(self.timeout())) => {}
            }
        }
    }

    /// Keeps a place; `false`: the session takes no more.
    pub(crate) fn enter(&self, place: &Arc<Place>) -> bool {
        let mut places = lock(&self.places);
        if places.retired || self.has_ended() {
            return false;
        }
        places.by_id.insert(place.id, place.clone());
        true
    }

    /// The place of an attempt.
    pub(crate) fn place(&self, id: AttemptId) -> Option<Arc<Place>> {
        lock(&self.places).by_id.get(&id).cloned()
    }

    /// Nothing of this attempt is left.
    pub(crate) fn leave(&self, id: AttemptId) {
        let mut places = lock(&self.places);
        let left = places.by_id.remove(&id);
        if places.by_id.is_empty() {
            places.empty_since = self.now();
        }
        drop(places);
        drop(left);
    }

    /// Whether somebody has a place below this node.
    pub(crate) fn uses(&self, path: &str) -> bool {
        lock(&self.places).by_id.values().any(|place| place.lock.path == path)
    }

    /// Takes no more places if there has been none for this long.
    pub(crate) fn retire_if_idle(&self, idle: Duration) -> bool {
        let mut places = lock(&self.places);
        let is_idle = places.by_id.is_empty() && self.now().since(places.empty_since) >= idle;
        places.retired |= is_idle;
        is_idle
    }

    fn all(&self) -> Vec<Arc<Place>> {
        lock(&self.places).by_id.values().cloned().collect()
    }

    /// The places to be swept: holds whose lease has ended without a renewal, and what else nobody wants any longer.
    pub(crate) fn begin_sweeps(&self) -> Vec<Arc<Place>> {
        let now = self.now();
        self.all().into_iter().filter(|place| place.begin_sweep(now)).collect()
    }

    /// The server can't be heard: all holds are at risk.
    pub(crate) fn trouble(&self) {
        if !self.troubled.swap(true, Ordering::AcqRel) {
            for place in self.all().iter().filter(|place| place.is_held()) {
                self.environment.events.at_risk(place.id);
            }
        }
    }

    /// It has ended. Holds are lost; waits go on elsewhere.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.pulsed.notify_waiters();
        let places = std::mem::take(&mut lock(&self.places).by_id);
        for place in places.values() {
            if place.is_held() {
                self.environment.events.lost(place.id, LossReason::SessionEnded);
            }
        }
    }

    /// A hold's node is gone.
    pub(crate) fn report_gone(&self, place: &Place) {
        if place.is_held() && !self.has_ended() {
            place.set_gone();
            self.environment.events.lost(place.id, LossReason::Gone);
        }
    }

    /// Sends a heartbeat, unless one is under way; that one is then late.
    pub(crate) fn beat(self: &Arc<Self>) {
        let sent = self.now();
        let begun = self.beating.compare_exchange(0, sent.as_nanos().max(1), Ordering::AcqRel, Ordering::Acquire);
        if let Err(earlier) = begun {
            if sent.since(Time::from_nanos(earlier)) >= Pulse::cadence(self.timeout()) {
                self.trouble();
            }
            return;
        }
        let session = self.clone();
        tokio::spawn(async move {
            let answer = session.ask_leader().await;
            session.beating.store(0, Ordering::Release);
            match answer {
                Ok(()) => session.answered(sent),
                Err(error) => {
                    tracing::debug!(%error, "a heartbeat was not answered");
                    session.trouble();
                }
            }
        });
    }

    /// A write that changes nothing: only a leader that has a quorum answers it.
    pub(crate) async fn ask_leader(&self) -> std::result::Result<(), DriverError> {
        let mut writer = self.client.new_multi_writer();
        writer.add_check_version("/", -1)?;
        match writer.commit().await {
            Ok(_) => Ok(()),
            // An answer all the same.
            Err(MultiWriteError::OperationFailed { .. }) => Ok(()),
            // A member may refuse by itself, without its leader.
            Err(MultiWriteError::RequestFailed { source }) => Err(source),
        }
    }

    fn answered(&self, sent: Time) {
        let now = self.now();
        lock(&self.pulse).answered(sent, now);
        self.pulsed.notify_waiters();
        if !self.troubled.swap(false, Ordering::AcqRel) {
            return;
        }
        for place in self.all() {
            if let Some(lease) = place.held_lease() {
                let from = self.valid_from(lease);
                place.extend(from);
                self.environment.events.extended(place.id, from);
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("timeout", &self.timeout())
            .field("ended", &self.has_ended())
            .field("troubled", &self.is_troubled())
            .finish_non_exhaustive()
    }
}
