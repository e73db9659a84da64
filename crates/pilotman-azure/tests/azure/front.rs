//! Stands before a service and answers in its place when a test wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// See the [module](self).
pub(crate) struct Front {
    pub(crate) port: u16,
    answer: watch::Sender<Option<Vec<u8>>>,
    answered: Arc<AtomicUsize>,
}

/// An answer of the service that says no.
pub(crate) fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said for a test</Message></Error>");
    format!(
        "HTTP/1.1 {status}\r\nx-ms-error-code: {code}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Front {
    /// Before the service on this port of 127.0.0.1. Everything passes.
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (answer, asked) = watch::channel(None);
        let answered = Arc::new(AtomicUsize::new(0));
        let count = answered.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, port, asked.clone(), count.clone()));
            }
        });
        Self { port: own, answer, answered }
    }

    /// Answers all requests so from now on.
    pub(crate) fn say(&self, answer: Vec<u8>) {
        self.answer.send_replace(Some(answer));
    }

    /// Lets everything pass again.
    pub(crate) fn pass(&self) {
        self.answer.send_replace(None);
    }

    /// How many requests were answered here.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

/// One connection. It ends when the rule changes: each has one rule only.
async fn serve(
    mut client: TcpStream,
    port: u16,
    mut asked: watch::Receiver<Option<Vec<u8>>>,
    answered: Arc<AtomicUsize>,
) {
    let answer = asked.borrow_and_update().clone();
    let work = async {
        let Some(answer) = answer else {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
            return tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop);
        };
        let mut seen: Vec<u8> = Vec::new();
        let mut part = [0; 4096];
        loop {
            let count = client.read(&mut part).await?;
            if count == 0 {
                return Ok(());
            }
            seen.extend(&part[..count]);
            // Requests of locks have no body.
            if seen.ends_with(b"\r\n\r\n") {
                answered.fetch_add(1, Ordering::SeqCst);
                client.write_all(&answer).await?;
                // It has no other end.
                if !answer.windows(14).any(|part| part == b"content-length") && !answer.is_empty() {
                    return Ok(());
                }
                seen.clear();
            }
        }
    };
    tokio::select! {
        // A connection that breaks is what some tests want.
        _ = work => {}
        _ = asked.changed() => {}
    }
}
