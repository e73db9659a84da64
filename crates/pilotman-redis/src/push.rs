//! What servers tell without being asked: that a waiter has the lock, that a lock is free, that a hold was broken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pilotman_core::backend::AttemptId;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

/// Who waits for word from the servers, by attempt.
#[derive(Default)]
pub(crate) struct Pushes {
    mailboxes: Mutex<HashMap<AttemptId, Arc<Mailbox>>>,
    on_lost: OnceLock<OnLost>,
}

/// Is told of a hold that was broken.
type OnLost = Box<dyn Fn(AttemptId) + Send + Sync>;

/// What came for one waiter.
#[derive(Default)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

/// What came for one waiter since it last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    /// Tickets that were granted, with their tokens.
    pub(crate) granted: Vec<(u64, u64)>,
    /// The lock was left free.
    pub(crate) free: bool,
    /// The lock is ours on a node whose grants don't count.
    pub(crate) aside: bool,
    /// Word may have been lost: ask.
    pub(crate) ask: bool,
}

/// A waiter's place in the table, which it leaves when this is dropped.
pub(crate) struct Registered<'a> {
    pushes: &'a Pushes,
    id: AttemptId,
    mailbox: Arc<Mailbox>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pushes {
    pub(crate) fn report_to(&self, on_lost: impl Fn(AttemptId) + Send + Sync + 'static) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.on_lost.set(Box::new(on_lost));
    }

    pub(crate) fn register(&self, id: AttemptId) -> Registered<'_> {
        let mailbox = Arc::<Mailbox>::default();
        lock(&self.mailboxes).insert(id, mailbox.clone());
        Registered { pushes: self, id, mailbox }
    }

    fn deliver(&self, id: AttemptId, put: impl FnOnce(&mut Mail)) {
        // Who has left has given back, or will.
        let Some(mailbox) = lock(&self.mailboxes).get(&id).cloned() else { return };
        put(&mut lock(&mailbox.mail));
        mailbox.arrived.notify_one();
    }

    /// Word may have been lost.
    pub(crate) fn all_ask(&self) {
        let all: Vec<_> = lock(&self.mailboxes).values().cloned().collect();
        for mailbox in all {
            lock(&mailbox.mail).ask = true;
            mailbox.arrived.notify_one();
        }
    }

    /// Takes what a connection brings. Anybody who may publish can send anything, so nothing is taken for granted.
    pub(crate) fn take(&self, push: &PushInfo) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {}
            _ => return,
        }
        let Some(Value::BulkString(text)) = push.data.last() else { return };
        let Ok(text) = std::str::from_utf8(text) else { return };
        let mut words = text.split(' ');
        let (Some(what), Some(id)) = (words.next(), words.next().and_then(parse_id)) else { return };
        let mut number = || words.next()?.parse::<u64>().ok();
        match what {
            "granted" => {
                if let (Some(ticket), Some(token)) = (number(), number()) {
                    self.deliver(id, |mail| mail.granted.push((ticket, token)));
                }
            }
            // What it granted doesn't count at the moment.
            "aside" => self.deliver(id, |mail| mail.aside = true),
            "free" => self.deliver(id, |mail| mail.free = true),
            "lost" => {
                if let Some(on_lost) = self.on_lost.get() {
                    on_lost(id);
                }
                // It may be that the grant itself has not been taken yet.
                self.deliver(id, |mail| mail.ask = true);
            }
            _ => {}
        }
    }
}

/// The id of an attempt as the scripts have it.
pub(crate) fn show_id(id: AttemptId) -> String {
    format!("pm:{id}")
}

/// The id of an attempt on a quorum as its scripts have it: those who ask one node only take it for another program's.
pub(crate) fn show_quorum_id(id: AttemptId) -> String {
    format!("pq:{id}")
}

/// The attempt of an id as the scripts have it.
pub(crate) fn parse_id(text: &str) -> Option<AttemptId> {
    let digits = text.strip_prefix("pm:").or_else(|| text.strip_prefix("pq:"))?;
    (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok().map(AttemptId))?
}

impl Registered<'_> {
    /// Waits until something has come, and takes it. Cancel safe: what has come stays until it is taken.
    pub(crate) async fn mail(&self) -> Mail {
        loop {
            let mail = std::mem::take(&mut *lock(&self.mailbox.mail));
            if mail != Mail::default() {
                return mail;
            }
            self.mailbox.arrived.notified().await;
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.pushes.mailboxes).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(text: &[u8]) -> PushInfo {
        let data = vec![Value::BulkString(b"channel".to_vec()), Value::BulkString(text.to_vec())];
        PushInfo { kind: PushKind::Message, data }
    }

    #[tokio::test]
    async fn word_reaches_the_waiter_it_concerns() {
        let pushes = Pushes::default();
        let (one, other) = (pushes.register(AttemptId(1)), pushes.register(AttemptId(2)));
        pushes.take(&message(format!("granted {} 7 8", show_id(AttemptId(1))).as_bytes()));
        pushes.take(&message(format!("free {} 9", show_id(AttemptId(2))).as_bytes()));
        assert_eq!(one.mail().await, Mail { granted: vec![(7, 8)], ..Mail::default() });
        assert_eq!(other.mail().await, Mail { free: true, ..Mail::default() });
        pushes.all_ask();
        assert!(one.mail().await.ask && other.mail().await.ask);
        drop(one);
        assert_eq!(lock(&pushes.mailboxes).len(), 1);
    }

    proptest! {
        #[test]
        fn no_message_does_harm(text in prop_oneof![any::<Vec<u8>>(), "(granted|free|lost) (pm:[0-9a-f]{31,33}|x) [0-9 -]{0,25}".prop_map(String::into_bytes)]) {
            let pushes = Pushes::default();
            let _waiter = pushes.register(AttemptId(1));
            pushes.take(&message(&text));
        }
    }
}
