//! One lock as the nodes have it: its keys on each, what the scripts are told and what they answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{Attempt, AttemptId};
use pilotman_core::{Primitive, Target, Votes};
use redis::Value;

use super::member::Member;
use super::scripts::{Family, MUTEX, SHARED};
use crate::keys::Keys;
use crate::lock::{Kind, number};
use crate::push::show_quorum_id;

/// One lock, as prepared for the scripts of all nodes.
#[derive(Debug)]
pub(super) struct QuorumLock {
    pub(super) kind: Kind,
    pub(super) keys: Vec<Keys>,
    /// So many nodes must grant it.
    pub(super) needed: usize,
    /// How the nodes stood to it when it was last not to be had.
    refusal: Mutex<Option<Votes>>,
}

/// How a node answered an acquire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// This is not the node that we took it for.
    Elsewhere,
    Ours {
        token: u64,
        aside: bool,
    },
    Others {
        aside: bool,
        /// How long the holder has left, if its hold ends.
        left: Option<Duration>,
        /// The number of our place; 0 if we don't wait.
        place: u64,
        /// The holder doesn't know of our queue.
        plain: bool,
        /// What tells the holder from others; empty where there are several.
        holder: String,
        /// How many wait before us.
        position: u64,
    },
}

/// So many of `nodes` must grant a lock that so many may hold at once: one more holder would need more grants than the nodes
/// give together.
pub(super) fn needed(nodes: usize, primitive: Primitive) -> usize {
    let permits = match primitive {
        Primitive::Permit(permits) => permits.get() as usize,
        _ => 1,
    };
    // With more permits than nodes it is all of them.
    let permits = permits.min(nodes);
    nodes * permits / (permits + 1) + 1
}

impl QuorumLock {
    pub(super) fn new(members: &[std::sync::Arc<Member>], target: &Target) -> Self {
        let keys = members.iter().map(|member| {
            let spec = &member.node.spec;
            Keys::of_quorum(&spec.key_format, spec.is_clustered(), target.name.as_str(), target.primitive)
        });
        Self {
            kind: Kind::of(target.primitive),
            keys: keys.collect(),
            needed: needed(members.len(), target.primitive),
            refusal: Mutex::new(None),
        }
    }

    pub(super) fn family(&self) -> &'static Family {
        match self.kind {
            Kind::Mutex => &MUTEX,
            Kind::Shared { .. } => &SHARED,
        }
    }

    /// The keys on a node, as the scripts want them.
    pub(super) fn keys(&self, at: usize) -> [&str; 6] {
        let Keys { lock, queue, waiters, counter, meta, details, .. } = &self.keys[at];
        [lock, queue, waiters, counter, meta, details]
    }

    /// What a hold is called in the lock.
    pub(super) fn member(&self, id: AttemptId) -> String {
        match self.kind {
            Kind::Mutex => show_quorum_id(id),
            Kind::Shared { mode, .. } => format!("{mode}:{}", show_quorum_id(id)),
        }
    }

    pub(super) fn permits(&self) -> String {
        match self.kind {
            Kind::Mutex => String::new(),
            Kind::Shared { permits, .. } => permits.to_string(),
        }
    }

    /// The entry of an attempt in the queue of a node.
    pub(super) fn entry(&self, at: usize, id: AttemptId, process: &str) -> String {
        let (member, channels) = (self.member(id), &self.keys[at].channels);
        format!("{member}|{channels}{process}|{process}|{}", self.permits())
    }

    pub(super) fn set_refusal(&self, votes: Option<Votes>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = votes;
    }

    pub(super) fn refusal(&self) -> Option<Votes> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long the lease of an attempt is.
pub(super) fn lease(attempt: &Attempt) -> Duration {
    attempt.spec.lease.unwrap_or(crate::RedisBackend::DEFAULT_LEASE)
}

pub(super) fn parse_reply(value: &Value) -> Option<Reply> {
    let Value::Array(parts) = value else { return None };
    match &parts[..] {
        [Value::Int(-1)] => Some(Reply::Elsewhere),
        [Value::Int(1), _, _, aside, token] => {
            Some(Reply::Ours { token: number(token)?, aside: *aside != Value::Int(0) })
        }
        [Value::Int(0), _, _, aside, Value::Int(left), place, plain, holder, position] => Some(Reply::Others {
            aside: *aside != Value::Int(0),
            // Without an end: negative.
            left: u64::try_from(*left).ok().map(Duration::from_millis),
            place: number(place)?,
            plain: *plain == Value::Int(1),
            holder: match holder {
                Value::BulkString(text) => String::from_utf8(text.clone()).ok()?,
                Value::SimpleString(text) => text.clone(),
                _ => return None,
            },
            // Nil if the place went to somebody who was before us, which the next question finds out.
            position: number(position).unwrap_or(0),
        }),
        _ => None,
    }
}

/// What the clock of a node shows, in ms since the epoch.
pub(super) fn node_millis(seconds: &Value, micros: &Value) -> u64 {
    let (seconds, micros) = (number(seconds).unwrap_or(0), number(micros).unwrap_or(0));
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

/// The server's time in an answer to an acquire.
pub(super) fn time_in(value: &Value) -> Option<(&Value, &Value)> {
    match value {
        Value::Array(parts) => Some((parts.get(1)?, parts.get(2)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn majorities_meet() {
        for (nodes, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            assert_eq!(needed(nodes, Primitive::Mutex), quorum, "{nodes}");
            assert_eq!(needed(nodes, Primitive::Read), quorum, "{nodes}");
        }
        let permits = |permits: u32| Primitive::Permit(NonZeroU32::new(permits).unwrap());
        for (nodes, count, quorum) in [(3, 1, 2), (3, 2, 3), (5, 2, 4), (7, 2, 5), (5, 3, 4), (3, 100, 3), (1, 9, 1)] {
            assert_eq!(needed(nodes, permits(count)), quorum, "{nodes} {count}");
        }
    }

    proptest! {
        /// One holder more than there are permits would need more grants than the nodes give.
        #[test]
        fn permits_are_never_exceeded(nodes in 1usize..65, count in 1u32..1000) {
            let quorum = needed(nodes, Primitive::Permit(NonZeroU32::new(count).unwrap()));
            prop_assert!(quorum <= nodes);
            prop_assert!((count as usize + 1) * quorum > nodes * count as usize);
        }

        #[test]
        fn no_reply_does_harm(numbers in prop::collection::vec(any::<i64>(), 0..10), text in any::<Vec<u8>>()) {
            let mut parts: Vec<_> = numbers.into_iter().map(Value::Int).collect();
            parts.push(Value::BulkString(text));
            parse_reply(&Value::Array(parts.clone()));
            time_in(&Value::Array(parts));
        }
    }

    #[test]
    fn replies_are_read() {
        let now = || [bulk("1763772000"), bulk("123456")];
        let reply = |parts: Vec<Value>| parse_reply(&Value::Array(parts));
        let [seconds, micros] = now();
        let ours = vec![Value::Int(1), seconds, micros, Value::Int(1), bulk("17")];
        assert_eq!(reply(ours), Some(Reply::Ours { token: 17, aside: true }));
        let [seconds, micros] = now();
        let rest = [Value::Int(0), Value::Int(-1), bulk("4"), Value::Int(1), bulk("abc"), Value::Int(2)];
        let others = [Value::Int(0), seconds, micros].into_iter().chain(rest).collect();
        let expected =
            Reply::Others { aside: false, left: None, place: 4, plain: true, holder: "abc".to_owned(), position: 2 };
        assert_eq!(reply(others), Some(expected));
        assert_eq!(reply(vec![Value::Int(-1)]), Some(Reply::Elsewhere));
        assert_eq!(reply(vec![]), None);
    }
}
