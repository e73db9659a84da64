//! Reads that can become writes.

use std::time::Duration;

use pilotman_core::{ErrorKind, HoldState, Release};

use super::plain;
use crate::case::Case;
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Wait};

pub(super) const CASES: &[Case] = &[
    plain("upgradeable", "readers_beside_one_upgradeable", &["upgradeable"], readers_beside_one_upgradeable),
    plain("upgradeable", "upgrade_waits_for_readers", &["upgradeable"], upgrade_waits_for_readers),
    plain("upgradeable", "an_upgrade_keeps_new_readers_out", &["upgradeable"], an_upgrade_keeps_new_readers_out),
    plain("upgradeable", "a_second_upgrade_is_refused", &["upgradeable"], a_second_upgrade_is_refused),
    plain(
        "upgradeable",
        "an_upgrade_that_timed_out_leaves_a_read",
        &["upgradeable"],
        an_upgrade_that_timed_out_leaves_a_read,
    ),
    plain("upgradeable", "drop_releases_the_write", &["upgradeable"], drop_releases_the_write),
    plain("upgradeable", "upgrade_while_watched", &["upgradeable"], upgrade_while_watched),
    plain("upgradeable", "loss_after_an_upgrade", &["upgradeable", "loss", "lose"], loss_after_an_upgrade),
];

fn readers_beside_one_upgradeable(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let reader = one.reader(&name).take();
    let upgradeable = one.upgradeable(&name).try_now().expect("beside a reader");
    let late = other.reader(&name).try_now().expect("a reader beside an upgradeable read");
    for client in [&one, &other] {
        client.upgradeable(&name).must_be_taken();
        client.writer(&name).must_be_taken();
    }
    upgradeable.release();
    let again = other.upgradeable(&name).take();
    one.upgradeable(&name).must_be_taken();
    again.release();
    reader.release();
    late.release();
}

fn upgrade_waits_for_readers(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let reader = other.reader(&name).take();
    let mut upgradeable = one.upgradeable(&name).take();
    assert!(!upgradeable.upgrade(Wait::Try), "a reader is there");
    assert!(!upgradeable.upgrade(Wait::For(Duration::from_millis(50))), "a reader is there");
    reader.release();
    assert!(upgradeable.upgrade(Wait::Try), "nobody else is there");
    for client in [&one, &other] {
        client.reader(&name).must_be_taken();
        client.upgradeable(&name).must_be_taken();
        client.writer(&name).must_be_taken();
    }
    upgradeable.release();
    other.writer(&name).take().release();
}

fn an_upgrade_keeps_new_readers_out(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let reader = other.reader(&name).take();
    let mut upgradeable = one.upgradeable(&name).take();
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| {
            assert!(upgradeable.upgrade(Wait::For(SOON)));
            upgradeable
        });
        std::thread::sleep(crate::surface::settle());
        if ctx.capabilities.writer_preference {
            other.reader(&name).must_be_taken();
        }
        assert!(!upgrade.is_finished(), "a reader is there");
        reader.release();
        let upgraded = upgrade.join().unwrap();
        other.reader(&name).must_be_taken();
        upgraded.release();
    });
}

fn a_second_upgrade_is_refused(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.name_of(Kind::Upgradeable));
    let mut upgradeable = client.upgradeable(&name).take();
    assert!(upgradeable.upgrade(Wait::Forever));
    for wait in [Wait::Try, Wait::For(SOON), Wait::Forever] {
        let error = upgradeable.try_upgrade(wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    }
    client.reader(&name).must_be_taken();
    upgradeable.release();
}

fn an_upgrade_that_timed_out_leaves_a_read(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let reader = other.reader(&name).take();
    let mut upgradeable = one.upgradeable(&name).take();
    assert!(!upgradeable.upgrade(Wait::For(Duration::from_millis(50))));
    assert_eq!(upgradeable.state(), HoldState::Held);
    other.reader(&name).take().release();
    other.upgradeable(&name).must_be_taken();
    reader.release();
    assert!(upgradeable.upgrade(Wait::Forever), "it can be tried again");
    upgradeable.release();
}

fn drop_releases_the_write(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Upgradeable));
    let mut upgradeable = one.upgradeable(&name).take();
    assert!(upgradeable.upgrade(Wait::Try));
    let waiter = other.reader(&name).start_waiting();
    assert!(waiter.is_waiting());
    drop(upgradeable);
    waiter.hold_within(SOON).0.release();
}

fn upgrade_while_watched(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.name_of(Kind::Upgradeable));
    let mut upgradeable = client.upgradeable(&name).take();
    assert_eq!(upgradeable.lost_within(Duration::from_millis(50)), None);
    assert!(upgradeable.upgrade(Wait::Try));
    assert_eq!(upgradeable.lost_within(Duration::from_millis(50)), None, "an upgrade is no loss");
    assert_eq!(upgradeable.state(), HoldState::Held);
    upgradeable.release();
}

fn loss_after_an_upgrade(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.name_of(Kind::Upgradeable));
    let lock = client.upgradeable(&name);
    let mut upgradeable = lock.take();
    assert!(upgradeable.upgrade(Wait::Try));
    assert_eq!(upgradeable.lost_within(Duration::from_millis(20)), None);
    if !ctx.lose(&lock, &upgradeable) {
        return;
    }
    upgradeable.lost_within(SOON).expect("the loss is told");
    assert!(matches!(upgradeable.try_release().unwrap(), Release::AlreadyLost(_)));
}
