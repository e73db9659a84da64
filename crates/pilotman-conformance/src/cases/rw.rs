//! Reader-writer locks.

use std::time::Duration;

use super::plain;
use crate::case::Case;
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Wait};

pub(super) const CASES: &[Case] = &[
    plain("rw", "multiple_readers_single_writer", &["rw_lock"], multiple_readers_single_writer),
    plain("rw", "a_blocked_writer_waits_for_all_readers", &["rw_lock"], a_blocked_writer_waits_for_all_readers),
    plain("rw", "blocked_readers_come_in_together", &["rw_lock"], blocked_readers_come_in_together),
    plain("rw", "a_waiting_writer_goes_first", &["rw_lock", "writer_preference"], a_waiting_writer_goes_first),
    plain("rw", "a_writer_that_gave_up_keeps_nobody_out", &["rw_lock"], a_writer_that_gave_up_keeps_nobody_out),
    plain("rw", "many_readers", &["rw_lock"], many_readers),
    plain("rw", "four_ways_to_read", &["rw_lock"], four_ways_to_read),
];

fn multiple_readers_single_writer(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    let first = one.reader(&name).take();
    let second = one.reader(&name).try_now().expect("two readers of one client");
    let third = other.reader(&name).try_now().expect("readers of two clients");
    one.writer(&name).must_be_taken();
    other.writer(&name).must_be_taken();
    first.release();
    second.release();
    one.writer(&name).must_be_taken();
    third.release();
    let writer = one.writer(&name).take();
    for client in [&one, &other] {
        client.reader(&name).must_be_taken();
        client.writer(&name).must_be_taken();
    }
    writer.release();
    other.reader(&name).take().release();
}

fn a_blocked_writer_waits_for_all_readers(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    for client in [&one, &other] {
        let first = one.reader(&name).take();
        let second = other.reader(&name).take();
        let writer = client.writer(&name).start_waiting();
        assert!(writer.is_waiting());
        first.release();
        assert!(writer.within(Duration::from_millis(100)).is_none(), "a reader is left");
        second.release();
        writer.hold_within(SOON).0.release();
    }
}

fn blocked_readers_come_in_together(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    let writer = one.writer(&name).take();
    let waiting =
        [one.reader(&name).start_waiting(), one.reader(&name).start_waiting(), other.reader(&name).start_waiting()];
    assert!(waiting.iter().all(|waiter| waiter.is_waiting()));
    writer.release();
    // All of them at once, none of which is released in between.
    let readers = waiting.map(|waiter| waiter.hold_within(SOON).0);
    readers.into_iter().for_each(|reader| reader.release());
}

fn a_waiting_writer_goes_first(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    for client in [&one, &other] {
        let reader = one.reader(&name).take();
        let writer = client.writer(&name).start_waiting();
        for reading in [&one, &other] {
            // Once the writer stands in the queue.
            reading.reader(&name).becomes_taken();
            assert!(reading.reader(&name).get(Wait::For(Duration::from_millis(50))).unwrap().is_none());
        }
        assert!(writer.is_waiting());
        reader.release();
        let (writer, _) = writer.hold_within(Duration::from_secs(5));
        writer.release();
        other.reader(&name).take().release();
    }
}

fn a_writer_that_gave_up_keeps_nobody_out(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    let reader = one.reader(&name).take();
    for client in [&one, &other] {
        assert!(client.writer(&name).get(Wait::For(Duration::from_millis(50))).unwrap().is_none());
        client.writer(&name).start_waiting().cancel();
        // What a writer leaves behind goes in the background.
        one.reader(&name).take().release();
        other.reader(&name).take().release();
    }
    reader.release();
}

fn many_readers(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    let readers: Vec<_> = (0..100).map(|i| if i % 2 == 0 { &one } else { &other }.reader(&name).take()).collect();
    one.writer(&name).must_be_taken();
    let writer = other.writer(&name).start_waiting();
    readers.into_iter().for_each(drop);
    writer.hold_within(SOON).0.release();
}

fn four_ways_to_read(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.name_of(Kind::Writer));
    for wait in [Wait::Try, Wait::For(SOON), Wait::Timeout(SOON), Wait::Forever] {
        let reader = client.reader(&name).get(wait).unwrap().unwrap_or_else(|| panic!("{wait:?} on a free lock"));
        client.writer(&name).must_be_taken();
        reader.release();
    }
}
