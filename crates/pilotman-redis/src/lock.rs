//! What the scripts are told and what they answer, for a mutex and for the others.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::{Attempt, AttemptId};
use pilotman_core::clock::Time;
use pilotman_core::{Primitive, Result, Target};
use redis::Value;

use crate::failure::nonsense;
use crate::keys::{KeyFormat, Keys};
use crate::node::{Answer, Live, Node};
use crate::push::show_id;
use crate::scripts::{self, Script};

/// A lock that is handed to a waiter is the waiter's for a third of the lease at first, since it may hang; but for this
/// long at least, so that it has the time to renew.
const FIRST_LEASE: Duration = Duration::from_secs(3);

/// One lock, as prepared for its scripts.
#[derive(Debug)]
pub(crate) struct RedisLock {
    pub(crate) keys: Keys,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string, as other libraries have it.
    Mutex,
    /// Holders in a sorted set.
    Shared { mode: char, permits: u32 },
}

impl Kind {
    pub(crate) fn of(primitive: Primitive) -> Self {
        match primitive {
            Primitive::Mutex => Self::Mutex,
            Primitive::Read => Self::Shared { mode: 'r', permits: 0 },
            Primitive::Write | Primitive::UpgradeableRead => Self::Shared { mode: 'w', permits: 0 },
            Primitive::Permit(permits) => Self::Shared { mode: 'p', permits: permits.get() },
        }
    }
}

/// How long a grant lasts that was not asked for at that moment.
pub(crate) fn first_lease(lease: Duration) -> Duration {
    (lease / 3).max(FIRST_LEASE).min(lease)
}

/// How an attempt was answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ours {
        token: u64,
    },
    Others {
        /// How long the holder has left, if its hold ends.
        left: Option<Duration>,
        /// How many wait before us.
        place: u64,
        /// The holder doesn't know of our queue.
        plain: bool,
        /// Our place's number; 0 if we don't wait.
        ticket: u64,
    },
}

/// An attempt's place in the queue, the same whenever it is asked for.
pub(crate) struct Place {
    pub(crate) entry: String,
    pub(crate) first: Duration,
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl RedisLock {
    pub(crate) fn new(format: &KeyFormat, clustered: bool, target: &Target) -> Self {
        Self {
            keys: Keys::new(format, clustered, target.name.as_str(), target.primitive),
            kind: Kind::of(target.primitive),
        }
    }

    /// Runs a script on the keys of this lock.
    pub(crate) async fn run(&self, node: &Arc<Node>, script: &Script, arguments: &[&str]) -> Result<Answer> {
        let Keys { lock, queue, waiters, counter, details, slot, .. } = &self.keys;
        let all: [&str; 5] = [lock, queue, waiters, counter, details];
        let keys = match self.kind {
            Kind::Mutex => &all[..4],
            Kind::Shared { .. } => &all[..],
        };
        node.run(script, *slot, keys, arguments).await
    }

    /// What a hold is called in the lock.
    pub(crate) fn member(&self, id: AttemptId) -> String {
        match self.kind {
            Kind::Mutex => show_id(id),
            Kind::Shared { mode, .. } => format!("{mode}:{}", show_id(id)),
        }
    }

    /// The place in the queue of an attempt that waits.
    pub(crate) fn place(&self, attempt: &Attempt, process: &str) -> Option<Place> {
        if !attempt.waits {
            return None;
        }
        let lease = attempt.spec.lease.unwrap_or(FIRST_LEASE);
        let first = first_lease(lease);
        let (member, channels) = (self.member(attempt.id), &self.keys.channels);
        let mut entry = format!("{member}|{}|{channels}{process}|{process}", millis(first));
        if let Kind::Shared { permits, .. } = self.kind {
            entry.push_str(&format!("|{permits}"));
        }
        Some(Place { entry, first })
    }

    fn script(&self, mutex: &'static Script, shared: &'static Script) -> &'static Script {
        match self.kind {
            Kind::Mutex => mutex,
            Kind::Shared { .. } => shared,
        }
    }

    /// Asks for the lock, or for the place in the queue.
    pub(crate) async fn acquire(
        &self,
        node: &Arc<Node>,
        attempt: &Attempt,
        place: Option<&Place>,
    ) -> Result<(Reply, Arc<Live>)> {
        let member = self.member(attempt.id);
        let lease = millis(attempt.spec.lease.unwrap_or(FIRST_LEASE)).to_string();
        let (entry, first) = match place {
            Some(place) => (place.entry.as_str(), millis(place.first).to_string()),
            None => ("", String::new()),
        };
        let permits = match self.kind {
            Kind::Mutex => Cow::Borrowed(""),
            Kind::Shared { permits, .. } => Cow::Owned(permits.to_string()),
        };
        let script = self.script(&scripts::MUTEX_ACQUIRE, &scripts::SHARED_ACQUIRE);
        let arguments = [&member, &node.process, &lease, node.publish(), entry, &first, &permits];
        // Each argument costs the server a little.
        let arguments = match self.kind {
            Kind::Mutex if place.is_none() => &arguments[..4],
            Kind::Mutex => &arguments[..6],
            Kind::Shared { .. } => &arguments[..],
        };
        let answer = self.run(node, script, arguments).await?;
        let reply = parse_reply(&answer.value).ok_or_else(|| nonsense("an acquire", &answer.value))?;
        Ok((reply, answer.live))
    }

    /// Gives back the hold of an attempt, and leaves the queue. Whether there was a hold.
    pub(crate) async fn release(&self, node: &Arc<Node>, id: AttemptId, place: Option<&Place>) -> Result<bool> {
        let member = self.member(id);
        let entry = place.map_or("", |place| place.entry.as_str());
        let script = self.script(&scripts::MUTEX_RELEASE, &scripts::SHARED_RELEASE);
        let arguments = [&member, node.publish(), entry];
        let arguments = match place {
            None => &arguments[..2],
            Some(_) => &arguments[..],
        };
        let answer = self.run(node, script, arguments).await?;
        match answer.value {
            Value::Int(1) => Ok(true),
            // If it was asked before, that may be what took it away.
            Value::Int(0 | 2) => Ok(answer.repeated),
            value => Err(nonsense("a release", &value)),
        }
    }

    /// A new token for a hold; `None` if it is gone.
    pub(crate) async fn mint(&self, node: &Arc<Node>, id: AttemptId) -> Result<Option<(u64, Arc<Live>)>> {
        let member = self.member(id);
        let script = self.script(&scripts::MUTEX_MINT, &scripts::SHARED_MINT);
        let answer = self.run(node, script, &[&member]).await?;
        match &answer.value {
            Value::Int(0) => Ok(None),
            value => number(value)
                .map(|token| Some((token, answer.live.clone())))
                .ok_or_else(|| nonsense("a request for a token", value)),
        }
    }
}

/// A number, as the server writes it.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        Value::SimpleString(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn parse_reply(value: &Value) -> Option<Reply> {
    let parts = match value {
        Value::Array(parts) => parts,
        Value::BulkString(_) => return Some(Reply::Ours { token: number(value)? }),
        _ => return None,
    };
    let [left, place, plain, ticket] = &parts[..] else { return None };
    // Without an end: -1. Just ended: -2.
    let left = match left {
        Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
        _ => return None,
    };
    Some(Reply::Others {
        left,
        // Nil if the place went to somebody who was before us, which the next question finds out.
        place: number(place).unwrap_or(0),
        plain: *plain == Value::Int(1),
        ticket: number(ticket).unwrap_or(0),
    })
}

/// When a hold ends that was handed to us, by our clock and with the drift that the engine allows for.
pub(crate) fn ends(answered: Time, first: Duration) -> Time {
    answered.after(first).before(first / 100 + Duration::from_millis(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_are_read() {
        assert_eq!(parse_reply(&bulk("1763772000123456")), Some(Reply::Ours { token: 1_763_772_000_123_456 }));
        let others = Value::Array(vec![Value::Int(250), Value::Int(3), Value::Int(1), bulk("17")]);
        let left = Some(Duration::from_millis(250));
        assert_eq!(parse_reply(&others), Some(Reply::Others { left, place: 3, plain: true, ticket: 17 }));
        let endless = Value::Array(vec![Value::Int(-1), Value::Int(0), Value::Int(0), bulk("")]);
        assert_eq!(parse_reply(&endless), Some(Reply::Others { left: None, place: 0, plain: false, ticket: 0 }));
        for bad in [Value::Nil, Value::Okay, bulk("x"), Value::Array(vec![]), Value::Int(1)] {
            assert_eq!(parse_reply(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_does_harm(numbers in prop::collection::vec(any::<i64>(), 0..6), text in any::<Vec<u8>>()) {
            let mut parts: Vec<_> = numbers.into_iter().map(Value::Int).collect();
            parts.push(Value::BulkString(text.clone()));
            parse_reply(&Value::Array(parts));
            parse_reply(&Value::BulkString(text));
        }
    }
}
