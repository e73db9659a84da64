//! The bytes between here and the server: sockets, TLS, and a look at what the server says of itself when it begins.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pilotman_core::{Error, Result};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::options::{Host, Postgres, TlsMode};
use crate::tls;

/// Asks for TLS: its length and code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The same of asking for a cancellation; the process and its secret follow.
const CANCEL_REQUEST: [u8; 8] = [0, 0, 0, 16, 4, 210, 22, 46];

/// Any stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to a host.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Stream>,
    /// Which one of those that the host's name stands for; none is known of a Unix socket.
    pub(crate) address: Option<SocketAddr>,
}

/// Connects to a host, with TLS as the options say. With an address, it is this one of those that the host's name stands for.
pub(crate) async fn connect(postgres: &Postgres, host: &Host, address: Option<SocketAddr>) -> Result<Connected> {
    let failed = |error: io::Error| {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        let advice = if refused { "see whether the server runs there" } else { "see whether the host can be reached" };
        Error::unavailable(format!("can't connect to {host}")).with_source(error).with_advice(advice).no_effect(true)
    };
    let (name, mut stream) = match host {
        Host::Tcp(name, port) => {
            let connected = match address {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect((name.as_str(), *port)).await,
            };
            let stream = connected.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            keep_alive(&stream).map_err(failed)?;
            (name, stream)
        }
        #[cfg(unix)]
        Host::Unix(..) => {
            let stream = tokio::net::UnixStream::connect(host.to_string()).await.map_err(failed)?;
            return Ok(Connected { stream: Box::new(stream), address: None });
        }
        #[cfg(not(unix))]
        Host::Unix(..) => return Err(Error::misconfigured("there are no Unix sockets here")),
    };
    let address = stream.peer_addr().ok();
    if postgres.tls == TlsMode::Disable {
        return Ok(Connected { stream: Box::new(stream), address });
    }
    stream.write_all(&SSL_REQUEST).await.map_err(failed)?;
    match stream.read_u8().await.map_err(failed)? {
        b'S' => {}
        b'N' if postgres.tls == TlsMode::Prefer => return Ok(Connected { stream: Box::new(stream), address }),
        b'N' => {
            return Err(Error::misconfigured(format!("{host} has no TLS, and it is asked for"))
                .with_advice("turn it on at the server (ssl = on), or ask for less with sslmode=prefer"));
        }
        _ => return Err(nonsense(host)),
    }
    let config = tls::config(postgres)?;
    let server = ServerName::try_from(name.clone())
        .map_err(|_| Error::misconfigured(format!("{host} has a name that no certificate can be for")))?;
    let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(server, stream).await;
    let refused = |error: io::Error| {
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        match is_tls {
            true => Error::misconfigured(format!("TLS with {host} failed"))
                .with_source(error)
                .with_advice("see whether the certificate is of the authority that is trusted, and for this host"),
            false => failed(error),
        }
    };
    Ok(Connected { stream: Box::new(connected.map_err(refused)?), address })
}

/// A wait sends nothing, however long: that a host has vanished is noticed by the system, within about half a minute.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10));
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", windows))]
    let keepalive = keepalive.with_interval(Duration::from_secs(5));
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    let keepalive = keepalive.with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(25)))?;
    Ok(())
}

/// Something answers that is no PostgreSQL.
fn nonsense(host: &Host) -> Error {
    Error::misconfigured(format!("what answers at {host} is no PostgreSQL"))
        .with_advice("see whether the port is right")
}

/// Asks the server, over a connection of its own, to cancel what runs in the session of this key. When this has ended the
/// server has told the session: later, it would hit another statement.
pub(crate) async fn cancel(
    postgres: &Postgres,
    host: &Host,
    address: Option<SocketAddr>,
    key: SessionKey,
) -> Result<()> {
    let Connected { mut stream, .. } = connect(postgres, host, address).await?;
    let asked = async {
        stream.write_all(&[CANCEL_REQUEST, key.0].concat()).await?;
        stream.flush().await?;
        // Our side stays open until the server has closed: some poolers forget the request otherwise, or worse.
        stream.read_to_end(&mut Vec::new()).await
    };
    match asked.await {
        Ok(_) => Ok(()),
        // It has closed without a farewell, which is what it does after a cancellation.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(()),
        Err(error) => Err(Error::unavailable("the cancellation was cut off").with_source(error)),
    }
}

/// What a session is cancelled by: the number of the process that serves it, and a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionKey([u8; 8]);

impl SessionKey {
    /// The number of the process that serves the session. A pooler tells one that no server has.
    pub(crate) fn process(self) -> i32 {
        let [a, b, c, d, ..] = self.0;
        i32::from_be_bytes([a, b, c, d])
    }
}

/// What the server told when the session began.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Option<SessionKey>>>);

impl Told {
    pub(crate) fn key(&self) -> Option<SessionKey> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes everything through, and notes the session's key on the way.
pub(crate) struct Overheard {
    stream: Box<dyn Stream>,
    told: Told,
    listening: Option<Listener>,
}

impl Overheard {
    pub(crate) fn new(stream: Box<dyn Stream>) -> (Self, Told) {
        let told = Told::default();
        (Self { stream, told: told.clone(), listening: Some(Listener::default()) }, told)
    }
}

/// Reads the server's messages up to the one that says which process serves: a letter, a length, and so many bytes.
#[derive(Default)]
struct Listener {
    head: Vec<u8>,
    /// What is left of a message that is of no interest.
    skip: usize,
}

const HEAD: usize = 5;
const KEY_DATA: u8 = b'K';
const READY: u8 = b'Z';

enum Heard {
    Key(SessionKey),
    /// It won't come any more.
    Never,
}

impl Listener {
    fn hear(&mut self, mut bytes: &[u8]) -> Option<Heard> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = if self.head.first() == Some(&KEY_DATA) { HEAD + 8 } else { HEAD };
            let taken = wanted.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            match *self.head.as_slice() {
                [KEY_DATA, _, _, _, _, a, b, c, d, e, f, g, h] => {
                    return Some(Heard::Key(SessionKey([a, b, c, d, e, f, g, h])));
                }
                [KEY_DATA, ..] => {}
                [READY, ..] => return Some(Heard::Never),
                [_, a, b, c, d] => {
                    let length = u32::from_be_bytes([a, b, c, d]) as usize;
                    let Some(rest) = length.checked_sub(4) else { return Some(Heard::Never) };
                    self.skip = rest;
                    self.head.clear();
                }
                _ => {}
            }
        }
        None
    }
}

impl AsyncRead for Overheard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(listener) = &mut self.listening
            && let Some(heard) = listener.hear(&buffer.filled()[before..])
        {
            if let Heard::Key(key) = heard {
                *self.told.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
            }
            self.listening = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn heard(bytes: &[u8], piece: usize) -> Option<Option<i32>> {
        let mut listener = Listener::default();
        bytes.chunks(piece).find_map(|chunk| listener.hear(chunk)).map(|heard| match heard {
            Heard::Key(key) => Some(key.process()),
            Heard::Never => None,
        })
    }

    #[test]
    fn the_process_is_found_however_the_bytes_come() {
        let key = [7i32.to_be_bytes(), 99i32.to_be_bytes()].concat();
        let all = [message(b'R', &[0; 4]), message(b'S', b"a\0b\0"), message(KEY_DATA, &key), message(READY, b"I")];
        for piece in 1..40 {
            assert_eq!(heard(&all.concat(), piece), Some(Some(7)), "{piece}");
        }
        let without = [message(b'R', &[0; 4]), message(READY, b"I"), message(KEY_DATA, &key)].concat();
        assert_eq!(heard(&without, 3), Some(None), "what comes later is something else");
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
            heard(&bytes, piece);
        }
    }
}
