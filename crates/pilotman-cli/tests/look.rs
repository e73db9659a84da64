//! The commands that look at locks and the one that breaks them.

#![cfg(unix)]

mod common;

use common::*;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn status_tells_who_holds_a_lock() {
    let place = Place::new();
    let free = place.run(&["status", "x"]);
    assert_eq!(code(&free), 0);
    assert!(out(&free).contains("nobody"), "{free:?}");
    assert_eq!(json(&out(&place.run(&["status", "--json", "x"])))["held"], false);

    let holder = place.hold("x", &[]);
    let status = json(&out(&place.run(&["status", "--json", "x"])));
    assert_eq!((&status["held"], &status["name"]), (&true.into(), &"x".into()));
    let owner = status["holders"][0]["owner"].as_str().unwrap();
    assert!(owner.contains(&holder.wrapper_pid().to_string()), "{owner}");
    let text = out(&place.run(&["status", "x"]));
    assert!(text.contains(owner) && text.contains("physical name: "), "{text}");
}

#[test]
fn list_tells_the_names() {
    let place = Place::new();
    assert_eq!(code(&place.run(&["list"])), 0, "no directory is no lock");
    assert_eq!(json(&out(&place.run(&["list", "--json"]))), json("[]"));
    place.run(&["run", "free one", "--", "true"]);
    let _holder = place.hold("held one", &[]);
    let all = json(&out(&place.run(&["list", "--json"])));
    let names: Vec<_> = all.as_array().unwrap().iter().map(|lock| lock["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["free one", "held one"]);
    let held = json(&out(&place.run(&["list", "--held", "--json"])));
    assert_eq!((held.as_array().unwrap().len(), &held[0]["name"]), (1, &"held one".into()));
    assert!(out(&place.run(&["list"])).contains("held one"));
}

#[test]
fn name_tells_the_file() {
    let place = Place::new();
    let name = |arguments: &[&str]| out(&place.run(&[&["name"], arguments].concat()));
    assert!(name(&["x"]).starts_with(place.path("locks").to_str().unwrap()));
    assert_eq!(name(&["-s", "x"]), name(&["-x", "x"]));
    assert_ne!(name(&["-s", "x"]), name(&["x"]));
    assert_ne!(name(&["X"]), name(&["x"]));
    assert_eq!(lock_files(&place.path("locks")), 0, "asking locks nothing");
}

#[test]
fn wait_waits_until_a_lock_is_free() {
    let place = Place::new();
    assert_eq!(code(&place.run(&["wait", "x"])), 0);
    let holder = place.hold("x", &[]);
    assert_eq!(code(&place.run(&["wait", "-w", "100ms", "x"])), 75);
    assert_eq!(code(&place.run(&["wait", "-n", "-E", "9", "x"])), 9);
    let waited = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| place.run(&["wait", "-v", "x"]));
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(holder);
        waiter.join().unwrap()
    });
    assert_eq!(code(&waited), 0);
    assert!(err(&waited).contains("waiting for 'x'") && err(&waited).contains("was free"), "{waited:?}");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0, "it was given back");
}

#[test]
fn a_lock_can_be_broken_on_request() {
    let place = Place::new();
    let unforced = place.run(&["release", "x"]);
    assert_eq!(code(&unforced), 64);
    assert!(err(&unforced).contains("--force"), "{unforced:?}");
    assert_eq!(out(&place.run(&["release", "--force", "--yes", "x"])), "nobody holds 'x'\n");

    let holder = place.hold("x", &[]);
    let unasked = place.run(&["release", "--force", "x"]);
    assert_eq!(code(&unasked), 64, "nobody is there to be asked: {unasked:?}");
    assert!(err(&unasked).contains("held by pid"), "{unasked:?}");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 75);

    let broken = place.run(&["release", "--force", "--yes", "x"]);
    assert_eq!(code(&broken), 0, "{broken:?}");
    assert!(out(&broken).contains(&format!("pid {}", holder.wrapper_pid())), "{broken:?}");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0);
    assert_eq!(holder.finish().0.code(), Some(76), "whoever held it is told");
}

#[test]
fn backends_lists_what_is_built() {
    let output = bare(&["backends"]).output().unwrap();
    assert!(out(&output).contains("file") && out(&output).contains("memory"), "{output:?}");
    let all = json(&out(&bare(&["backends", "--json"]).output().unwrap()));
    let file = all.as_array().unwrap().iter().find(|backend| backend["kind"] == "file").unwrap();
    assert_eq!((&file["built"], &file["capabilities"]["mutex"]), (&true.into(), &true.into()));
}

#[test]
fn completions_and_pages_are_generated() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bare(&["completions", shell]).output().unwrap();
        assert!(out(&output).contains("hold-at-most"), "{shell}");
    }
    let page = out(&bare(&["man"]).output().unwrap());
    assert!(page.starts_with(".ie") || page.contains(".TH pilotman"), "{page}");
    let page = out(&bare(&["man", "run"]).output().unwrap());
    assert!(page.contains(".TH pilotman-run") && page.contains("128+n"), "{page}");
    assert_eq!(code(&bare(&["man", "no-such-command"]).output().unwrap()), 64);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let script = format!("{} man | head -c 1 >/dev/null; echo $?", env!("CARGO_BIN_EXE_pilotman"));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((err(&output).as_str(), out(&output).as_str()), ("", "0\n"));
}

#[test]
fn doctor_looks_whether_files_can_be_locked() {
    let place = Place::new();
    let output = place.run(&["doctor"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(out(&output), "fine     use\n         it can be reached and used\nall is well\n");
    assert_eq!(out(&place.run(&["doctor", "-q"])), "");
    let told = json(&out(&place.run(&["doctor", "--json"])));
    assert_eq!((&told["backend"], &told["worst"]), (&"file".into(), &"fine".into()), "{told}");
    let finding = &told["findings"][0];
    assert_eq!((&finding["severity"], &finding["about"]), (&"fine".into(), &"use".into()), "{told}");
    assert!(finding["node"].is_null() && finding["advice"].is_null(), "{told}");
    assert_eq!(lock_files(&place.path("locks")), 0, "it has left something");

    let file = place.write("no-directory", "");
    let output = bare(&["--backend", &format!("file://{}", file.display()), "doctor"]).output().unwrap();
    assert_eq!(code(&output), 78, "{output:?}");
    assert_eq!(out(&output), "");
    assert!(err(&output).contains("no-directory"), "{output:?}");
}
