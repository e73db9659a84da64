//! Ports that somebody else may take before the server does.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::net;

/// How often a start is tried again with another port.
const TRIES: usize = 5;
/// How long a server that is restarted waits for its own port.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts something on a free port, and on another one if that was taken in between.
pub(super) fn on_free<T>(mut start: impl FnMut(u16) -> io::Result<T>) -> io::Result<(T, u16)> {
    let mut tries = 1;
    loop {
        let port = net::free_ports(1)?[0];
        match start(port) {
            Ok(started) => return Ok((started, port)),
            Err(error) if tries < TRIES && is_taken(&error) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Starts something on the port that it had before. A client's socket may have been given the number in between; most of
/// them don't live long.
pub(super) fn on_same<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begin = Instant::now();
    loop {
        match start() {
            Err(error) if is_taken(&error) && begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.to_string().contains("Address already in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_is_tried_and_other_errors_are_final() {
        let mut ports = Vec::new();
        let (count, port) = on_free(|port| {
            ports.push(port);
            if ports.len() < 3 { Err(io::Error::other("bind: Address already in use")) } else { Ok(ports.len()) }
        })
        .unwrap();
        assert_eq!((count, port), (3, ports[2]));

        let mut calls = 0;
        let error = on_same::<()>(|| {
            calls += 1;
            Err(io::Error::other("no disk left"))
        });
        assert!(error.unwrap_err().to_string().contains("no disk left"));
        assert_eq!(calls, 1);
    }
}
