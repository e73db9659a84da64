//! The conformance suite on what this operating system has.

use std::path::PathBuf;

use pilotman_conformance::UnderTest;
use pilotman_os::{OsBackend, OsOptions};

fn directory(place: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pilotman-os-{place}"))
}

fn main() -> std::process::ExitCode {
    let connect = |place: &str| {
        OsBackend::new(OsOptions::new().directory(directory(place))).expect("these options are fine on every Linux")
    };
    pilotman_conformance::main(UnderTest::new("os", connect).clean_up(|place| {
        match std::fs::remove_dir_all(directory(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("{} stays behind: {error}", directory(place).display());
            }
            // It is made with the first lock, and a filter may have left no case that takes one.
            _ => {}
        }
    }))
}
