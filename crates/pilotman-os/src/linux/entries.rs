//! Taking and giving back: what stands in the entries of a chain, and who may have what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::backend::AttemptId;
use pilotman_core::{Error, Result};

use super::latch::{BRIEF, LONG, Latched, SHORT};
use super::layout::{ENTRIES, Entry, HOLDS, NAME, PERMIT, READ, TOLD, WAITS, WRITE};
use super::process::{Life, Process, now};
use super::slot::Slot;
use super::wait::Wait;
use crate::sync::lock;

/// The deaths of so many processes are listened for; what others leave is found by the timer.
const MOST_BLOCKERS: usize = 100;

/// What a chain says about one key, for one attempt.
struct Survey {
    holds: u32,
    writes: bool,
    /// Somebody else waits to write.
    writer_waits: bool,
    /// The entry of this attempt, and whether it holds.
    mine: Option<(u32, bool)>,
    dead: Vec<u32>,
}

/// What an attempt came to.
pub(crate) enum Tried {
    /// The token of the hold.
    Granted(u64),
    Contended,
    /// Somebody was in the middle of something for long; it is worth coming again soon.
    Hindered,
}

impl Process {
    /// Makes one attempt. Who waits comes again, so it is soon over.
    pub(crate) fn attempt(&self, slot: &Slot, id: AttemptId, waits: bool) -> Result<Tried> {
        match self.try_attempt(slot, id, if waits { BRIEF } else { SHORT }) {
            Ok(token) => {
                self.hindrances.passed(slot.bucket());
                Ok(token.map_or(Tried::Contended, Tried::Granted))
            }
            Err(error) if self.hindrances.is_new(slot.bucket(), &error) => Ok(Tried::Hindered),
            Err(error) => Err(error),
        }
    }

    fn try_attempt(&self, slot: &Slot, id: AttemptId, patience: Duration) -> Result<Option<u64>> {
        for _ in 0..2 {
            let mut latched = self.latch(&self.table.buckets[slot.bucket()], patience)?;
            let mut survey = latched.survey(slot, id)?;
            if !survey.dead.is_empty() {
                for index in std::mem::take(&mut survey.dead) {
                    latched.reap(index)?;
                }
                survey = latched.survey(slot, id)?;
            }
            if let Some((index, true)) = survey.mine {
                return Ok(self.entry(index).map(|entry| entry.token.load(Ordering::Relaxed)));
            }
            if !survey.admits(slot) {
                self.note_blockers(&latched, slot, id, &survey)?;
                return Ok(None);
            }
            let token = self.table.header.token.0.fetch_add(1, Ordering::SeqCst) + 1;
            match survey.mine {
                Some((index, _)) => {
                    if let Some(entry) = self.entry(index) {
                        entry.token.store(token, Ordering::Relaxed);
                        entry.since.store(now(), Ordering::Relaxed);
                        entry.state.store(HOLDS, Ordering::SeqCst);
                    }
                }
                None => {
                    if !latched.add(slot, id, HOLDS, token) {
                        drop(latched);
                        self.sweep(SHORT)?;
                        continue;
                    }
                }
            }
            if slot.kind == READ || slot.kind == PERMIT {
                // There may be room for another.
                latched.tell_next(slot.key, slot.kind == READ)?;
            }
            return Ok(Some(token));
        }
        Err(self.full())
    }

    fn full(&self) -> Error {
        let path = self.table.place.path.display();
        Error::unavailable(format!("the lock table {path} is full: {ENTRIES} holds and waits"))
            .with_advice("hold fewer locks at a time, or use another directory for some of them")
            .no_effect(true)
    }

    /// Takes a place among those who wait.
    pub(crate) fn enrol(&self, slot: &Slot, id: AttemptId) -> Result<Arc<Wait>> {
        for _ in 0..2 {
            let turn = self.table.header.turn.0.fetch_add(1, Ordering::SeqCst) + 1;
            let mut latched = self.latch(&self.table.buckets[slot.bucket()], BRIEF)?;
            if latched.add(slot, id, WAITS, turn) {
                let index = latched.added;
                drop(latched);
                let wait = Arc::new(Wait::new(index));
                lock(&self.waits).insert(id, wait.clone());
                return Ok(wait);
            }
            drop(latched);
            self.sweep(BRIEF)?;
        }
        Err(self.full())
    }

    /// Gives back what an attempt has, if anything: its place among those who wait, or its hold too. Whether others
    /// wait, if it was a hold. What can't be given back now is given back as soon as that can be done.
    pub(crate) fn give_back(
        &self,
        slot: &Slot,
        id: AttemptId,
        holds: bool,
        patience: Duration,
    ) -> Result<Option<bool>> {
        self.try_give_back(slot, id, holds, patience).map_err(|error| {
            // Nobody else may ask again.
            let mut owed = lock(&self.owed);
            if !owed.iter().any(|(_, known, held)| (*known, *held) == (id, holds)) {
                owed.push((slot.clone(), id, holds));
            }
            drop(owed);
            self.ring(self.member());
            error.no_effect(false)
        })
    }

    /// Gives back what could not be given back before. Says whether nothing is left of it.
    pub(super) fn pay(&self) -> bool {
        let owed = std::mem::take(&mut *lock(&self.owed));
        let mut stuck = Vec::new();
        let unpaid = |(slot, id, holds): &(Slot, AttemptId, bool)| {
            // The others of one chain would meet the same.
            let bucket = slot.bucket();
            if stuck.contains(&bucket) {
                return true;
            }
            let unpaid = self.try_give_back(slot, *id, *holds, BRIEF).is_err();
            if unpaid {
                stuck.push(bucket);
            }
            unpaid
        };
        let mut left: Vec<_> = owed.into_iter().filter(unpaid).collect();
        let mut owed = lock(&self.owed);
        owed.append(&mut left);
        owed.is_empty()
    }

    fn try_give_back(&self, slot: &Slot, id: AttemptId, holds: bool, patience: Duration) -> Result<Option<bool>> {
        let mut latched = self.latch(&self.table.buckets[slot.bucket()], patience)?;
        let Some((index, state)) = latched.find(slot.key, id)? else { return Ok(None) };
        let was_hold = state == HOLDS;
        if was_hold != holds {
            return Ok(None);
        }
        latched.remove(index)?;
        if was_hold || state == TOLD || slot.kind == WRITE {
            // Who was told and leaves passes it on; readers may have waited for nothing but this writer.
            latched.tell_next(slot.key, false)?;
        }
        Ok(was_hold.then_some(latched.somebody_waits(slot.key)?))
    }

    /// Whether the hold of an attempt is still there.
    pub(crate) fn has(&self, slot: &Slot, id: AttemptId, patience: Duration) -> Result<Option<u32>> {
        let latched = self.latch(&self.table.buckets[slot.bucket()], patience)?;
        Ok(latched.find(slot.key, id)?.filter(|(_, state)| *state == HOLDS).map(|(index, _)| index))
    }

    /// Gives the hold of an attempt a new token, for another holder of this process.
    pub(crate) fn renew_token(&self, slot: &Slot, id: AttemptId) -> Result<Option<u64>> {
        let latched = self.latch(&self.table.buckets[slot.bucket()], LONG)?;
        let held = latched.find(slot.key, id)?.filter(|(_, state)| *state == HOLDS);
        let Some(entry) = held.and_then(|(index, _)| self.entry(index)) else { return Ok(None) };
        let token = self.table.header.token.0.fetch_add(1, Ordering::SeqCst) + 1;
        entry.token.store(token, Ordering::Relaxed);
        Ok(Some(token))
    }

    /// The attempt goes on waiting; notes for whose death.
    fn note_blockers(&self, latched: &Latched<'_>, slot: &Slot, id: AttemptId, survey: &Survey) -> Result<()> {
        let Some((mine, false)) = survey.mine else { return Ok(()) };
        let Some(wait) = lock(&self.waits).get(&id).cloned() else { return Ok(()) };
        let mut blockers = Vec::new();
        latched.each(|index, entry| {
            let owner = entry.owner.load(Ordering::Relaxed);
            // Those who wait too: one who was told and dies before its attempt can't pass that on.
            if index != mine && is(entry, slot.key) && owner != self.owner && !blockers.contains(&owner) {
                blockers.push(owner);
            }
            blockers.len() < MOST_BLOCKERS
        })?;
        if let Some(entry) = self.entry(mine) {
            entry.state.store(WAITS, Ordering::SeqCst);
        }
        if wait.set_blockers(blockers) {
            self.ring(self.member());
        }
        Ok(())
    }
}

/// Whether an entry is about this key.
pub(super) fn is(entry: &Entry, key: [u64; 2]) -> bool {
    entry.key[0].load(Ordering::Relaxed) == key[0] && entry.key[1].load(Ordering::Relaxed) == key[1]
}

pub(super) fn attempt_of(entry: &Entry) -> AttemptId {
    let word = |at: usize| u128::from(entry.attempt[at].load(Ordering::Relaxed));
    AttemptId(word(0) << 64 | word(1))
}

pub(super) fn key_of(entry: &Entry) -> [u64; 2] {
    [entry.key[0].load(Ordering::Relaxed), entry.key[1].load(Ordering::Relaxed)]
}

impl Survey {
    fn admits(&self, slot: &Slot) -> bool {
        match slot.kind {
            READ => !self.writes && !self.writer_waits,
            PERMIT => self.holds < slot.limit,
            _ => self.holds == 0,
        }
    }
}

impl Latched<'_> {
    fn survey(&self, slot: &Slot, id: AttemptId) -> Result<Survey> {
        let mut survey = Survey { holds: 0, writes: false, writer_waits: false, mine: None, dead: Vec::new() };
        self.each(|index, entry| {
            if !is(entry, slot.key) {
                return true;
            }
            let owner = entry.owner.load(Ordering::Relaxed);
            let holds = entry.state.load(Ordering::Relaxed) == HOLDS;
            let writes = entry.kind.load(Ordering::Relaxed) == WRITE;
            if owner == self.process.owner && attempt_of(entry) == id {
                survey.mine = Some((index, holds));
            } else if owner != self.process.owner && self.process.life(owner) == Life::Dead {
                survey.dead.push(index);
            } else if holds {
                survey.holds += 1;
                survey.writes |= writes;
            } else {
                survey.writer_waits |= writes;
            }
            true
        })?;
        Ok(survey)
    }

    /// Adds an entry of ours; `false` if there is no room.
    fn add(&mut self, slot: &Slot, id: AttemptId, state: u32, token: u64) -> bool {
        let Some(index) = self.claim() else { return false };
        let Some(entry) = self.process.entry(index) else { return false };
        entry.key[0].store(slot.key[0], Ordering::Relaxed);
        entry.key[1].store(slot.key[1], Ordering::Relaxed);
        entry.kind.store(slot.kind, Ordering::Relaxed);
        entry.limit.store(slot.limit, Ordering::Relaxed);
        entry.state.store(state, Ordering::Relaxed);
        entry.token.store(token, Ordering::Relaxed);
        entry.since.store(now(), Ordering::Relaxed);
        entry.attempt[0].store((id.0 >> 64) as u64, Ordering::Relaxed);
        entry.attempt[1].store(id.0 as u64, Ordering::Relaxed);
        let name = slot.name.as_bytes();
        // A name that doesn't fit is not kept: half of one would mislead.
        let kept = if name.len() <= NAME { name } else { &[] };
        entry.length.store(kept.len() as u32, Ordering::Relaxed);
        for (word, bytes) in entry.name.iter().zip(kept.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.link(index, entry);
        self.added = index;
        true
    }

    fn find(&self, key: [u64; 2], id: AttemptId) -> Result<Option<(u32, u32)>> {
        let mut found = None;
        self.each(|index, entry| {
            if is(entry, key) && entry.owner.load(Ordering::Relaxed) == self.process.owner && attempt_of(entry) == id {
                found = Some((index, entry.state.load(Ordering::Relaxed)));
            }
            found.is_none()
        })?;
        Ok(found)
    }

    fn somebody_waits(&self, key: [u64; 2]) -> Result<bool> {
        let mut waits = false;
        self.each(|_, entry| {
            waits = is(entry, key) && entry.state.load(Ordering::Relaxed) != HOLDS;
            !waits
        })?;
        Ok(waits)
    }

    /// Tells the one who has waited longest and was not told yet, writers first: while one waits no reader gets in. With
    /// `readers` only if no writer waits.
    pub(super) fn tell_next(&mut self, key: [u64; 2], readers: bool) -> Result<()> {
        let mut first: Option<(bool, u64, u32)> = None;
        self.each(|index, entry| {
            if is(entry, key) && entry.state.load(Ordering::Relaxed) == WAITS {
                let order = (entry.kind.load(Ordering::Relaxed) != WRITE, entry.token.load(Ordering::Relaxed), index);
                first = Some(first.map_or(order, |first| first.min(order)));
            }
            true
        })?;
        let Some((_, _, index)) = first else { return Ok(()) };
        let Some(entry) = self.process.entry(index) else { return Ok(()) };
        if !readers || entry.kind.load(Ordering::Relaxed) == READ {
            entry.state.store(TOLD, Ordering::SeqCst);
            self.tell(entry.owner.load(Ordering::Relaxed));
        }
        Ok(())
    }

    /// Takes out an entry that a dead process has left, and tells who may have waited for that.
    pub(super) fn reap(&mut self, index: u32) -> Result<()> {
        let Some(entry) = self.process.entry(index) else { return Ok(()) };
        let key = key_of(entry);
        self.remove(index)?;
        self.tell_next(key, false)
    }

    /// Breaks the holds of a key; calls `broken` with each before it goes.
    pub(super) fn break_all(&mut self, key: [u64; 2], mut broken: impl FnMut(&Entry)) -> Result<()> {
        for index in self.entries()? {
            let Some(entry) = self.process.entry(index) else { continue };
            if !is(entry, key) || entry.state.load(Ordering::Relaxed) != HOLDS {
                continue;
            }
            broken(entry);
            let owner = entry.owner.load(Ordering::Relaxed);
            self.remove(index)?;
            self.tell(owner);
            self.tell_next(key, false)?;
        }
        Ok(())
    }
}
