//! Acquires that are dropped at every point where they can be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{exclusive, only, plain};
use crate::case::{Case, Exclusive, Forms};
use crate::context::{Ctx, SOON};
use crate::surface::{Client, Kind, Wait, settle};

pub(super) const CASES: &[Case] = &[
    only(Forms::Async, exclusive("cancel", "storm", &[], storm)),
    only(Forms::Async, plain("cancel", "storm_of_readers", &["rw_lock"], storm_of_readers)),
    only(Forms::Async, plain("cancel", "storm_of_upgrades", &["upgradeable"], storm_of_upgrades)),
    only(Forms::Async, plain("cancel", "storm_of_releases", &["mutex"], storm_of_releases)),
    plain("cancel", "storm_of_waiters", &["mutex"], storm_of_waiters),
];

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn acquire<'a>(client: &Client, kind: &Kind, name: &str, wait: Wait) -> Boxed<'a> {
    let lock = client.lock(kind.clone(), name);
    let locks = client.locks.clone();
    let name = name.to_owned();
    let kind = lock.kind().clone();
    // The guard drops inside when it comes.
    Box::pin(async move {
        let limit = match wait {
            Wait::Try => Duration::ZERO,
            Wait::For(limit) | Wait::Timeout(limit) => limit,
            Wait::Forever => Duration::MAX,
        };
        match kind {
            Kind::Mutex => drop(locks.mutex(name).try_acquire_for(limit).await.expect("acquire")),
            Kind::Reader => drop(locks.rw_lock(name).try_read_for(limit).await.expect("acquire")),
            Kind::Writer => drop(locks.rw_lock(name).try_write_for(limit).await.expect("acquire")),
            Kind::Upgradeable => drop(locks.rw_lock(name).try_upgradeable_read_for(limit).await.expect("acquire")),
            Kind::Permit(permits) => {
                drop(locks.semaphore(name, permits).try_acquire_for(limit).await.expect("acquire"))
            }
            Kind::All(others) => {
                let names = others.iter().chain([&name]);
                drop(locks.try_acquire_all_for(names, limit).await.expect("acquire"));
            }
        }
    })
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls at most `polls` times, each time that it is woken, and drops the future. Returns whether it completed.
fn poll_and_drop(mut future: Boxed<'_>, polls: usize) -> bool {
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    for polled in 1..=polls {
        if let Poll::Ready(()) = future.as_mut().poll(&mut context) {
            return true;
        }
        if polled < polls {
            // Contended acquires are not woken until somebody releases: that is for the caller to arrange.
            std::thread::park_timeout(settle() / 4);
        }
    }
    false
}

/// The most polls that a case tries: an acquire that is not done by then waits for a holder.
const MOST: usize = 12;

fn storm_of(ctx: &Ctx, kind: &Kind, name: &str, holder: &dyn Fn(&Client) -> crate::surface::Hold) {
    let (one, other) = (ctx.client(), ctx.client());
    let _inside = ctx.handle().enter();
    for wait in [Wait::Forever, Wait::Try, Wait::For(SOON)] {
        // Uncontended: more and more polls until it completes.
        let completed = (1..=MOST).any(|polls| poll_and_drop(acquire(&one, kind, name, wait), polls));
        assert!(completed || matches!(wait, Wait::Try), "an acquire of a free lock is done after {MOST} polls");
        // Contended, by the same client and by another one; the holder leaves at different points.
        for holding in [&one, &other] {
            for polls in 1..=MOST / 2 {
                let hold = holder(holding);
                let leaves_first = polls % 2 == 0;
                let mut future = acquire(&one, kind, name, wait);
                let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
                let begun = future.as_mut().poll(&mut Context::from_waker(&waker));
                if leaves_first {
                    // The grant may be anywhere on its way when the future is dropped.
                    drop(hold);
                    if begun.is_pending() {
                        poll_and_drop(future, polls / 2);
                    }
                } else {
                    if begun.is_pending() {
                        poll_and_drop(future, polls);
                    }
                    drop(hold);
                }
            }
        }
    }
    drop(holder(&other));
    drop(holder(&one));
}

fn storm(ctx: &Ctx, x: Exclusive) {
    let name = x.name(ctx);
    storm_of(ctx, &x.kind(&name), &name, &|client| x.lock(client, &name).take());
}

fn storm_of_readers(ctx: &Ctx) {
    let name = ctx.name_of(Kind::Writer);
    storm_of(ctx, &Kind::Reader, &name, &|client| client.writer(&name).take());
    storm_of(ctx, &Kind::Writer, &name, &|client| client.reader(&name).take());
}

fn storm_of_upgrades(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let _inside = ctx.handle().enter();
    for polls in 1..=MOST {
        let reader = other.reader(&name).take();
        let locks = one.locks.clone();
        let mut upgradeable = ctx.handle().block_on(locks.rw_lock(&name).upgradeable_read()).unwrap();
        let upgrade: Boxed<'_> = Box::pin(async { upgradeable.upgrade().await.expect("upgrade") });
        let done = poll_and_drop(upgrade, polls);
        assert!(!done, "a reader is there");
        drop(reader);
        drop(upgradeable);
        other.writer(&name).take().release();
    }
}

fn storm_of_releases(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let _inside = ctx.handle().enter();
    for polls in 0..=4 {
        let guard = ctx.handle().block_on(one.locks.mutex(&name).acquire()).unwrap();
        // A release whose future is dropped, polled or not, releases all the same.
        poll_and_drop(Box::pin(async move { drop(guard.release().await) }), polls);
        other.mutex(&name).take().release();
    }
}

fn storm_of_waiters(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let hold = one.mutex(&name).take();
    let mut waiters: Vec<_> =
        (0..60).map(|i| if i % 3 == 0 { &other } else { &one }.mutex(&name).start(Wait::Forever)).collect();
    std::thread::sleep(settle());
    // Some leave the queue while it moves, at the head, in the middle and at the end.
    let mut hold = Some(hold);
    for round in 0..30 {
        let at = [0, waiters.len() / 2, waiters.len() - 1][round % 3];
        if round == 10 {
            drop(hold.take());
        }
        if let Some(arrival) = waiters.remove(at).cancel() {
            drop(arrival.result);
        }
    }
    for waiter in waiters {
        // Whoever stayed is served in the end, in whatever order; what came while it was not looked at was kept.
        drop(waiter);
    }
    other.mutex(&name).take().release();
}
