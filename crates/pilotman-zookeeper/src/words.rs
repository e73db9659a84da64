//! The words of four letters by which a ZooKeeper tells how it is.

use std::sync::Arc;
use std::time::Duration;

use pilotman_core::clock::{Clock, Sleep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::host::Host;

/// The longest answer that is read.
const LONGEST: u64 = 64 * 1024;

/// What the server answers to a word; `None` if nothing, or it doesn't answer such words.
pub(crate) async fn ask(clock: &Arc<dyn Clock>, host: &Host, word: &str, limit: Duration) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::select! {
        answer = asked => answer.ok()?,
        () = Sleep::new(clock.clone(), limit) => return None,
    };
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (!answer.is_empty() && !answer.contains("not in the whitelist")).then_some(answer)
}

/// The value behind `key` in an answer.
pub(crate) fn value<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(['=', ':']).map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let answer = "tickTime=2000\nmaxSessionTimeout=40000\nMode: follower\n";
        assert_eq!(value(answer, "maxSessionTimeout"), Some("40000"));
        assert_eq!(value(answer, "Mode"), Some("follower"));
        assert_eq!(value(answer, "Latency"), None);
    }
}
