//! What holders believed, by one monotonic clock, and whether that can have been.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilotman_core::{Guard, Held};

use crate::common::{believes, ms};

/// Of one lock.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Belief>>>);

/// Somebody took the lock for its own from one moment, at the latest, to another one, at least.
#[derive(Debug, Clone)]
struct Belief {
    who: String,
    token: u64,
    from: Instant,
    until: Instant,
}

/// A belief that goes on.
pub(crate) struct Believer {
    history: History,
    at: usize,
    held: Held,
}

impl History {
    /// To be called as soon as an acquire has returned.
    pub(crate) fn acquired(&self, who: &str, guard: &Guard) -> Believer {
        let from = Instant::now();
        let token = guard.token().expect("a quorum has tokens");
        let mut beliefs = self.0.lock().unwrap();
        beliefs.push(Belief { who: who.to_owned(), token, from, until: from });
        Believer { history: self.clone(), at: beliefs.len() - 1, held: guard.held() }
    }

    /// No two at a time, and each with a larger token than those before.
    #[track_caller]
    pub(crate) fn check(&self) {
        if let Some(wrong) = self.violation() {
            panic!("{wrong}");
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        let mut beliefs = self.0.lock().unwrap().clone();
        beliefs.sort_by_key(|belief| belief.from);
        beliefs.windows(2).find_map(|pair| {
            let [one, next] = pair else { return None };
            if one.until > next.from {
                let both = one.until - next.from;
                return Some(format!("{} and {} both held it for {both:?}: {one:?} {next:?}", one.who, next.who));
            }
            (one.token >= next.token).then(|| format!("the token does not increase: {one:?} {next:?}"))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Believer {
    /// Whether it still believes. The moment is taken before the question: it believed then.
    pub(crate) fn believes(&self) -> bool {
        let now = Instant::now();
        let believes = believes(&self.held);
        if believes {
            let mut beliefs = self.history.0.lock().unwrap();
            let until = &mut beliefs[self.at].until;
            *until = now.max(*until);
        }
        believes
    }

    /// Believes for so long, or until it is told that it has lost the lock. Whether it believes at the end.
    pub(crate) async fn for_a(&self, while_: Duration) -> bool {
        let start = Instant::now();
        while self.believes() {
            if start.elapsed() >= while_ {
                return true;
            }
            tokio::time::sleep(ms(1)).await;
        }
        false
    }
}

#[test]
fn a_history_shows_what_is_wrong() {
    let start = Instant::now();
    let belief = |who: &str, token, from, until| Belief {
        who: who.to_owned(),
        token,
        from: start + ms(from),
        until: start + ms(until),
    };
    let wrong = |beliefs: Vec<Belief>| History(Arc::new(Mutex::new(beliefs))).violation();
    assert_eq!(wrong(vec![belief("b", 2, 10, 20), belief("a", 1, 0, 10)]), None);
    assert!(wrong(vec![belief("a", 1, 0, 11), belief("b", 2, 10, 20)]).unwrap().contains("both"));
    assert!(wrong(vec![belief("a", 2, 0, 5), belief("b", 2, 10, 20)]).unwrap().contains("token"));
}
