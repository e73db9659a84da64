//! The address of a member.

use std::fmt;

use pilotman_core::{Error, Result};

/// The port for clients.
const PORT: u16 = 2181;

/// One member of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl Host {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // What stands there may be anything, also a password in the wrong place.
            Error::misconfigured(format!("a ZooKeeper host {why}"))
                .with_advice("write it as in zk1.example, zk1.example:2181 or [::1]:2181")
        };
        let port = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(bad("has a port that is no port")),
            Ok(port) => Ok(port),
        };
        let (name, number) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, "")) => (name, PORT),
            Some((name, rest)) => {
                (name, port(rest.strip_prefix(':').ok_or_else(|| bad("goes on after its closing bracket"))?)?)
            }
            None if text.matches(':').count() > 1 => (text, PORT),
            None => match text.split_once(':') {
                Some((name, number)) => (name, port(number)?),
                None => (text, PORT),
            },
        };
        let is_strange = |c: char| c.is_whitespace() || c.is_control() || "/@?#,[]".contains(c);
        match name.is_empty() || name.contains(is_strange) {
            true => Err(bad("has no name that a host can have")),
            false => Ok(Self { name: name.to_owned(), port: number }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_written() {
        for (text, name, port, written) in [
            ("h", "h", 2181, "h:2181"),
            ("h:1", "h", 1, "h:1"),
            ("[::1]:7", "::1", 7, "[::1]:7"),
            ("::1", "::1", 2181, "[::1]:2181"),
        ] {
            let host = Host::parse(text).unwrap();
            assert_eq!((host.name.as_str(), host.port, host.to_string().as_str()), (name, port, written), "{text}");
        }
        for bad in ["", ":1", "h:", "h:x", "h:0", "h:70000", "[::1]x", "u@h", "a b", "h/db", "a,b"] {
            let error = Host::parse(bad).unwrap_err();
            assert!(error.to_string().contains("write it as in"), "{bad}: {error}");
        }
    }
}
