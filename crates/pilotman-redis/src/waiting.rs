//! A place in the queue, until the lock is ours.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pilotman_core::backend::{Attempt, Grant};
use pilotman_core::clock::{Sleep, Time};
use pilotman_core::{Error, Result};

use crate::lock::{Place, RedisLock, Reply, ends};
use crate::node::{Live, Node};

/// One question may take this long, or a sixth of the lease if that is less.
pub(crate) const OPERATION: Duration = Duration::from_secs(2);
/// How long after the holder's end the first waiter asks; each one behind it that much later, so that they don't ask at
/// once.
pub(crate) const AFTER_END: Duration = Duration::from_millis(2);
pub(crate) const APART: Duration = Duration::from_millis(20);
/// A waiter asks this often at least, in case that word of a grant was lost.
pub(crate) const REFRESH: Duration = Duration::from_secs(1);
/// The pauses between questions while a holder has the lock who won't tell us.
pub(crate) const POLL_FIRST: Duration = Duration::from_millis(10);
pub(crate) const POLL_LONGEST: Duration = Duration::from_millis(250);
/// The pause after a question that failed; it doubles.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(25);
pub(crate) const RETRY_LONGEST: Duration = Duration::from_millis(500);
/// Where programs were seen that don't stand in our queue, a lock that was left free is left to them for this long.
pub(crate) const LEAVE_FREE: Duration = Duration::from_millis(15);

/// How one wait for word ended.
enum Woken {
    Granted(Grant),
    /// It is time to ask.
    Ask,
}

/// See the [module](self).
pub(crate) async fn wait(node: &Arc<Node>, lock: &RedisLock, attempt: &Attempt) -> Result<Grant> {
    let Some(place) = lock.place(attempt, &node.process) else {
        return Err(Error::unsupported("an attempt that doesn't wait was put in the queue"));
    };
    let clock = node.environment()?.clock.clone();
    let registered = node.pushes.register(attempt.id);
    let longest_poll = attempt.spec.options.retry.unwrap_or(POLL_LONGEST).max(Duration::from_millis(1));
    let mut poll = POLL_FIRST.min(longest_poll);
    let mut failing: Option<(Time, Duration)> = None;
    let mut plain_seen = false;
    // Something may be left at the server: a place in the queue, or more.
    let mut left_behind = false;
    loop {
        let sent = clock.now();
        match ask(node, lock, attempt, &place).await {
            Ok((Reply::Ours { token }, live)) => {
                node.confirm(&live).await?;
                return Ok(Grant { token: Some(token), valid_from: Some(sent), ..Grant::default() });
            }
            Ok((Reply::Others { left, place: before, plain, ticket }, live)) => {
                failing = None;
                left_behind = true;
                plain_seen |= plain;
                let until = if plain {
                    poll = next_poll(node, poll, longest_poll);
                    sent.after(left.map_or(poll, |left| poll.min(left + AFTER_END)))
                } else {
                    poll = POLL_FIRST.min(longest_poll);
                    let apart = APART * u32::try_from(before).unwrap_or(u32::MAX).min(50);
                    let refresh = sent.after((place.first / 3).min(REFRESH));
                    left.map_or(refresh, |left| refresh.min(clock.now().after(left + AFTER_END + apart)))
                };
                let answered = Answered { sent, ticket, plain_seen };
                match listen(node, &registered, &place, answered, until).await {
                    Woken::Granted(grant) => {
                        node.confirm(&live).await?;
                        return Ok(grant);
                    }
                    Woken::Ask => {}
                }
            }
            // A primary that is being replaced is not the end of a wait, but one that stays away is.
            Err(error) if error.is_retryable() => {
                left_behind |= !error.has_no_effect();
                let (since, pause) = failing.unwrap_or((clock.now(), RETRY_FIRST));
                if clock.now().since(since) >= node.spec.connect_timeout {
                    return Err(error.no_effect(!left_behind));
                }
                tracing::debug!(%error, lock.name = attempt.spec.target.name.as_str(), "asking again");
                failing = Some((since, (pause * 2).min(RETRY_LONGEST)));
                Sleep::new(clock.clone(), pause).await;
            }
            Err(error) if left_behind => return Err(error.no_effect(false)),
            Err(error) => return Err(error),
        }
    }
}

/// The last answer that said "not yours".
#[derive(Clone, Copy)]
struct Answered {
    /// When its question was sent.
    sent: Time,
    ticket: u64,
    plain_seen: bool,
}

/// Asks for the lock or the place in the queue, within the time that one question has.
async fn ask(node: &Arc<Node>, lock: &RedisLock, attempt: &Attempt, place: &Place) -> Result<(Reply, Arc<Live>)> {
    // Connecting has a limit of its own.
    node.listen(lock.keys.slot, &lock.keys.channels).await?;
    let limit = attempt.spec.lease.map_or(OPERATION, |lease| OPERATION.min(lease / 6));
    let limit = node.spec.response_timeout.map_or(limit, |set| set.min(limit));
    within(node, limit, lock.acquire(node, attempt, Some(place))).await
}

/// Bounds something that a person asks for, connecting included.
pub(crate) async fn asked<T>(node: &Node, work: impl Future<Output = Result<T>>) -> Result<T> {
    within(node, node.spec.connect_timeout + OPERATION, work).await
}

/// Bounds one exchange with the server.
pub(crate) async fn within<T>(node: &Node, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut timer = pin!(Sleep::new(node.environment()?.clock.clone(), limit));
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(Error::unavailable(format!("the Redis gave no answer within {limit:?}")).no_effect(false))),
    })
    .await
}

/// Waits for word, until `until` at most.
async fn listen(
    node: &Node,
    registered: &crate::push::Registered<'_>,
    place: &Place,
    answered: Answered,
    mut until: Time,
) -> Woken {
    let Ok(environment) = node.environment() else { return Woken::Ask };
    let clock = &environment.clock;
    loop {
        let mail = {
            let mut timer = pin!(Sleep::until(clock.clone(), until));
            let mut mail = pin!(registered.mail());
            std::future::poll_fn(|cx| match mail.as_mut().poll(cx) {
                Poll::Ready(mail) => Poll::Ready(Some(mail)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            })
            .await
        };
        let Some(mail) = mail else { return Woken::Ask };
        // Perhaps from a server that no longer counts; a question settles it.
        if mail.ask {
            return Woken::Ask;
        }
        // A word about an earlier place of ours is of a hold that may have ended: only the place that the last answer
        // spoke of can have been granted after it.
        let granted = mail.granted.iter().find(|(ticket, _)| *ticket == answered.ticket);
        if let Some(&(_, token)) = granted {
            // It came late otherwise: a question settles it.
            if clock.now() < ends(answered.sent, place.first) {
                return Woken::Granted(Grant {
                    token: Some(token),
                    valid_from: Some(answered.sent),
                    lease: Some(place.first),
                    ..Grant::default()
                });
            }
            return Woken::Ask;
        }
        if mail.free {
            if !answered.plain_seen {
                return Woken::Ask;
            }
            let pause = LEAVE_FREE + Duration::from_nanos(node.random() % LEAVE_FREE.as_nanos() as u64);
            until = until.min(clock.now().after(pause));
        }
    }
}

/// Decorrelated jitter.
fn next_poll(node: &Node, last: Duration, longest: Duration) -> Duration {
    let first = POLL_FIRST.min(longest);
    let span = (last * 3).min(longest).saturating_sub(first).as_nanos().max(1) as u64;
    first + Duration::from_nanos(node.random() % span)
}
