//! Replies, cut by an attention or by a fault.

use std::io;
use std::sync::Arc;

use crate::engine::faults::Fault;
use crate::engine::session::{Interrupt, Session};
use crate::wire::packet::{HEADER, Kind, packet};
use crate::wire::tokens::Reply;
use crate::wire::transport::{Sender, number_of};

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) sender: Sender,
    pub(super) session: Arc<Session>,
    pub(super) packet_size: usize,
}

/// Nothing more can be sent.
fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// A fault, and how many bytes go before it.
struct Limit {
    fault: Option<Fault>,
    left: usize,
}

impl Limit {
    fn of(fault: Option<Fault>) -> Self {
        let left = match &fault {
            Some(
                Fault::CutAfter(count) | Fault::StallAfter(count) | Fault::PauseAfter(count) | Fault::Garbage(count, _),
            ) => *count,
            _ => usize::MAX,
        };
        Self { fault, left }
    }
}

impl Limit {
    /// The attention that a pause would wait for has come.
    fn forget_pause(&mut self) {
        if matches!(self.fault, Some(Fault::PauseAfter(_))) {
            (self.fault, self.left) = (None, usize::MAX);
        }
    }
}

/// What is still to be sent after a piece of it.
#[derive(Debug, PartialEq, Eq)]
enum Goes {
    On,
    NoFurther,
}

impl Outgoing {
    /// Sends a reply. An attention that comes while more than a packet is left cuts it after a whole token.
    pub(super) fn reply(&mut self, reply: Reply, fault: Option<Fault>) -> io::Result<()> {
        let (mut body, tokens) = reply.finish();
        let mut limit = Limit::of(fault);
        let room = self.packet_size - HEADER;
        let (mut sent, mut number) = (0, 0);
        let mut cut = false;
        loop {
            if !cut && self.session.attention_pending() {
                // What is partly sent must end as it began: in a whole token.
                let mut end = 0;
                for length in &tokens {
                    if end >= sent {
                        break;
                    }
                    end += length;
                }
                body.truncate(end);
                self.session.answer_attention();
                let mut acknowledgement = Reply::default();
                acknowledgement.attention();
                body.extend(acknowledgement.finish().0);
                cut = true;
                limit.forget_pause();
            }
            let end = body.len().min(sent + room);
            let last = end == body.len();
            let packet = packet(Kind::Reply, number_of(number), self.session.id, last, &body[sent..end]);
            if self.limited(&packet, &mut limit)? == Goes::NoFurther {
                return Ok(());
            }
            sent = end;
            number += 1;
            if last {
                break;
            }
        }
        match limit.fault {
            Some(Fault::CutAfter(_)) => Err(ended()),
            Some(Fault::StallAfter(_)) => self.stall(),
            _ => Ok(()),
        }
    }

    fn limited(&mut self, bytes: &[u8], limit: &mut Limit) -> io::Result<Goes> {
        if bytes.len() <= limit.left {
            limit.left -= bytes.len();
            self.sender.bytes(bytes)?;
            return Ok(Goes::On);
        }
        let (before, after) = bytes.split_at(limit.left);
        if !before.is_empty() {
            self.sender.bytes(before)?;
        }
        limit.left = usize::MAX;
        match limit.fault.take() {
            Some(Fault::StallAfter(_)) => self.stall().map(|()| Goes::NoFurther),
            Some(Fault::PauseAfter(_)) => match self.session.wait_for_interrupt() {
                Interrupt::Attention => self.sender.bytes(after).map(|()| Goes::On),
                _ => Err(ended()),
            },
            Some(Fault::Garbage(_, garbage)) => self.sender.bytes(&garbage).map(|()| Goes::NoFurther),
            _ => Err(ended()),
        }
    }

    /// Says nothing more, until the client goes.
    fn stall(&self) -> io::Result<()> {
        self.session.wait_for_end();
        Err(ended())
    }
}
