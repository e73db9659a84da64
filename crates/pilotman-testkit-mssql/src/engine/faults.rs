//! What goes wrong, once, when a test wants it.

use std::sync::{Mutex, PoisonError};

/// What goes wrong with one reply. Bytes are counted in the reply as it is on the wire, with the headers of packets
/// and without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the statement is carried out.
    CutBefore,
    /// The statement is carried out, so many bytes of the reply are sent, and the connection is cut.
    CutAfter(usize),
    /// The statement is carried out, so many bytes of the reply are sent, and nothing more, whatever the client sends.
    /// The connection stays open until the client closes it.
    StallAfter(usize),
    /// So many bytes of the reply are sent. The rest waits until the client sends an attention, which is then answered
    /// as MS-TDS says.
    PauseAfter(usize),
    /// So many bytes of the reply are sent, then these instead of the rest. The connection stays open.
    Garbage(usize, Vec<u8>),
    /// Nothing of the statement happens: this error is the reply.
    Error(crate::SqlError),
}

/// A fault and what it waits for.
#[derive(Debug)]
struct Planned {
    /// A part of the statement's text.
    on: String,
    fault: Fault,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    planned: Mutex<Vec<Planned>>,
    /// For the acknowledgement of an attention, which is no statement.
    attention: Mutex<Vec<Fault>>,
}

impl Faults {
    pub(crate) fn plan(&self, on: String, fault: Fault) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).push(Planned { on, fault });
    }

    pub(crate) fn plan_attention(&self, fault: Fault) {
        self.attention.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// The first fault that fits the text. It won't come again.
    pub(crate) fn take(&self, text: &str) -> Option<Fault> {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let place = planned.iter().position(|planned| text.contains(&planned.on))?;
        Some(planned.remove(place).fault)
    }

    pub(crate) fn take_attention(&self) -> Option<Fault> {
        let mut attention = self.attention.lock().unwrap_or_else(PoisonError::into_inner);
        if attention.is_empty() { None } else { Some(attention.remove(0)) }
    }

    pub(crate) fn clear(&self) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.attention.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn pending(&self) -> usize {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).len();
        planned + self.attention.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
