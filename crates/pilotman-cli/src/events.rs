//! What is told while a lock is waited for and held: to people, as JSON, and to the status descriptor.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use pilotman::backend::{Holder, Inspection};
use serde_json::{Value, json};

use crate::args::Voice;
use crate::duration::shown;
use crate::exit::{Ending, Failure};

/// Something worth telling.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Others hold the lock and we wait. `None` where the backend can't tell who.
    Waiting { backend: &'a str, inspection: Option<&'a Inspection> },
    /// The lock is ours.
    Acquired { backend: &'a str, waited: Duration, token: Option<u64>, owner: &'a str },
    /// The lease wasn't renewed as it should have been.
    AtRisk { remaining: Option<Duration> },
    /// The hold ends before the child did.
    Lost { reason: &'a pilotman::LossReason, held: Duration },
    /// The lock is given back.
    Released { held: Duration },
    /// The lock was not to be had in the time given.
    NotAcquired { waited: Duration, inspection: Option<&'a Inspection> },
    /// The lock was seen free.
    Free { waited: Duration },
    /// Something failed.
    Failed(&'a Failure),
    /// We end.
    Exit(Ending),
}

impl Event<'_> {
    /// The event of the lock `name`, as JSON. A status descriptor's reader sees these, so they are an interface.
    fn json(&self, name: &str) -> Value {
        let (event, details) = match self {
            Self::Waiting { backend, inspection } => {
                ("waiting", json!({ "backend": backend, "holders": inspection.map(holders) }))
            }
            Self::Acquired { backend, waited, token, owner } => (
                "acquired",
                json!({ "backend": backend, "waited_ms": millis(*waited), "token": token, "owner": owner }),
            ),
            Self::AtRisk { remaining } => ("at-risk", json!({ "remaining_ms": remaining.map(millis) })),
            Self::Lost { reason, held } => ("lost", json!({ "reason": reason.as_str(), "held_ms": millis(*held) })),
            Self::Released { held } => ("released", json!({ "held_ms": millis(*held) })),
            Self::NotAcquired { waited, inspection } => {
                ("not-acquired", json!({ "waited_ms": millis(*waited), "holders": inspection.map(holders) }))
            }
            Self::Free { waited } => ("free", json!({ "waited_ms": millis(*waited) })),
            Self::Failed(failure) => ("error", json!({ "code": failure.code as u8, "message": failure.message })),
            Self::Exit(ending) => {
                let source = if ending.is_childs() { "child" } else { "pilotman" };
                let mut exit = json!({ "source": source, "code": ending.status() });
                if let Ending::ChildSignal(signal) | Ending::Signal(signal) = ending {
                    exit["signal"] = json!(signal);
                }
                ("exit", exit)
            }
        };
        let mut all = json!({ "event": event, "name": name });
        if let (Value::Object(all), Value::Object(details)) = (&mut all, details) {
            all.extend(details);
        }
        all
    }
}

/// Milliseconds with three decimals.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// Who holds a lock, as JSON.
pub(crate) fn holders(inspection: &Inspection) -> Value {
    inspection.holders.iter().map(holder).collect()
}

fn holder(holder: &Holder) -> Value {
    let since = holder.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    json!({
        "owner": holder.owner,
        "primitive": holder.primitive,
        "since_unix": since.map(|since| since.as_millis() as f64 / 1_000.0),
        "held_ms": age(holder).map(millis),
        "remaining_ms": holder.remaining.map(millis),
        "token": holder.token,
    })
}

/// How long a holder has had the lock.
pub(crate) fn age(holder: &Holder) -> Option<Duration> {
    holder.since.and_then(|since| SystemTime::now().duration_since(since).ok())
}

/// `held by pid 12 since 3 min and pid 13`.
pub(crate) fn held_by(inspection: Option<&Inspection>) -> String {
    const SHOWN: usize = 3;
    let Some(inspection) = inspection.filter(|inspection| !inspection.holders.is_empty()) else {
        return "held by others".into();
    };
    let mut text = String::from("held by ");
    for (index, holder) in inspection.holders.iter().take(SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{}", printable(&holder.owner));
        if let Some(age) = age(holder) {
            let _ = write!(text, " since {}", shown(age));
        }
    }
    if let more @ 1.. = inspection.holders.len().saturating_sub(SHOWN) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Text of strangers, made harmless for a terminal and not too long for a line.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Prints one of our messages on standard error.
pub(crate) fn say(message: &str) {
    // Standard error is the place where a failure to write would be told.
    let _ = writeln!(std::io::stderr().lock(), "pilotman: {message}");
}

/// Tells events wherever they are wanted.
#[derive(Debug)]
pub(crate) struct Reporter {
    name: String,
    voice: Voice,
    on_terminal: bool,
    status: Option<File>,
}

impl Reporter {
    /// `name` is the lock's, for people and for JSON; `status` is the user's status descriptor.
    pub(crate) fn new(name: String, voice: Voice, status: Option<File>) -> Self {
        Self { name, voice, on_terminal: std::io::stderr().is_terminal(), status }
    }

    /// Whether anybody wants to know who holds the lock: asking costs something.
    pub(crate) fn asks_for_holders(&self) -> bool {
        self.status.is_some() || self.voice.json || !self.voice.quiet
    }

    /// A message for `-v`.
    pub(crate) fn explain(&self, message: impl FnOnce() -> String) {
        if self.voice.verbose {
            say(&message());
        }
    }

    /// A warning for people.
    pub(crate) fn warn(&self, message: &str) {
        if !self.voice.quiet && !self.voice.json {
            say(&format!("warning: {message}"));
        }
    }

    pub(crate) fn tell(&mut self, event: &Event<'_>) {
        if self.voice.json || self.status.is_some() {
            self.tell_machines(event);
        }
        if !self.voice.json
            && let Some(text) = self.for_people(event)
        {
            say(&text);
        }
    }

    fn tell_machines(&mut self, event: &Event<'_>) {
        let line = format!("{}\n", event.json(&self.name));
        if self.voice.json {
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
        if let Some(status) = &mut self.status
            && let Err(error) = status.write_all(line.as_bytes())
        {
            // The job is worth more than its log: go on, once told.
            self.status = None;
            self.warn(&format!("can't write to the status descriptor any more: {error}"));
        }
    }

    fn for_people(&self, event: &Event<'_>) -> Option<String> {
        let Voice { quiet, verbose, .. } = self.voice;
        let name = printable(&self.name);
        match event {
            Event::Waiting { inspection, .. } if !quiet && (self.on_terminal || verbose) => {
                Some(format!("waiting for '{name}', {}", held_by(*inspection)))
            }
            Event::Acquired { waited, token, owner, .. } if verbose => {
                let token = token.map(|token| format!(", token {token}")).unwrap_or_default();
                Some(format!("got '{name}' after {} as {owner}{token}", shown(*waited)))
            }
            Event::AtRisk { remaining } if !quiet => {
                let left = remaining.map(|left| format!(", {} left", shown(left))).unwrap_or_default();
                Some(format!("the lease of '{name}' could not be renewed so far{left}"))
            }
            Event::Lost { reason, held } => Some(format!("'{name}' after {}: {reason}", shown(*held))),
            Event::Released { held } if verbose => Some(format!("gave '{name}' back after {}", shown(*held))),
            Event::NotAcquired { waited, inspection } if !quiet => {
                let waited = if waited.is_zero() { String::new() } else { format!(" within {}", shown(*waited)) };
                Some(format!("did not get '{name}'{waited}: {}", held_by(*inspection)))
            }
            Event::Free { waited } if verbose => Some(format!("'{name}' was free after {}", shown(*waited))),
            Event::Failed(failure) => Some(failure.message.clone()),
            Event::Exit(ending) if verbose => match ending {
                Ending::ChildSignal(signal) => Some(format!("signal {signal} ended the command")),
                Ending::Signal(signal) => Some(format!("ended by signal {signal}")),
                other => Some(format!("exit status {}", other.status())),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder_of(owner: &str) -> Holder {
        let mut holder = Holder::default();
        holder.owner = owner.into();
        holder
    }

    #[test]
    fn an_exit_tells_whose_it_is() {
        let json = |ending| Event::Exit(ending).json("x");
        assert_eq!(json(Ending::Child(75))["source"], "child");
        assert_eq!(json(Ending::Own(75))["source"], "pilotman");
        let killed = r#"{"event":"exit","name":"x","source":"child","code":137,"signal":9}"#;
        assert_eq!(json(Ending::ChildSignal(9)).to_string(), killed);
    }

    #[test]
    fn holders_are_told_by_name_up_to_three() {
        let mut inspection = Inspection::default();
        assert_eq!(held_by(Some(&inspection)), "held by others");
        inspection.holders = vec![holder_of("pid 12")];
        assert_eq!(held_by(Some(&inspection)), "held by pid 12");
        inspection.holders = ["a", "b", "c", "d", "e"].map(holder_of).to_vec();
        assert_eq!(held_by(Some(&inspection)), "held by a, b, c and 2 more");
    }

    #[test]
    fn a_strangers_text_can_not_drive_the_terminal() {
        assert!(!printable("\u{1b}[2J\u{7}x").contains(char::is_control));
        assert!(printable(&"x".repeat(500)).chars().count() < 100);
    }
}
