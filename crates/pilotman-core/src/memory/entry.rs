//! What is held and awaited under one name.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::Primitive;
use crate::backend::{Attempt, AttemptId, Events, Grant, Holder, Inspection, Outcome};
use crate::clock::Time;

/// Holders and waiters.
#[derive(Default)]
pub(super) struct State {
    holders: Vec<Holding>,
    /// Apart, since there may be many names that are held and few that are waited for.
    line: Option<Box<Line>>,
}

/// Those who wait.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// The upgradeable reader that wants to write; it goes before everybody else.
    upgrading: Option<(AttemptId, oneshot::Sender<()>)>,
}

struct Holding {
    id: AttemptId,
    primitive: Primitive,
    expires: Time,
    token: u64,
    since: SystemTime,
    events: Events,
}

struct Waiting {
    attempt: Attempt,
    events: Events,
    granted: oneshot::Sender<Grant>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.upgrading.is_none()
    }
}

/// What an entry needs of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) tokens: &'a AtomicU64,
    pub(super) now: Time,
}

/// A state that is being worked on.
pub(super) struct Entry<'a> {
    pub(super) state: &'a mut State,
    pub(super) context: Context<'a>,
}

impl State {
    pub(super) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.line.as_ref().is_none_or(|line| line.is_empty())
    }

    fn upgrading(&self) -> Option<AttemptId> {
        self.line.as_ref()?.upgrading.as_ref().map(|(id, _)| *id)
    }

    fn waiters(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.waiting.len())
    }

    fn line(&mut self) -> &mut Line {
        self.line.get_or_insert_default()
    }

    fn holder(&mut self, id: AttemptId) -> Option<&mut Holding> {
        self.holders.iter_mut().find(|holder| holder.id == id)
    }

    /// Whether a new holder of this kind can stand beside those that are there.
    fn admits(&self, primitive: Primitive) -> bool {
        let all = |allowed: fn(Primitive) -> bool| self.holders.iter().all(|holder| allowed(holder.primitive));
        match primitive {
            Primitive::Mutex | Primitive::Write => self.holders.is_empty(),
            Primitive::Read => all(|other| other != Primitive::Write) && self.upgrading().is_none(),
            Primitive::UpgradeableRead => all(|other| other == Primitive::Read),
            Primitive::Permit(permits) => self.holders.len() < permits.get() as usize,
        }
    }
}

impl Entry<'_> {
    fn grant(&mut self, attempt: &Attempt, events: Events) -> Grant {
        let token = self.next_token();
        let expires = attempt.spec.lease.map_or(Time::NEVER, |lease| self.context.now.after(lease));
        // Mostly there is one, and there may be many names.
        if self.state.holders.is_empty() {
            self.state.holders.reserve_exact(1);
        }
        self.state.holders.push(Holding {
            id: attempt.id,
            primitive: attempt.spec.target.primitive,
            expires,
            token,
            since: super::wall_clock(),
            events,
        });
        Grant { token: Some(token), valid_from: Some(self.context.now), ..Grant::default() }
    }

    fn next_token(&self) -> u64 {
        self.context.tokens.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes out ended leases, and lets in whoever can come in.
    pub(super) fn settle(&mut self) {
        let now = self.context.now;
        self.state.holders.retain(|holder| holder.expires > now);
        if let Some(id) = self.state.upgrading() {
            let alone = self.state.holders.iter().all(|holder| holder.id == id);
            if !self.holds(id) {
                self.state.line().upgrading = None;
            } else if alone {
                self.become_writer(id);
                if let Some((_, upgraded)) = self.state.line().upgrading.take() {
                    // Who no longer listens withdraws, and holds the write until the release.
                    let _ = upgraded.send(());
                }
            }
        }
        while let Some(waiting) = self.next_admitted() {
            let Waiting { attempt, events, granted } = waiting;
            let grant = self.grant(&attempt, events);
            if granted.send(grant).is_err() {
                self.state.holders.retain(|holder| holder.id != attempt.id);
            }
        }
        if self.state.line.as_ref().is_some_and(|line| line.is_empty()) {
            self.state.line = None;
        }
    }

    /// Takes the first waiter out of the line, if it can come in.
    fn next_admitted(&mut self) -> Option<Waiting> {
        let line = self.state.line.as_mut()?;
        while line.waiting.front().is_some_and(|first| first.granted.is_closed()) {
            line.waiting.pop_front();
        }
        let first = line.waiting.front()?.attempt.spec.target.primitive;
        if !self.state.admits(first) {
            return None;
        }
        self.state.line().waiting.pop_front()
    }

    fn become_writer(&mut self, id: AttemptId) {
        if let Some(holder) = self.state.holder(id) {
            holder.primitive = Primitive::Write;
        }
    }

    /// One attempt, which overtakes nobody.
    pub(super) fn try_acquire(&mut self, attempt: &Attempt, events: &Events) -> Outcome {
        if let Some(holder) = self.state.holder(attempt.id) {
            let grant = Grant { token: Some(holder.token), ..Grant::default() };
            return Outcome::Granted(grant);
        }
        if self.state.waiters() == 0 && self.state.admits(attempt.spec.target.primitive) {
            return Outcome::Granted(self.grant(attempt, events.clone()));
        }
        let expiry = self.next_expiry();
        let retry_after = (expiry != Time::NEVER).then(|| expiry.since(self.context.now));
        Outcome::Contended { retry_after }
    }

    /// The lock, or a place in the queue.
    pub(super) fn enqueue(&mut self, attempt: &Attempt, events: &Events) -> Result<Grant, oneshot::Receiver<Grant>> {
        if let Outcome::Granted(grant) = self.try_acquire(attempt, events) {
            return Ok(grant);
        }
        let (granted, receiver) = oneshot::channel();
        self.state.line().waiting.push_back(Waiting { attempt: attempt.clone(), events: events.clone(), granted });
        Err(receiver)
    }

    pub(super) fn abandon(&mut self, id: AttemptId) {
        if let Some(line) = &mut self.state.line {
            line.waiting.retain(|waiting| waiting.attempt.id != id);
        }
        self.release(id);
    }

    pub(super) fn holds(&self, id: AttemptId) -> bool {
        self.state.holders.iter().any(|holder| holder.id == id)
    }

    /// Whether there was such a holder.
    pub(super) fn release(&mut self, id: AttemptId) -> bool {
        let before = self.state.holders.len();
        self.state.holders.retain(|holder| holder.id != id);
        self.state.holders.len() < before
    }

    pub(super) fn renew(&mut self, attempt: &Attempt, now: Time) -> bool {
        let Some(holder) = self.state.holder(attempt.id) else { return false };
        holder.expires = attempt.spec.lease.map_or(Time::NEVER, |lease| now.after(lease));
        true
    }

    pub(super) fn mint(&mut self, id: AttemptId) -> Option<u64> {
        let token = self.next_token();
        self.state.holder(id)?.token = token;
        Some(token)
    }

    /// Asks for an upgrade. `None`: there is no such holder.
    pub(super) fn upgrade(&mut self, id: AttemptId) -> Option<oneshot::Receiver<()>> {
        self.state.holder(id)?;
        let (upgraded, receiver) = oneshot::channel();
        self.state.line().upgrading = Some((id, upgraded));
        Some(receiver)
    }

    pub(super) fn try_upgrade(&mut self, id: AttemptId) -> Option<bool> {
        self.state.holder(id)?;
        let alone = self.state.holders.len() == 1;
        if alone {
            self.become_writer(id);
        }
        Some(alone)
    }

    pub(super) fn withdraw_upgrade(&mut self, id: AttemptId) {
        if self.state.upgrading() == Some(id) {
            self.state.line().upgrading = None;
        }
    }

    /// When the next lease ends.
    pub(super) fn next_expiry(&self) -> Time {
        self.state.holders.iter().map(|holder| holder.expires).min().unwrap_or(Time::NEVER)
    }

    pub(super) fn inspect(&self, name: &str, now: Time) -> Inspection {
        Inspection {
            name: Some(name.to_owned()),
            physical: name.to_owned(),
            holders: self.state.holders.iter().map(|holder| holder.describe(now)).collect(),
            waiters: Some(self.state.waiters()),
            token: self.state.holders.iter().map(|holder| holder.token).max(),
        }
    }

    /// Takes out all holders. Returns them, and whom to tell.
    pub(super) fn break_all(&mut self, now: Time) -> (Vec<Holder>, Vec<(Events, AttemptId)>) {
        let broken = std::mem::take(&mut self.state.holders);
        if let Some(line) = &mut self.state.line {
            line.upgrading = None;
        }
        let holders = broken.iter().map(|holder| holder.describe(now)).collect();
        (holders, broken.into_iter().map(|holder| (holder.events, holder.id)).collect())
    }
}

impl Holding {
    fn describe(&self, now: Time) -> Holder {
        Holder {
            owner: format!("pid {} ({:?})", std::process::id(), self.id),
            primitive: Some(self.primitive.as_str()),
            since: Some(self.since),
            remaining: (self.expires != Time::NEVER).then(|| self.expires.since(now)),
            token: Some(self.token),
        }
    }
}
