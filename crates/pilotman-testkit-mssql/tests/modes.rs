//! What goes together, what two modes make, and how a hold is counted. The tables are written out, as Microsoft
//! documents them, and not computed.

use pilotman_testkit_mssql::Mode::{
    self, Exclusive, IntentExclusive, IntentShared, Shared, SharedIntentExclusive, Update, UpdateIntentExclusive,
};
use pilotman_testkit_mssql::locks::{Asked, Key, NotHeld, Owner, Table};

const MODES: [Mode; 7] =
    [IntentShared, Shared, Update, IntentExclusive, SharedIntentExclusive, UpdateIntentExclusive, Exclusive];

/// Row: what is held. Column: what another owner asks for.
#[rustfmt::skip]
const TOGETHER: [[bool; 7]; 7] = [
    //                         IS     S      U      IX     SIX    UIX    X
    /* IntentShared */         [true,  true,  true,  true,  true,  true,  false],
    /* Shared */               [true,  true,  true,  false, false, false, false],
    /* Update */               [true,  true,  false, false, false, false, false],
    /* IntentExclusive */      [true,  false, false, true,  false, false, false],
    /* SharedIntentExclusive */[true,  false, false, false, false, false, false],
    /* UpdateIntentExclusive */[true,  false, false, false, false, false, false],
    /* Exclusive */            [false, false, false, false, false, false, false],
];

/// Row: what an owner holds. Column: what it asks for. Value: what it holds then.
#[rustfmt::skip]
const BOTH: [[Mode; 5]; 5] = [
    //                   IS               S                      U                      IX                     X
    /* IntentShared */   [IntentShared,    Shared,                Update,                IntentExclusive,       Exclusive],
    /* Shared */         [Shared,          Shared,                Update,                SharedIntentExclusive, Exclusive],
    /* Update */         [Update,          Update,                Update,                UpdateIntentExclusive, Exclusive],
    /* IntentExclusive */[IntentExclusive, SharedIntentExclusive, UpdateIntentExclusive, IntentExclusive,       Exclusive],
    /* Exclusive */      [Exclusive,       Exclusive,             Exclusive,             Exclusive,             Exclusive],
];

const ASKED: [Mode; 5] = [IntentShared, Shared, Update, IntentExclusive, Exclusive];

fn key() -> Key {
    Key::new("locks", "public", "x")
}

#[test]
fn every_pair_of_modes_goes_together_as_the_table_says() {
    for (held, row) in MODES.into_iter().zip(TOGETHER) {
        for (asked, expected) in MODES.into_iter().zip(row) {
            assert_eq!(held.goes_with(asked), expected, "{held} and {asked}");
        }
    }
}

#[test]
fn every_pair_that_can_be_asked_for_is_granted_or_refused_by_the_table() {
    for (held, row) in MODES.into_iter().zip(TOGETHER) {
        for (asked, expected) in MODES.into_iter().zip(row) {
            let mut table = Table::default();
            let (first, second) = (Owner::session(51), Owner::session(52));
            assert_eq!(table.ask(first, &key(), held, false), Asked::Granted);
            assert_eq!(table.would_grant(second, &key(), asked), expected);
            let became = table.ask(second, &key(), asked, false);
            assert_eq!(became == Asked::Granted, expected, "{held} is held, {asked} is asked for: {became:?}");
            assert_eq!(table.mode(second, &key()).is_some(), expected);
        }
    }
}

#[test]
fn one_owner_holds_the_union_of_what_it_asked_for() {
    for (held, row) in ASKED.into_iter().zip(BOTH) {
        for (asked, expected) in ASKED.into_iter().zip(row) {
            let mut table = Table::default();
            let owner = Owner::session(51);
            table.ask(owner, &key(), held, false);
            assert_eq!(table.ask(owner, &key(), asked, false), Asked::Granted);
            assert_eq!(table.mode(owner, &key()), Some(expected), "{held}, then {asked}");
            // The stronger mode stays until the last release, whatever was asked for last.
            assert_eq!(table.count(owner, &key()), 2);
            table.release(owner, &key()).unwrap();
            assert_eq!(table.mode(owner, &key()), Some(expected));
            table.release(owner, &key()).unwrap();
            assert_eq!(table.mode(owner, &key()), None);
            assert_eq!(table.release(owner, &key()), Err(NotHeld));
        }
    }
}

#[test]
fn names_are_compared_as_they_are_and_cut_after_255_characters() {
    assert_ne!(Key::new("locks", "public", "r8"), Key::new("locks", "public", "R8"));
    assert_ne!(Key::new("locks", "public", "x"), Key::new("locks", "public", "x "));
    assert_ne!(Key::new("locks", "public", "x"), Key::new("locks", "dbo", "x"));
    assert_ne!(Key::new("locks", "public", "x"), Key::new("other", "public", "x"));
    let long = "a".repeat(255);
    assert_eq!(Key::new("locks", "public", &format!("{long}b")), Key::new("locks", "public", &long));
    assert_ne!(Key::new("locks", "public", &long[..254]), Key::new("locks", "public", &long));
    // A sign of two units doesn't fit into the last place.
    assert_eq!(Key::new("locks", "public", &format!("{}😀", &long[..254])).resource.len(), 254);
}

#[test]
fn what_can_be_asked_for_is_named_in_any_case() {
    for mode in ASKED {
        assert_eq!(Mode::requested(&mode.name().to_uppercase()), Some(mode));
    }
    for other in ["SharedIntentExclusive", "UpdateIntentExclusive", "X", "", "NoLock", "Shared,Exclusive"] {
        assert_eq!(Mode::requested(other), None, "{other}");
    }
}
