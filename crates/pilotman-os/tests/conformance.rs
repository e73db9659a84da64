//! The conformance suite on what this operating system has.

use pilotman_conformance::UnderTest;
use pilotman_os::{OsBackend, OsOptions};

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let directory = |place: &str| std::env::temp_dir().join(format!("pilotman-os-{place}"));
    let connect = move |place: &str| {
        OsBackend::new(OsOptions::new().directory(directory(place))).expect("these options are fine on every Linux")
    };
    pilotman_conformance::main(UnderTest::new("os", connect).clean_up(move |place| {
        match std::fs::remove_dir_all(directory(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("{} stays behind: {error}", directory(place).display());
            }
            // It is made with the first lock, and a filter may have left no case that takes one.
            _ => {}
        }
    }))
}

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    // Objects are gone when nobody has them open, and names are unique per case: there is no place to make or clean.
    let connect = |_: &str| OsBackend::new(OsOptions::new()).expect("the defaults are fine");
    pilotman_conformance::main(UnderTest::new("os", connect))
}

#[cfg(not(any(target_os = "linux", windows)))]
fn main() -> std::process::ExitCode {
    let refused = OsBackend::new(OsOptions::new()).expect_err("there is no such backend here");
    println!("nothing to test: {refused}");
    let _ = std::any::type_name::<UnderTest>();
    std::process::ExitCode::SUCCESS
}
