//! Loopback addresses for servers that a test starts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// `count` different TCP ports of 127.0.0.1 that nobody listens on.
///
/// They are free when this returns, not reserved: another process may take one before the server does, so a start that
/// fails because its port is in use is worth a second try with other ports.
///
/// # Errors
///
/// When no port can be bound.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are kept open until the last is found, or one port could be handed out twice.
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Whether something accepts connections on this port of 127.0.0.1.
pub fn is_listening(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return false };
    // A connection to a free port of the ephemeral range may be given that port and so meet itself.
    stream.local_addr().is_ok_and(|local| local != address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 20);
        assert!(ports.iter().all(|port| *port != 0));
    }

    #[test]
    fn a_listener_is_seen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
    }

    #[test]
    fn nobody_is_not_a_listener() {
        // A reserved port: no parallel test can be handed it.
        assert!(!is_listening(1));
    }
}
