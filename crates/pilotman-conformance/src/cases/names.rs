//! Names.

use super::{exclusive, plain};
use crate::case::{Case, Exclusive};
use crate::context::Ctx;
use crate::surface::{Hold, Kind, shown};

pub(super) const CASES: &[Case] = &[
    exclusive("names", "case_matters", &[], case_matters),
    exclusive("names", "ten_thousand_characters", &[], ten_thousand_characters),
    exclusive("names", "odd_names_are_different_locks", &[], odd_names_are_different_locks),
    plain("names", "a_prefix_is_another_name", &["mutex"], a_prefix_is_another_name),
    plain("names", "kinds_under_one_name", &["mutex"], kinds_under_one_name),
    plain("names", "physical_names_are_stable", &["mutex"], physical_names_are_stable),
];

/// All of these can be held at once, and each keeps others out.
fn are_locks_of_their_own(ctx: &Ctx, x: Exclusive, names: &[String]) {
    let (one, other) = (ctx.client(), ctx.client());
    let hold = |name: &String| {
        x.adopt(ctx, name);
        x.lock(&one, name).try_now().unwrap_or_else(|| panic!("{:?} is a name of its own", shown(name)))
    };
    let holds: Vec<Hold> = names.iter().map(hold).collect();
    for name in names {
        x.lock(&other, name).must_be_taken();
    }
    holds.into_iter().for_each(Hold::release);
}

fn case_matters(ctx: &Ctx, x: Exclusive) {
    let base = ctx.name();
    let long = "x".repeat(990);
    for (lower, upper) in
        [("a".to_owned(), "A".to_owned()), (format!("{long}a"), format!("{long}A")), ("é".into(), "É".into())]
    {
        let names = [format!("{base}{lower}"), format!("{base}{upper}")];
        are_locks_of_their_own(ctx, x, &names);
    }
}

fn ten_thousand_characters(ctx: &Ctx, x: Exclusive) {
    let base = ctx.name();
    let names = [
        format!("{base}{}1", "n".repeat(10_000)),
        format!("{base}{}2", "n".repeat(10_000)),
        format!("{base}{}1", "ü".repeat(10_000)),
        format!("{base}{}", "\\".repeat(1_000)),
        format!("{base}{}", "🚂".repeat(5_000)),
    ];
    are_locks_of_their_own(ctx, x, &names);
}

fn odd_names_are_different_locks(ctx: &Ctx, x: Exclusive) {
    let (one, other, base) = (ctx.client(), ctx.client(), ctx.name());
    const ODD: &[&str] = &[
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "/.",
        "/..",
        "\\",
        "\\\\",
        "a/b",
        "a\\b",
        "a:b",
        "%2F",
        "%",
        "%%",
        "*",
        "?",
        "<",
        ">",
        "|",
        "\"",
        "'",
        "`",
        "$HOME",
        "~",
        "#",
        "&",
        "=",
        "+",
        "{tag}",
        "}{",
        "[0]",
        "\t",
        "\n",
        "\r\n",
        "\u{1}",
        "\u{7f}",
        "CON",
        "nul",
        ".lock",
        ".tmp",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "İ",
        "i",
        "ı",
        "I",
        "日本",
        "\u{202e}abc",
        "\u{200b}",
        "\u{feff}",
        "🚂",
        "\u{10ffff}",
        ";",
        ",",
        "a b",
        "a  b",
        " a",
        "a ",
        "a.",
        "a..",
        "zookeeper",
        "-",
        "--",
        "_",
        "@",
        "!",
        "^",
        "😀\u{200d}",
    ];
    let names: Vec<_> =
        ODD.iter().map(|odd| format!("{base}{odd}")).chain(ODD[1..].iter().map(|odd| format!("{odd}{base}"))).collect();
    let holds: Vec<_> = names
        .iter()
        .map(|name| {
            x.adopt(ctx, name);
            let hold = x.lock(&one, name).get(crate::surface::Wait::Try);
            hold.unwrap_or_else(|error| panic!("{name:?}: {error}")).unwrap_or_else(|| panic!("{name:?} collides"))
        })
        .collect();
    for name in &names {
        assert!(x.lock(&other, name).try_now().is_none(), "{name:?} is held");
    }
    holds.into_iter().for_each(Hold::release);
}

fn a_prefix_is_another_name(ctx: &Ctx) {
    let (client, base) = (ctx.client(), ctx.name());
    let names: Vec<_> = (0..40).map(|length| format!("{base}{}", "-".repeat(length))).collect();
    let holds: Vec<_> = names
        .iter()
        .map(|name| {
            ctx.watch(Kind::Mutex, name);
            client.mutex(name).try_now().unwrap_or_else(|| panic!("{name:?} collides"))
        })
        .collect();
    // Suffixes that a backend might add for its own purposes.
    let suffixes =
        [".lock", ".token", ".gate", ".w", ".r", ":token", ":queue", "-too", ".0", ".1", "writer", "permit", "mutex"];
    for suffix in suffixes {
        let name = format!("{base}{suffix}");
        ctx.watch(Kind::Mutex, &name);
        client.mutex(&name).try_now().unwrap_or_else(|| panic!("{name:?} collides")).release();
    }
    holds.into_iter().for_each(Hold::release);
}

fn kinds_under_one_name(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let mut kinds = vec![Kind::Mutex];
    if ctx.capabilities.rw_lock {
        kinds.push(Kind::Writer);
    }
    if ctx.capabilities.semaphore {
        kinds.push(Kind::Permit(1));
    }
    // Each is free while the others are held, or the backend refuses with a clear error.
    let mut held: Vec<Hold> = Vec::new();
    for kind in &kinds {
        ctx.watch(kind.clone(), &name);
        match one.lock(kind.clone(), &name).get(crate::surface::Wait::Try) {
            Ok(Some(hold)) => held.push(hold),
            Ok(None) => panic!("{kind:?} is kept out by another kind under the same name"),
            Err(error) => assert!(!held.is_empty() && error.has_no_effect(), "{kind:?}: {error}"),
        }
    }
    other.mutex(&name).must_be_taken();
    held.into_iter().for_each(Hold::release);
}

fn physical_names_are_stable(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let physical = |client: &crate::surface::Client, name: &str| {
        client.locks.physical_name(name, Kind::Mutex.primitive()).unwrap()
    };
    assert_eq!(physical(&one, &name), physical(&other, &name));
    assert_ne!(physical(&one, &name), physical(&one, &format!("{name}x")));
    let error = one.locks.physical_name("", Kind::Mutex.primitive()).unwrap_err();
    assert_eq!(error.kind(), pilotman_core::ErrorKind::InvalidName);
    one.check().expect("the backend works");
}
