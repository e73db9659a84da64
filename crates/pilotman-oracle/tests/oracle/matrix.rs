//! The tests' database against what Oracle documents of `DBMS_LOCK`: the table of compatible modes, written out.

use crate::fake::{Locks, OWNED, SUCCESS, TIMEOUT, compatible};

/// *Held mode* down, *get* across, as in the documentation of the package.
const TABLE: &str = "
    held   NL       SS       SX       S        SSX      X
    NL     Success  Success  Success  Success  Success  Success
    SS     Success  Success  Success  Success  Success  Fail
    SX     Success  Success  Success  Fail     Fail     Fail
    S      Success  Success  Fail     Success  Fail     Fail
    SSX    Success  Success  Fail     Fail     Fail     Fail
    X      Success  Fail     Fail     Fail     Fail     Fail
";

/// The numbers of the modes, as constants of the package have them.
const MODES: [(&str, i64); 6] = [("NL", 1), ("SS", 2), ("SX", 3), ("S", 4), ("SSX", 5), ("X", 6)];

fn mode(name: &str) -> i64 {
    MODES.iter().find(|(mode, _)| *mode == name).expect("a mode").1
}

/// Held, asked for, and whether that works.
fn table() -> Vec<(i64, i64, bool)> {
    let mut lines =
        TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|line| !line.is_empty());
    let head = lines.next().expect("a head");
    let row = |row: Vec<&'static str>| {
        let held = mode(row[0]);
        head[1..]
            .iter()
            .zip(&row[1..])
            .map(|(asked, works)| (held, mode(asked), *works == "Success"))
            .collect::<Vec<_>>()
    };
    lines.flat_map(row).collect()
}

#[test]
fn the_table_has_each_pair_once() {
    assert_eq!(table().len(), 36);
}

#[test]
fn modes_bear_each_other_as_documented() {
    for (held, asked, works) in table() {
        assert_eq!(compatible(held, asked), works, "{held} is held, {asked} is asked for");
    }
}

#[test]
fn requests_are_granted_and_refused_as_documented() {
    for (held, asked, works) in table() {
        let locks = Locks::default();
        assert_eq!(locks.request(1, 7, held, 0), Ok(SUCCESS));
        let expected = if works { SUCCESS } else { TIMEOUT };
        assert_eq!(locks.request(2, 7, asked, 0), Ok(expected), "{held} is held, {asked} is asked for");
        // Another lock has nothing to do with it.
        assert_eq!(locks.request(2, 8, asked, 0), Ok(SUCCESS));
        // Nor has who comes when the first has gone.
        assert_eq!(locks.release(1, 7), SUCCESS);
        assert_eq!(locks.release(2, 7), if works { SUCCESS } else { OWNED });
        assert_eq!(locks.request(3, 7, asked, 0), Ok(SUCCESS));
    }
}

#[test]
fn conversions_are_granted_and_refused_as_documented() {
    for (held, asked, works) in table() {
        let locks = Locks::default();
        assert_eq!(locks.request(1, 7, held, 0), Ok(SUCCESS));
        // The null mode is beside all, and can become what the table allows.
        assert_eq!(locks.request(2, 7, 1, 0), Ok(SUCCESS));
        let expected = if works { SUCCESS } else { TIMEOUT };
        assert_eq!(locks.convert(2, 7, asked, 0), Ok(expected), "{held} is held, {asked} is asked for");
    }
}

#[test]
fn own_holds_are_told() {
    let locks = Locks::default();
    assert_eq!(locks.release(1, 7), OWNED, "it is not held");
    assert_eq!(locks.convert(1, 7, 6, 0), Ok(OWNED), "it is not held");
    assert_eq!(locks.request(1, 7, 6, 0), Ok(SUCCESS));
    assert_eq!(locks.request(1, 7, 6, 0), Ok(OWNED), "it is held already");
    assert_eq!(locks.request(1, 7, 1, 0), Ok(OWNED), "in whatever mode");
}
