//! The thread of a keeper: it takes, waits and gives back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilotman_core::backend::AttemptId;
use pilotman_core::{Error, Result};

use super::cell::Cell;
use super::failure::failed;
use super::keeper::{Command, Keeper};
use super::object::{self, Class, MOST, Object, Waited};
use super::physical::{Layout, Physical};
use crate::panics::contain;
use crate::sync::lock;

/// So many permits of a semaphore are waited for at once. Of one that has more the others are looked at after each
/// [`RESCAN`].
const PERMITS: u32 = 32;
const RESCAN: Duration = Duration::from_millis(100);
/// So many permits are tried in one attempt.
pub(super) const TRIED: u32 = 4096;
/// How long a thread rests after a panic.
const AFTER_PANIC: Duration = Duration::from_millis(10);
/// How often waiters on objects of .NET close and open them anew, as .NET does: what a dead holder left goes when nobody
/// has it open. All processes do so at the same time, when the clock shows a multiple of this.
const CADENCE: Duration = Duration::from_secs(2);
/// How long they keep them closed.
const CLOSED: Duration = Duration::from_millis(10);

/// How many objects a wait takes.
pub(super) fn objects(physical: &Physical) -> u32 {
    physical.count().min(PERMITS)
}

/// See the [module](self).
pub(super) struct Thread {
    keeper: Arc<Keeper>,
    holds: HashMap<AttemptId, Hold>,
    /// In the order in which they came.
    waits: Vec<Waiting>,
    /// The mutexes that this thread owns: it could take them once more.
    owned: HashSet<String>,
    dice: u64,
}

struct Hold {
    object: Arc<Object>,
    name: String,
}

struct Waiting {
    id: AttemptId,
    physical: Arc<Physical>,
    cell: Arc<Cell>,
    objects: Vec<(u32, Arc<Object>)>,
    /// When to look at other objects, or at the same ones anew.
    again: Option<Instant>,
    keeper: Arc<Keeper>,
}

impl Waiting {
    /// The wait is over.
    fn end(self, result: Result<()>) {
        self.cell.complete(result);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.keeper.load.fetch_sub(objects(&self.physical) as usize, Ordering::SeqCst);
        // Only if it has not ended otherwise. Nobody is left to wait for ever.
        self.cell.complete(Err(Error::unavailable("the wait was lost in a panic").no_effect(true)));
    }
}

impl Thread {
    pub(super) fn new(keeper: Arc<Keeper>) -> Self {
        let dice = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 | 1;
        Self { keeper, holds: HashMap::new(), waits: Vec::new(), owned: HashSet::new(), dice }
    }

    pub(super) fn run(mut self) {
        loop {
            // With this thread all its mutexes would be given to others.
            if !contain(|| self.go_round()) {
                std::thread::sleep(AFTER_PANIC);
            }
        }
    }

    fn go_round(&mut self) {
        // One by one: what follows a panic is still to be done. No more than there are now: those who wait have their turn,
        // too, and what comes meanwhile rings.
        let now = lock(&self.keeper.commands).len();
        for _ in 0..now {
            let Some(command) = self.next() else { break };
            self.obey(command);
        }
        self.refresh();
        self.sleep();
    }

    fn next(&self) -> Option<Command> {
        lock(&self.keeper.commands).pop_front()
    }

    fn obey(&mut self, command: Command) {
        match command {
            // Whoever asked and is gone gives back what it got under its id, if anything.
            Command::Try(id, physical, reply) => drop(reply.send(self.attempt(id, &physical))),
            Command::Wait(id, physical, cell) => self.begin(id, physical, cell),
            Command::GiveBack(id, reply) => drop(reply.send(self.give_back(id))),
            Command::Probe(physical, reply) => drop(reply.send(probe(&physical))),
            #[cfg(test)]
            Command::Panic => std::panic::resume_unwind(Box::new("on purpose")),
        }
    }

    fn attempt(&mut self, id: AttemptId, physical: &Physical) -> Result<bool> {
        if self.holds.contains_key(&id) {
            return Ok(true);
        }
        let count = physical.count();
        // Of many permits one is soon found, wherever the search begins; of few all are looked at.
        let first = if count > 1 { self.roll(count) } else { 0 };
        let name = physical.object_name(first);
        if !self.owned.contains(&name) {
            let object = physical.open(first)?;
            if object.try_take().map_err(|code| failed("can't take", &name, code))? {
                self.hold(id, object, name);
                return Ok(true);
            }
        }
        self.search(id, physical, first, 1)
    }

    /// Takes one of the permits from this one on, so many steps after it. Many are looked at in one call.
    fn search(&mut self, id: AttemptId, physical: &Physical, first: u32, steps: u32) -> Result<bool> {
        let count = physical.count();
        let mut steps = steps..count.min(TRIED);
        loop {
            let mut some = Vec::new();
            for step in steps.by_ref() {
                let index = nth(first, step, count);
                let name = physical.object_name(index);
                // What this thread owns it would take once more.
                if !self.owned.contains(&name) {
                    some.push((name, physical.open(index)?));
                    if some.len() == MOST {
                        break;
                    }
                }
            }
            if some.is_empty() {
                return Ok(false);
            }
            let objects: Vec<&Object> = some.iter().map(|(_, object)| &**object).collect();
            let waited = object::wait(&objects, Some(Duration::ZERO));
            match waited.map_err(|code| failed("can't take one of", &physical.shown(), code))? {
                Waited::Taken(place) => {
                    let (name, object) = some.swap_remove(place);
                    self.hold(id, object, name);
                    return Ok(true);
                }
                Waited::TimedOut => {}
            }
        }
    }

    fn hold(&mut self, id: AttemptId, object: Arc<Object>, name: String) {
        if object.class() == Class::Mutex {
            self.owned.insert(name.clone());
        }
        self.holds.insert(id, Hold { object, name });
    }

    fn begin(&mut self, id: AttemptId, physical: Arc<Physical>, cell: Arc<Cell>) {
        let keeper = self.keeper.clone();
        let mut waiting = Waiting { id, physical, cell, objects: Vec::new(), again: None, keeper };
        match self.choose(&mut waiting) {
            Ok(()) => self.waits.push(waiting),
            Err(error) => waiting.end(Err(error)),
        }
    }

    /// Opens what is to be waited for.
    fn choose(&mut self, waiting: &mut Waiting) -> Result<()> {
        let physical = waiting.physical.clone();
        let count = physical.count();
        let many = count > PERMITS;
        let first = if many { self.roll(count) } else { 0 };
        waiting.objects.clear();
        for step in 0..objects(&physical) {
            let index = nth(first, step, count);
            waiting.objects.push((index, physical.open(index)?));
        }
        waiting.again = match physical.layout {
            Layout::Event | Layout::Semaphore(_) => Some(Instant::now() + until_cadence()),
            _ if many => Some(Instant::now() + RESCAN),
            _ => None,
        };
        Ok(())
    }

    fn give_back(&mut self, id: AttemptId) -> Result<bool> {
        if let Some(at) = self.waits.iter().position(|waiting| waiting.id == id) {
            self.waits.remove(at).end(Err(Error::unavailable("the wait was given up").no_effect(true)));
            return Ok(false);
        }
        let Some(hold) = self.holds.remove(&id) else { return Ok(false) };
        self.owned.remove(&hold.name);
        hold.object.give_back().map_err(|code| failed("can't give back", &hold.name, code).no_effect(false))?;
        Ok(true)
    }

    /// Looks at other objects, or closes and opens them, where it is time.
    fn refresh(&mut self) {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waits)
            .into_iter()
            .partition(|waiting| waiting.again.is_some_and(|again| again <= now));
        self.waits = rest;
        if due.is_empty() {
            return;
        }
        let mut due = due;
        if due.iter().any(|waiting| matches!(waiting.physical.layout, Layout::Event | Layout::Semaphore(_))) {
            due.iter_mut().for_each(|waiting| waiting.objects.clear());
            std::thread::sleep(CLOSED);
        }
        for mut waiting in due {
            let found = match waiting.physical.layout {
                Layout::Permits(permits) => {
                    let first = self.roll(permits);
                    self.search(waiting.id, &waiting.physical, first, 0)
                }
                _ => Ok(false),
            };
            match found {
                Ok(true) => waiting.end(Ok(())),
                Ok(false) => match self.choose(&mut waiting) {
                    Ok(()) => self.waits.push(waiting),
                    Err(error) => waiting.end(Err(error)),
                },
                Err(error) => waiting.end(Err(error)),
            }
        }
    }

    fn sleep(&mut self) {
        let keeper = self.keeper.clone();
        let mut objects: Vec<&Object> = vec![&keeper.bell];
        // Which wait and which of its objects each stands for.
        let mut whose = vec![(0, 0)];
        let mut names = HashSet::new();
        for (number, waiting) in self.waits.iter().enumerate() {
            for (place, (index, object)) in waiting.objects.iter().enumerate() {
                if object.class() == Class::Mutex {
                    // What this thread owns it would take at once, and two of one name would both be taken.
                    let name = waiting.physical.object_name(*index);
                    if self.owned.contains(&name) || !names.insert(name) {
                        continue;
                    }
                }
                if objects.len() < MOST {
                    objects.push(object);
                    whose.push((number, place));
                }
            }
        }
        let limit = self.waits.iter().filter_map(|waiting| waiting.again).min();
        let limit = limit.map(|again| again.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        match object::wait(&objects, limit) {
            Ok(Waited::TimedOut | Waited::Taken(0)) => {}
            Ok(Waited::Taken(place)) => {
                let (number, place) = whose[place];
                let mut waiting = self.waits.remove(number);
                let (index, object) = waiting.objects.swap_remove(place);
                let name = waiting.physical.object_name(index);
                self.hold(waiting.id, object, name);
                waiting.end(Ok(()));
            }
            Err(code) => {
                for waiting in std::mem::take(&mut self.waits) {
                    let error = failed("can't wait for", &waiting.physical.shown(), code);
                    waiting.end(Err(error));
                }
            }
        }
    }

    /// Not random enough for anything but where to begin.
    fn roll(&mut self, sides: u32) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % u64::from(sides)) as u32
    }
}

/// The permit that lies so many steps after the first one.
fn nth(first: u32, step: u32, count: u32) -> u32 {
    ((u64::from(first) + u64::from(step)) % u64::from(count)) as u32
}

/// How many holders an object of .NET has: if it is free, it is taken for an instant.
fn probe(physical: &Physical) -> Result<u32> {
    let fail = |code| failed("can't probe", &physical.name, code);
    let object = physical.open(0)?;
    let free = object.try_take().map_err(fail)?;
    match object.class() {
        Class::Semaphore(permits) => {
            let left = if free { object.count_back().map_err(fail)? + 1 } else { 0 };
            Ok(u32::try_from(permits - left).unwrap_or(0))
        }
        _ if free => object.give_back().map(|()| 0).map_err(fail),
        _ => Ok(1),
    }
}

/// How long until the clock shows a multiple of the cadence.
fn until_cadence() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cadence = CADENCE.as_millis();
    Duration::from_millis(u64::try_from(cadence - now.as_millis() % cadence).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::keeper::tests::physical;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_wait_that_is_lost_is_told() {
        let keeper = Keeper::start(&mut Vec::new()).unwrap();
        let cell = Arc::<Cell>::default();
        keeper.load.fetch_add(1, Ordering::SeqCst);
        let lost = Waiting {
            id: AttemptId(1),
            physical: physical("lost"),
            cell: cell.clone(),
            objects: Vec::new(),
            again: None,
            keeper: keeper.clone(),
        };
        assert!(cell.poll(&Context::from_waker(Waker::noop())).is_pending());
        drop(lost);
        assert!(matches!(cell.poll(&Context::from_waker(Waker::noop())), Poll::Ready(Err(_))));
        assert_eq!(keeper.load.load(Ordering::SeqCst), 0);
    }
}
