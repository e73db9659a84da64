//! Threads that own mutexes for the process, and wait for it.
//!
//! A mutex belongs to the thread that took it, and a guard may be dropped on any. So threads of our own take and give
//! back; each can wait for 63 objects at a time, and as many threads are started as that needs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pilotman_core::backend::AttemptId;
use pilotman_core::{Error, Result};

use super::failure::failed;
use super::object::{self, Class, MOST, Object, Waited};
use super::physical::{Layout, Physical};
use super::security::Security;
use crate::sync::lock;

/// So many permits of a semaphore are waited for at once; of one that has more, others after each [`RESCAN`].
const PERMITS: u32 = 32;
const RESCAN: Duration = Duration::from_millis(100);
/// So many permits are tried in one attempt.
const TRIED: u32 = 4096;
/// How often waiters on objects of .NET close and open them anew, as .NET does: what a dead holder left goes when nobody
/// has it open. All processes do so at the same time, when the clock shows a multiple of this.
const CADENCE: Duration = Duration::from_secs(2);
/// How long they keep them closed.
const CLOSED: Duration = Duration::from_millis(10);

/// A thread and what it is told.
#[derive(Debug)]
pub(crate) struct Keeper {
    bell: Object,
    commands: Mutex<VecDeque<Command>>,
    /// How many objects it waits for, or may.
    load: AtomicUsize,
}

#[derive(Debug)]
enum Command {
    Try(AttemptId, Arc<Physical>, Sender<Result<bool>>),
    Wait(AttemptId, Arc<Physical>, Arc<Cell>),
    /// Ends a hold or a wait; the answer is whether there was a hold.
    GiveBack(AttemptId, Sender<Result<bool>>),
    /// How many of the objects are taken.
    Probe(Arc<Physical>, Sender<Result<u32>>),
}

/// Where a waiter learns that it has the lock.
#[derive(Debug, Default)]
pub(crate) struct Cell(Mutex<(Option<Result<()>>, Option<Waker>)>);

impl Cell {
    fn complete(&self, result: Result<()>) {
        let waker = {
            let mut state = lock(&self.0);
            state.0 = Some(result);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        let mut state = lock(&self.0);
        match state.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// All of this process.
static KEEPERS: Mutex<Vec<Arc<Keeper>>> = Mutex::new(Vec::new());

impl Keeper {
    /// The keeper for attempts that don't wait.
    pub(crate) fn first() -> Result<Arc<Self>> {
        let mut keepers = lock(&KEEPERS);
        match keepers.first() {
            Some(first) => Ok(first.clone()),
            None => Self::start(&mut keepers),
        }
    }

    /// One that has room for a wait.
    fn with_room(physical: &Physical) -> Result<Arc<Self>> {
        let needed = objects(physical) as usize;
        let mut keepers = lock(&KEEPERS);
        let roomy = keepers.iter().find(|keeper| keeper.load.load(Ordering::SeqCst) + needed < MOST).cloned();
        let keeper = match roomy {
            Some(keeper) => keeper,
            None => Self::start(&mut keepers)?,
        };
        keeper.load.fetch_add(needed, Ordering::SeqCst);
        Ok(keeper)
    }

    fn start(keepers: &mut Vec<Arc<Self>>) -> Result<Arc<Self>> {
        let bell = Object::open(Class::Event, None, &Security::PRIVATE)
            .map_err(|code| failed("can't make an event", "of our own", code))?;
        let keeper = Arc::new(Self { bell, commands: Mutex::default(), load: AtomicUsize::new(0) });
        let its = keeper.clone();
        std::thread::Builder::new().name("pilotman-os".into()).spawn(move || Thread::new(its).run()).map_err(
            |error| Error::unavailable("can't start a thread that keeps locks").with_source(error).no_effect(true),
        )?;
        keepers.push(keeper.clone());
        Ok(keeper)
    }

    fn tell(&self, command: Command) -> Result<()> {
        let mut commands = lock(&self.commands);
        commands.push_back(command);
        self.bell.give_back().map_err(|code| {
            // Nobody has seen it: the mutex is ours.
            commands.pop_back();
            failed("can't ring", "a keeper of locks", code)
        })
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<Result<T>>) -> Command) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        self.tell(command(sender))?;
        receiver.recv().unwrap_or_else(|_| Err(Error::unavailable("the thread that keeps locks has ended")))
    }

    pub(crate) fn attempt(&self, id: AttemptId, physical: &Arc<Physical>) -> Result<bool> {
        self.ask(|reply| Command::Try(id, physical.clone(), reply))
    }

    /// Begins a wait, at a keeper that has room.
    pub(crate) fn wait(id: AttemptId, physical: &Arc<Physical>) -> Result<(Arc<Self>, Arc<Cell>)> {
        let (keeper, cell) = (Self::with_room(physical)?, Arc::<Cell>::default());
        match keeper.tell(Command::Wait(id, physical.clone(), cell.clone())) {
            Ok(()) => Ok((keeper, cell)),
            Err(error) => {
                keeper.load.fetch_sub(objects(physical) as usize, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    pub(crate) fn give_back(&self, id: AttemptId) -> Result<bool> {
        self.ask(|reply| Command::GiveBack(id, reply))
    }

    pub(crate) fn probe(&self, physical: &Arc<Physical>) -> Result<u32> {
        self.ask(|reply| Command::Probe(physical.clone(), reply))
    }
}

/// How many objects a wait takes.
fn objects(physical: &Physical) -> u32 {
    physical.count().min(PERMITS)
}

struct Thread {
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
}

impl Thread {
    fn new(keeper: Arc<Keeper>) -> Self {
        let dice = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 | 1;
        Self { keeper, holds: HashMap::new(), waits: Vec::new(), owned: HashSet::new(), dice }
    }

    fn run(mut self) {
        loop {
            let commands = std::mem::take(&mut *lock(&self.keeper.commands));
            for command in commands {
                self.obey(command);
            }
            self.refresh();
            self.sleep();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            // Whoever asked and is gone gives back what it got under its id, if anything.
            Command::Try(id, physical, reply) => drop(reply.send(self.attempt(id, &physical))),
            Command::Wait(id, physical, cell) => self.begin(id, physical, cell),
            Command::GiveBack(id, reply) => drop(reply.send(self.give_back(id))),
            Command::Probe(physical, reply) => drop(reply.send(self.probe(&physical))),
        }
    }

    fn attempt(&mut self, id: AttemptId, physical: &Physical) -> Result<bool> {
        if self.holds.contains_key(&id) {
            return Ok(true);
        }
        let count = physical.count();
        // Of many permits one is soon found, wherever the search begins; of few all are looked at.
        let first = if count > PERMITS { self.roll(count) } else { 0 };
        for step in 0..count.min(TRIED) {
            let index = ((u64::from(first) + u64::from(step)) % u64::from(count)) as u32;
            let name = physical.object_name(index);
            if self.owned.contains(&name) {
                continue;
            }
            let object = physical.open(index)?;
            if object.try_take().map_err(|code| failed("can't take", &name, code))? {
                self.hold(id, object, name);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hold(&mut self, id: AttemptId, object: Arc<Object>, name: String) {
        if object.class() == Class::Mutex {
            self.owned.insert(name.clone());
        }
        self.holds.insert(id, Hold { object, name });
    }

    fn begin(&mut self, id: AttemptId, physical: Arc<Physical>, cell: Arc<Cell>) {
        let mut waiting = Waiting { id, physical, cell, objects: Vec::new(), again: None };
        match self.choose(&mut waiting) {
            Ok(()) => self.waits.push(waiting),
            Err(error) => self.end(waiting, Err(error)),
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
            let index = ((u64::from(first) + u64::from(step)) % u64::from(count)) as u32;
            waiting.objects.push((index, physical.open(index)?));
        }
        waiting.again = match physical.layout {
            Layout::Event | Layout::Semaphore(_) => Some(Instant::now() + until_cadence()),
            _ if many => Some(Instant::now() + RESCAN),
            _ => None,
        };
        Ok(())
    }

    /// A wait is over.
    fn end(&mut self, waiting: Waiting, result: Result<()>) {
        self.keeper.load.fetch_sub(objects(&waiting.physical) as usize, Ordering::SeqCst);
        waiting.cell.complete(result);
    }

    fn give_back(&mut self, id: AttemptId) -> Result<bool> {
        if let Some(at) = self.waits.iter().position(|waiting| waiting.id == id) {
            let waiting = self.waits.remove(at);
            self.end(waiting, Err(Error::unavailable("the wait was given up").no_effect(true)));
            return Ok(false);
        }
        let Some(hold) = self.holds.remove(&id) else { return Ok(false) };
        self.owned.remove(&hold.name);
        hold.object.give_back().map_err(|code| failed("can't give back", &hold.name, code).no_effect(false))?;
        Ok(true)
    }

    /// How many of the objects are taken: those that are free are taken for an instant.
    fn probe(&mut self, physical: &Physical) -> Result<u32> {
        let mut taken = 0;
        for index in 0..physical.count().min(TRIED) {
            let name = physical.object_name(index);
            if self.owned.contains(&name) {
                taken += 1;
                continue;
            }
            let fail = |code| failed("can't probe", &name, code);
            let object = physical.open(index)?;
            let free = object.try_take().map_err(fail)?;
            match object.class() {
                Class::Semaphore(permits) => {
                    let left = if free { object.count_back().map_err(fail)? + 1 } else { 0 };
                    taken += u32::try_from(permits - left).unwrap_or(0);
                }
                _ if free => object.give_back().map_err(fail)?,
                _ => taken += 1,
            }
            // Who holds more is hardly of interest, and looking costs.
            if physical.count() > PERMITS && index >= PERMITS * 4 {
                break;
            }
        }
        Ok(taken)
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
            match self.choose(&mut waiting) {
                Ok(()) => self.waits.push(waiting),
                Err(error) => self.end(waiting, Err(error)),
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
                self.end(waiting, Ok(()));
            }
            Err(code) => {
                for waiting in std::mem::take(&mut self.waits) {
                    let error = failed("can't wait for", &waiting.physical.shown(), code);
                    self.end(waiting, Err(error));
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

/// How long until the clock shows a multiple of the cadence.
fn until_cadence() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cadence = CADENCE.as_millis();
    Duration::from_millis(u64::try_from(cadence - now.as_millis() % cadence).unwrap_or(0))
}
