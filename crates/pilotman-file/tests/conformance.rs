//! The conformance suite on lock files.

use std::path::PathBuf;

use pilotman_conformance::UnderTest;
use pilotman_core::Primitive;
use pilotman_file::{FileBackend, FileOptions};

fn directory(place: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pilotman-{place}"))
}

fn main() -> std::process::ExitCode {
    let connect = |place: &str| {
        FileBackend::new(FileOptions::new(directory(place))).expect("these options are fine on every system")
    };
    pilotman_conformance::main(
        UnderTest::new("file", connect)
            // What an administrator does who tidies up too much.
            .lose(|hold| hold.primitive == Primitive::Mutex && std::fs::remove_file(hold.physical).is_ok())
            .clean_up(|place| match std::fs::remove_dir_all(directory(place)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    eprintln!("{} stays behind: {error}", directory(place).display());
                }
                // It is made with the first lock, and a filter may have left no case that takes one.
                _ => {}
            }),
    )
}
