//! Who comes next, and who is never served: the lock table without a socket.

use pilotman_testkit_mssql::Mode::{self, Exclusive, IntentExclusive, IntentShared, Shared, Update};
use pilotman_testkit_mssql::locks::{Asked, Key, Owner, Table, Ticket, Waiting};

fn key(name: &str) -> Key {
    Key::new("locks", "public", name)
}

fn session(id: i32) -> Owner {
    Owner::session(id)
}

fn wait(table: &mut Table, id: i32, name: &str, mode: Mode) -> Ticket {
    match table.ask(session(id), &key(name), mode, true) {
        Asked::Waits(ticket) => ticket,
        other => panic!("{id} was to wait, not {other:?}"),
    }
}

fn holders(table: &Table) -> Vec<i32> {
    table.rows().iter().filter(|row| row.granted).map(|row| row.owner.session).collect()
}

#[test]
fn who_came_first_is_served_first() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Exclusive, false);
    for id in 2..6 {
        wait(&mut table, id, "x", Exclusive);
    }
    for id in 1..6 {
        assert_eq!(holders(&table), [id]);
        table.release(session(id), &key("x")).unwrap();
        let next = if id < 5 { vec![id + 1] } else { vec![] };
        assert_eq!(table.take_woken(), next);
    }
    assert!(table.rows().is_empty());
}

#[test]
fn readers_behind_a_writer_wait_for_it_and_come_together() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Shared, false);
    wait(&mut table, 2, "x", Exclusive);
    // It would go with the reader that holds, but a writer waits.
    assert!(!table.would_grant(session(3), &key("x"), Shared));
    assert_eq!(table.ask(session(3), &key("x"), Shared, false), Asked::Refused);
    wait(&mut table, 3, "x", Shared);
    wait(&mut table, 4, "x", Shared);
    table.release(session(1), &key("x")).unwrap();
    assert_eq!(holders(&table), [2]);
    table.release(session(2), &key("x")).unwrap();
    assert_eq!(holders(&table), [3, 4]);
}

#[test]
fn who_goes_with_all_that_wait_need_not_wait() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Update, false);
    wait(&mut table, 2, "x", Update);
    // Shared goes with the holder and with the one that waits.
    assert_eq!(table.ask(session(3), &key("x"), Shared, false), Asked::Granted);
}

#[test]
fn a_holder_that_asks_again_does_not_stand_in_line() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Shared, false);
    wait(&mut table, 2, "x", Exclusive);
    assert_eq!(table.ask(session(1), &key("x"), Shared, false), Asked::Granted);
    assert_eq!(table.ask(session(1), &key("x"), Exclusive, false), Asked::Granted);
    assert_eq!(table.mode(session(1), &key("x")), Some(Exclusive));
}

#[test]
fn an_upgrade_waits_for_readers_and_goes_before_new_requests() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Update, false);
    table.ask(session(2), &key("x"), Shared, false);
    wait(&mut table, 3, "x", Exclusive);
    let upgrade = wait(&mut table, 1, "x", Exclusive);
    assert!(table.rows().iter().any(|row| row.converts && !row.granted && row.owner == session(1)));
    // It keeps what it has while it waits.
    assert_eq!(table.mode(session(1), &key("x")), Some(Update));
    table.release(session(2), &key("x")).unwrap();
    assert_eq!(table.look(upgrade), Waiting::Granted);
    assert_eq!(table.mode(session(1), &key("x")), Some(Exclusive));
}

#[test]
fn an_upgrade_that_came_later_is_served_before_a_new_request() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), IntentExclusive, false);
    table.ask(session(2), &key("x"), IntentShared, false);
    let newcomer = wait(&mut table, 3, "x", Shared);
    let upgrade = wait(&mut table, 2, "x", Exclusive);
    table.release(session(1), &key("x")).unwrap();
    assert_eq!((table.look(upgrade), table.look(newcomer)), (Waiting::Granted, Waiting::Still));
}

#[test]
fn who_gives_up_makes_room_for_those_behind() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Shared, false);
    let writer = wait(&mut table, 2, "x", Exclusive);
    let reader = wait(&mut table, 3, "x", Shared);
    assert_eq!(table.end_wait(&key("x"), writer), Waiting::Still);
    assert_eq!(table.look(reader), Waiting::Granted);
    assert_eq!(table.take_woken(), [3]);
    // Who gives up just after it was served holds the lock.
    assert_eq!(table.end_wait(&key("x"), reader), Waiting::Granted);
    assert_eq!(holders(&table), [1, 3]);
}

#[test]
fn whoever_is_gone_holds_nothing_and_waits_for_nothing() {
    let mut table = Table::default();
    table.ask(session(1), &key("x"), Exclusive, false);
    table.ask(session(1), &key("y"), Exclusive, false);
    table.ask(Owner::transaction(1, 7), &key("z"), Exclusive, false);
    wait(&mut table, 2, "x", Exclusive);
    wait(&mut table, 3, "y", Exclusive);
    table.ask(session(9), &key("w"), Exclusive, false);
    wait(&mut table, 1, "w", Exclusive);
    table.forget(|owner| owner.session == 1);
    assert_eq!(holders(&table), [9, 2, 3]);
    assert!(table.rows().iter().all(|row| row.granted));
}

#[test]
fn a_transaction_and_its_session_are_two_owners() {
    let mut table = Table::default();
    let own = Owner::transaction(1, 7);
    table.ask(own, &key("x"), Exclusive, false);
    assert_eq!(table.ask(session(1), &key("x"), Exclusive, false), Asked::Refused);
    table.forget(|owner| owner == own);
    assert_eq!(table.ask(session(1), &key("x"), Exclusive, false), Asked::Granted);
}

#[test]
fn a_cycle_of_two_has_one_victim_and_the_other_goes_on() {
    let mut table = Table::default();
    table.ask(session(1), &key("a"), Exclusive, false);
    table.ask(session(2), &key("b"), Exclusive, false);
    let first = wait(&mut table, 1, "b", Exclusive);
    assert!(table.resolve_deadlocks(|_| 0).is_empty());
    let second = wait(&mut table, 2, "a", Exclusive);
    assert_eq!(table.resolve_deadlocks(|_| 0), [2]);
    assert_eq!(table.look(second), Waiting::Victim);
    assert_eq!(table.look(first), Waiting::Still);
    // The victim keeps what it has: the caller decides.
    assert_eq!(table.mode(session(2), &key("b")), Some(Exclusive));
    table.release(session(2), &key("b")).unwrap();
    assert_eq!(table.look(first), Waiting::Granted);
}

#[test]
fn the_lower_priority_is_the_victim() {
    let mut table = Table::default();
    table.ask(session(1), &key("a"), Exclusive, false);
    table.ask(session(2), &key("b"), Exclusive, false);
    wait(&mut table, 1, "b", Exclusive);
    wait(&mut table, 2, "a", Exclusive);
    assert_eq!(table.resolve_deadlocks(|id| if id == 1 { -5 } else { 0 }), [1]);
}

#[test]
fn long_cycles_upgrades_and_oneself_are_deadlocks_and_a_line_is_none() {
    let mut line = Table::default();
    line.ask(session(0), &key("0"), Exclusive, false);
    for id in 1..200 {
        line.ask(session(id), &key(&id.to_string()), Exclusive, false);
        wait(&mut line, id, &(id - 1).to_string(), Exclusive);
    }
    assert!(line.resolve_deadlocks(|_| 0).is_empty());
    wait(&mut line, 0, "199", Exclusive);
    assert_eq!(line.resolve_deadlocks(|_| 0), [0]);

    let mut upgrades = Table::default();
    upgrades.ask(session(1), &key("x"), Shared, false);
    upgrades.ask(session(2), &key("x"), Shared, false);
    wait(&mut upgrades, 1, "x", Exclusive);
    wait(&mut upgrades, 2, "x", Exclusive);
    assert_eq!(upgrades.resolve_deadlocks(|_| 0), [2]);

    let mut alone = Table::default();
    alone.ask(Owner::transaction(1, 7), &key("x"), Exclusive, false);
    wait(&mut alone, 1, "x", Exclusive);
    assert_eq!(alone.resolve_deadlocks(|_| 0), [1]);

    // Behind a waiter that is in the way, not behind the holder.
    let mut behind = Table::default();
    behind.ask(session(1), &key("x"), Shared, false);
    behind.ask(session(3), &key("y"), Exclusive, false);
    wait(&mut behind, 2, "x", Exclusive);
    wait(&mut behind, 3, "x", Shared);
    assert!(behind.resolve_deadlocks(|_| 0).is_empty());
    wait(&mut behind, 1, "y", Exclusive);
    assert_eq!(behind.resolve_deadlocks(|_| 0).len(), 1);
}
