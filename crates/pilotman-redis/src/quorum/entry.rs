//! Who belongs to the set, and since when: what is noted on each node, so that clients with other lists of nodes, and nodes
//! that have forgotten locks, are found out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use pilotman_core::{Error, Result};
use redis::Value;

use super::scripts::META;
use super::set::{Quorum, shown_run_id};
use crate::failure::nonsense;
use crate::lock::number;
use crate::waiting::{OPERATION, within};

/// Where several want to open nodes that have never been used, they try again after about this time.
const ENTERING: Duration = Duration::from_millis(50);
/// Somebody tries for so long to be the one who opens nodes that have never been used.
const OPENING: Duration = Duration::from_secs(4);

/// How a node is looked at, or entered into the set: see `meta.lua`.
#[derive(Debug, Clone, Copy)]
pub(super) enum How<'a> {
    Look,
    Enter { nonce: &'a str },
    Reset,
    Claim { nonce: &'a str, expected: &'a str },
    Lift { nonce: &'a str },
}

/// What a node says about the set that it belongs to.
pub(super) struct Note {
    is: Belongs,
    /// There while the node has never been used.
    nonce: Option<String>,
    /// It is in quarantine.
    is_aside: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    ToUs,
    /// To us, from now on in quarantine.
    Reset,
    ToNone,
    /// To us, but not with the nonce that was expected.
    Changed,
}

impl Quorum {
    /// Finds out, or has it settled, that a node belongs to our set.
    pub(super) async fn settle(self: &Arc<Self>, at: usize) -> Result<()> {
        let _turn = self.settling.lock().await;
        let note = self.note(at, How::Look).await?;
        if note.is != Belongs::ToNone && (note.nonce.is_none() || !self.options.quarantine) {
            return Ok(());
        }
        let nonce = format!("{:016x}", self.random() | 1);
        self.note(at, How::Enter { nonce: &nonce }).await?;
        let started = self.now();
        while self.now().since(started) < OPENING {
            if !self.is_first_use(at, &nonce).await {
                break;
            }
            // Of several who want to open the nodes, the one with the smallest nonce does, unless it takes too long.
            if self.lift_all(&nonce, self.now().since(started) < OPENING / 4).await {
                return Ok(());
            }
            self.pause(ENTERING / 4 + Duration::from_nanos(self.random() % ENTERING.as_nanos() as u64)).await;
            if self.note(at, How::Look).await?.nonce.is_none() {
                break;
            }
        }
        if self.members[at].is_aside(self.now()) && self.note(at, How::Look).await?.is_aside {
            self.reset(at);
        }
        Ok(())
    }

    pub(super) fn reset(&self, at: usize) {
        tracing::warn!(
            lock.backend = "redlock",
            server = self.members[at].label,
            "it may have forgotten locks: its grants of new ones don't count for {:?}",
            self.longest()
        );
        self.changed();
    }

    /// Whether none of the other nodes has ever been used, so that there are no locks that this one could have forgotten.
    async fn is_first_use(&self, at: usize, nonce: &str) -> bool {
        let others = (0..self.members.len()).filter(|other| *other != at);
        let mut asked: FuturesUnordered<_> = others.map(|other| self.note(other, How::Enter { nonce })).collect();
        let mut known = true;
        while let Some(note) = asked.next().await {
            match note {
                Ok(note) if note.nonce.is_none() => return false,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "whether this is the first use of these nodes is not known");
                    known = false;
                }
            }
        }
        known
    }

    /// Ends the quarantine of all nodes, if at one moment none of them had been used: each is claimed first, and only if that
    /// has come true on all of them, opened. One after the other in the same order for all who do this, so that whoever has
    /// the first node is disturbed by nobody: nodes of which some are open would be left like that.
    async fn lift_all(&self, nonce: &str, politely: bool) -> bool {
        let all = || 0..self.members.len();
        let mut expected = Vec::new();
        for note in join_all(all().map(|at| self.note(at, How::Look))).await {
            let Ok(Note { nonce: Some(its), .. }) = note else { return false };
            if politely && its.as_str() < nonce {
                return false;
            }
            expected.push(its);
        }
        for (at, expected) in expected.iter().enumerate() {
            let claimed = self.note(at, How::Claim { nonce, expected }).await;
            if !claimed.is_ok_and(|note| note.is == Belongs::ToUs) {
                return false;
            }
        }
        for at in all() {
            match self.note(at, How::Lift { nonce }).await {
                Ok(note) if note.is == Belongs::ToUs => {}
                // Nothing has been opened yet.
                _ if at == 0 => return false,
                Ok(_) => tracing::debug!(server = self.members[at].label, "a node is not as new as it was"),
                Err(error) => {
                    tracing::debug!(%error, server = self.members[at].label, "a node goes on being set aside");
                }
            }
        }
        true
    }

    /// The longest lease of all who use these nodes, as far as is known.
    fn longest(&self) -> Duration {
        self.options.longest_lease.max(Duration::from_millis(self.agreed.load(Ordering::Relaxed)))
    }

    /// Looks which set a node belongs to, and changes it as told.
    pub(super) async fn note(&self, at: usize, how: How<'_>) -> Result<Note> {
        let member = &self.members[at];
        let node = &member.node;
        let (word, nonce, expected) = match how {
            How::Look if !self.options.quarantine => ("open", "0", "0"),
            How::Look => ("look", "0", "0"),
            How::Enter { nonce } => ("enter", nonce, "0"),
            How::Reset => ("reset", "1", "0"),
            How::Claim { nonce, expected } => ("claim", nonce, expected),
            How::Lift { nonce } => ("lift", nonce, "0"),
        };
        let deviation = self.deviation(at);
        // Connecting has a limit of its own.
        let live = self.connected(at).await?;
        let work = async {
            let key = format!("{}quorum", node.spec.key_format.own());
            // A node that has forgotten takes what the others know.
            let longest = if matches!(how, How::Enter { .. }) { self.longest() } else { self.options.longest_lease };
            let longest = crate::lock::millis(longest).to_string();
            let sent = self.now();
            let slot = crate::slots::slot(&key);
            let run_id = shown_run_id(&live);
            let (off, error) = match deviation {
                Some((off, error)) => (off.to_string(), error.to_string()),
                None => (String::new(), String::new()),
            };
            let arguments = [&self.set, &run_id, &longest, word, nonce, expected, &off, &error];
            Ok((node.run(&META, slot, &[&key], &arguments).await?, sent))
        };
        let (answer, sent) = within(node, OPERATION, work).await?;
        let read = || {
            let Value::Array(parts) = &answer.value else { return None };
            let [what, aside, longest, seconds, micros, nonce, noted] = &parts[..] else { return None };
            let (Value::BulkString(what), Value::BulkString(nonce)) = (what, nonce) else { return None };
            if let Value::BulkString(noted) = noted {
                member.set_noted(std::str::from_utf8(noted).ok().and_then(|noted| noted.parse().ok()));
            }
            if !node.spec.is_clustered() {
                member.read_clock(seconds, micros, sent);
            }
            let nonce = String::from_utf8(nonce.clone()).ok()?;
            Some((what.clone(), Duration::from_millis(number(aside)?), Duration::from_millis(number(longest)?), nonce))
        };
        let (what, time, longest, nonce) = read().ok_or_else(|| nonsense("which set it belongs to", &answer.value))?;
        let is = match &what[..] {
            b"ok" => Belongs::ToUs,
            b"reset" => Belongs::Reset,
            b"absent" => Belongs::ToNone,
            b"changed" => Belongs::Changed,
            b"longer" => {
                return Err(Error::misconfigured(format!(
                    "it has agreed on leases of {longest:?} at most, and {:?} is asked for",
                    self.options.longest_lease
                ))
                .with_advice(format!(
                    "set the longest lease to that, or stop all programs that use these nodes for {longest:?} first"
                )));
            }
            _ => {
                return Err(Error::misconfigured(
                    "it is in use by another set of nodes: clients with different lists could each have a majority",
                )
                .with_advice(format!(
                    "give all programs the same list, or the same quorum name if it is only written differently; a new list \
                     can be used {time:?} after the last use of the old one"
                )));
            }
        };
        if is != Belongs::ToNone {
            self.agreed.fetch_max(longest.as_millis() as u64, Ordering::Relaxed);
        }
        if self.options.quarantine {
            if is == Belongs::Reset {
                self.reset(at);
            }
            match how {
                How::Lift { .. } if is == Belongs::ToUs => member.end_aside_unused(),
                _ if !time.is_zero() && nonce != "0" => member.set_aside_unused(sent.after(time)),
                _ if !time.is_zero() => member.set_aside(sent.after(time)),
                _ => member.end_aside_unused(),
            }
        }
        // Where nothing is noted, there is nothing to compare.
        if (deviation.is_some() || member.noted().is_none()) && is != Belongs::ToNone {
            member.checked(sent);
        }
        if is == Belongs::ToUs && time.is_zero() {
            self.saw_open(at);
        }
        Ok(Note { is, is_aside: !time.is_zero(), nonce: Some(nonce).filter(|nonce| !nonce.is_empty() && nonce != "0") })
    }
}
