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
        self.holders.is_empty() && self.waiting.is_empty() && self.upgrading.is_none()
    }

    fn holder(&mut self, id: AttemptId) -> Option<&mut Holding> {
        self.holders.iter_mut().find(|holder| holder.id == id)
    }

    /// Whether a new holder of this kind can stand beside those that are there.
    fn admits(&self, primitive: Primitive) -> bool {
        let all = |allowed: fn(Primitive) -> bool| self.holders.iter().all(|holder| allowed(holder.primitive));
        match primitive {
            Primitive::Mutex | Primitive::Write => self.holders.is_empty(),
            Primitive::Read => all(|other| other != Primitive::Write) && self.upgrading.is_none(),
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
        Grant { token: Some(token), valid_from: Some(self.context.now), state: None }
    }

    fn next_token(&self) -> u64 {
        self.context.tokens.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes out ended leases, and lets in whoever can come in.
    pub(super) fn settle(&mut self) {
        let now = self.context.now;
        self.state.holders.retain(|holder| holder.expires > now);
        if let Some((id, _)) = &self.state.upgrading {
            let id = *id;
            let alone = self.state.holders.iter().all(|holder| holder.id == id);
            if !self.state.holders.iter().any(|holder| holder.id == id) {
                self.state.upgrading = None;
            } else if alone {
                self.become_writer(id);
                if let Some((_, upgraded)) = self.state.upgrading.take() {
                    // Who no longer listens withdraws, and holds the write until the release.
                    let _ = upgraded.send(());
                }
            }
        }
        while let Some(first) = self.state.waiting.front() {
            if first.granted.is_closed() {
                self.state.waiting.pop_front();
                continue;
            }
            if !self.state.admits(first.attempt.spec.target.primitive) {
                break;
            }
            let Some(Waiting { attempt, events, granted }) = self.state.waiting.pop_front() else { break };
            let grant = self.grant(&attempt, events);
            if granted.send(grant).is_err() {
                self.state.holders.retain(|holder| holder.id != attempt.id);
            }
        }
    }

    fn become_writer(&mut self, id: AttemptId) {
        if let Some(holder) = self.state.holder(id) {
            holder.primitive = Primitive::Write;
        }
    }

    /// One attempt, which overtakes nobody.
    pub(super) fn try_acquire(&mut self, attempt: &Attempt, events: &Events) -> Outcome {
        if let Some(holder) = self.state.holder(attempt.id) {
            let grant = Grant { token: Some(holder.token), valid_from: None, state: None };
            return Outcome::Granted(grant);
        }
        if self.state.waiting.is_empty() && self.state.admits(attempt.spec.target.primitive) {
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
        self.state.waiting.push_back(Waiting { attempt: attempt.clone(), events: events.clone(), granted });
        Err(receiver)
    }

    pub(super) fn abandon(&mut self, id: AttemptId) {
        self.state.waiting.retain(|waiting| waiting.attempt.id != id);
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
        self.state.upgrading = Some((id, upgraded));
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
        if self.state.upgrading.as_ref().is_some_and(|(upgrading, _)| *upgrading == id) {
            self.state.upgrading = None;
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
            waiters: Some(self.state.waiting.len()),
            token: self.state.holders.iter().map(|holder| holder.token).max(),
        }
    }

    /// Takes out all holders. Returns them, and whom to tell.
    pub(super) fn break_all(&mut self, now: Time) -> (Vec<Holder>, Vec<(Events, AttemptId)>) {
        let broken = std::mem::take(&mut self.state.holders);
        self.state.upgrading = None;
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
