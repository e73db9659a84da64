//! What holds whatever happens to the lock table, tried with random steps. The seed of a step that fails is told.

use pilotman_testkit_mssql::Mode::{self, Exclusive, IntentExclusive, IntentShared, Shared, Update};
use pilotman_testkit_mssql::locks::{Asked, Key, Owner, Table, Ticket, Waiting};

/// Random numbers that are the same every time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const MODES: [Mode; 5] = [IntentShared, Shared, Update, IntentExclusive, Exclusive];
const SESSIONS: u64 = 6;
const STEPS: usize = 400;

/// What a model of one session knows: what it was granted and how often, and what it waits for.
#[derive(Default)]
struct Session {
    held: Vec<(Key, Mode, u32)>,
    waits: Option<(Key, Mode, Ticket)>,
}

impl Session {
    fn granted(&mut self, key: &Key, mode: Mode) {
        match self.held.iter_mut().find(|(own, ..)| own == key) {
            Some((_, held, count)) => (*held, *count) = (held.and(mode), *count + 1),
            None => self.held.push((key.clone(), mode, 1)),
        }
    }
}

/// Compares the table with what the sessions know, and looks for holders that exclude each other and for waiters that
/// nothing is in the way of.
fn check(table: &Table, sessions: &[Session], seed: u64) {
    let rows = table.rows();
    for (place, row) in rows.iter().enumerate() {
        let before = rows[..place].iter().filter(|other| other.key == row.key && other.owner != row.owner);
        let mut in_the_way = before.filter(|other| !other.mode.goes_with(row.mode) && (other.granted || !row.converts));
        assert_eq!(in_the_way.next().is_none(), row.granted, "seed {seed}: {row:?} in {rows:#?}");
    }
    for (id, session) in sessions.iter().enumerate() {
        let owner = Owner::session(i32::try_from(id).unwrap());
        let own: Vec<_> = rows.iter().filter(|row| row.owner == owner && row.granted).collect();
        assert_eq!(own.len(), session.held.len(), "seed {seed}: {owner:?} in {rows:#?}");
        for (key, mode, count) in &session.held {
            assert_eq!(table.mode(owner, key), Some(*mode), "seed {seed}: {owner:?} {key:?}");
            assert_eq!(table.count(owner, key), *count, "seed {seed}: {owner:?} {key:?}");
        }
        let waiting = rows.iter().filter(|row| row.owner == owner && !row.granted).count();
        assert_eq!(waiting, usize::from(session.waits.is_some()), "seed {seed}: {owner:?} in {rows:#?}");
    }
}

fn run(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut table = Table::default();
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::default()).collect();
    let keys = ["a", "b"].map(|name| Key::new("locks", "public", name));
    for _ in 0..STEPS {
        let id = random.below(SESSIONS);
        let owner = Owner::session(i32::try_from(id).unwrap());
        let session = &mut sessions[usize::try_from(id).unwrap()];
        let key = &keys[usize::try_from(random.below(2)).unwrap()];
        let mode = MODES[usize::try_from(random.below(5)).unwrap()];
        match (random.below(10), session.waits.take()) {
            (0, _) => {
                table.forget(|other| other == owner);
                session.held.clear();
            }
            (1..=4, Some((key, mode, ticket))) => match table.end_wait(&key, ticket) {
                Waiting::Granted => session.granted(&key, mode),
                Waiting::Still | Waiting::Victim => {}
            },
            (_, Some(waits)) => session.waits = Some(waits),
            (1..=4, None) => {
                let held = session.held.iter().position(|(own, ..)| own == key);
                assert_eq!(table.release(owner, key).is_ok(), held.is_some(), "seed {seed}");
                if let Some(place) = held {
                    session.held[place].2 -= 1;
                    if session.held[place].2 == 0 {
                        session.held.remove(place);
                    }
                }
            }
            (choice, None) => {
                let would = table.would_grant(owner, key, mode);
                match table.ask(owner, key, mode, choice > 6) {
                    Asked::Granted => session.granted(key, mode),
                    Asked::Waits(ticket) => session.waits = Some((key.clone(), mode, ticket)),
                    Asked::Refused => {}
                }
                assert_eq!(
                    would,
                    session.waits.is_none() && table.mode(owner, key).is_some_and(|held| held.covers(mode))
                );
            }
        }
        table.resolve_deadlocks(|_| 0);
        assert!(table.resolve_deadlocks(|_| 0).is_empty(), "seed {seed}");
        for session in &mut sessions {
            if let Some((key, mode, ticket)) = session.waits.take() {
                match table.look(ticket) {
                    Waiting::Still => session.waits = Some((key, mode, ticket)),
                    decided => {
                        assert_eq!(table.end_wait(&key, ticket), decided);
                        if decided == Waiting::Granted {
                            session.granted(&key, mode);
                        }
                    }
                }
            }
        }
        check(&table, &sessions, seed);
    }
    table.forget(|_| true);
    assert!(table.rows().is_empty() && !table.has_waiters(), "seed {seed}");
}

#[test]
fn nobody_holds_what_another_excludes_and_nobody_waits_for_nothing() {
    for seed in 0..100 {
        run(seed);
    }
}
