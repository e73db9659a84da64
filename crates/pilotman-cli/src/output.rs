//! Standard output.

use std::io::{ErrorKind, Write, stdout};

use crate::exit::Failure;

/// Prints `text`. That nobody reads on (`pilotman list | head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::internal("can't write the output", error)),
        _ => Ok(()),
    }
}

/// Prints `value` as indented JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}
