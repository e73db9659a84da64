//! The socket beneath the driver, with what is seen on it: whether a reply has begun, and whether the server is gone.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::clock::{Clock, Sleep};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The request is not out, as far as is known.
const ASKING: u8 = 0;
/// It is out, and nothing has come.
const QUIET: u8 = 1;
/// Some of the reply has come.
const ANSWERED: u8 = 2;

/// While there is something to read that the driver has not read, it is looked again after this time.
const UNREAD: Duration = Duration::from_millis(50);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    traffic: Arc<Traffic>,
}

/// Where a request is.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    state: AtomicU8,
    changed: Notify,
}

impl Traffic {
    /// A request is about to be made.
    pub(crate) fn begin(&self) {
        self.state.store(ASKING, Ordering::Release);
    }

    /// Completes while the request is out and nothing of its reply has come: only then can it be stopped, and the next bytes
    /// are the beginning of a reply.
    pub(crate) async fn quiet(&self) {
        self.is(QUIET).await;
    }

    /// Completes when something of the reply has come.
    pub(crate) async fn answered(&self) {
        self.is(ANSWERED).await;
    }

    async fn is(&self, state: u8) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state.load(Ordering::Acquire) == state {
                return;
            }
            changed.await;
        }
    }

    fn waits(&self) {
        // Who has read something stays answered until the next request.
        if self.state.compare_exchange(ASKING, QUIET, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.changed.notify_waiters();
        }
    }

    fn reads(&self) {
        if self.state.swap(ANSWERED, Ordering::AcqRel) != ANSWERED {
            self.changed.notify_waiters();
        }
    }
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), traffic: Arc::default() }
    }

    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    pub(crate) fn stream(&self) -> Arc<TcpStream> {
        self.stream.clone()
    }
}

/// Completes when the other side has ended the connection, or it has failed.
pub(crate) fn closed(stream: Arc<TcpStream>, clock: Arc<dyn Clock>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut byte = [0];
        loop {
            match stream.peek(&mut byte).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            // There is something to read; whether there is an end behind it, only some systems tell.
            match stream.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => Sleep::new(clock.clone(), UNREAD).await,
                _ => return,
            }
        }
    })
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready(ready) = self.stream.poll_read_ready(cx) else {
                self.traffic.waits();
                return Poll::Pending;
            };
            ready?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    self.traffic.reads();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use pilotman_core::clock::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, there) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Socket::new(here.unwrap()), there.unwrap().0)
    }

    /// Polls once.
    async fn is_done(work: impl Future<Output = ()>) -> bool {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_wait_can_be_stopped_only_before_its_reply_has_begun() {
        let (mut socket, mut server) = pair().await;
        let traffic = socket.traffic();
        traffic.begin();
        assert!(!is_done(traffic.quiet()).await, "the request is not out");
        socket.write_all(b"?").await.unwrap();
        assert!(!is_done(traffic.quiet()).await, "nobody waits for the reply yet");
        let mut reply = [0; 2];
        assert!(!is_done(async { drop(socket.read_exact(&mut reply).await) }).await);
        assert!(is_done(traffic.quiet()).await && !is_done(traffic.answered()).await);
        server.write_all(b"!").await.unwrap();
        socket.read_exact(&mut reply[..1]).await.unwrap();
        assert!(is_done(traffic.answered()).await && !is_done(traffic.quiet()).await);
        assert!(!is_done(async { drop(socket.read_exact(&mut reply).await) }).await);
        assert!(!is_done(traffic.quiet()).await, "the rest of it is still to come");
        traffic.begin();
        assert!(!is_done(traffic.answered()).await);
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_seen() {
        let (socket, server) = pair().await;
        let mut end = closed(socket.stream(), ManualClock::new());
        assert!(!is_done(&mut end).await);
        drop(server);
        tokio::time::timeout(Duration::from_secs(30), end).await.unwrap();
    }
}
