//! Threads that own mutexes for the process, and wait for it.
//!
//! A mutex belongs to the thread that took it, and a guard may be dropped on any. So threads of our own take and give
//! back; each can wait for 63 objects at a time, and as many threads are started as that needs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use pilotman_core::backend::AttemptId;
use pilotman_core::{Error, Result};

use super::cell::Cell;
use super::failure::failed;
use super::object::{Class, MOST, Object};
use super::physical::Physical;
use super::security::Security;
use super::thread::{Thread, objects};
use crate::sync::lock;

/// A thread and what it is told.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) bell: Object,
    pub(super) commands: Mutex<VecDeque<Command>>,
    /// How many objects it waits for, or may.
    pub(super) load: AtomicUsize,
}

#[derive(Debug)]
pub(super) enum Command {
    Try(AttemptId, Arc<Physical>, Sender<Result<bool>>),
    Wait(AttemptId, Arc<Physical>, Arc<Cell>),
    /// Ends a hold or a wait; the answer is whether there was a hold.
    GiveBack(AttemptId, Sender<Result<bool>>),
    /// How many holders objects of .NET have.
    Probe(Arc<Physical>, Sender<Result<u32>>),
    #[cfg(test)]
    Panic,
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

    pub(super) fn start(keepers: &mut Vec<Arc<Self>>) -> Result<Arc<Self>> {
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
        receiver.recv().unwrap_or_else(|_| Err(Error::unavailable("the thread that keeps locks did not answer")))
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::OsOptions;
    use pilotman_core::{Name, Primitive, Target};
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    pub(in crate::windows) fn physical(what: &str) -> Arc<Physical> {
        let name = Name::new(format!("pilotman-test-keeper-{what}-{}", std::process::id())).unwrap();
        let target = Target { name, primitive: Primitive::Mutex };
        Arc::new(Physical::new(&OsOptions::new(), Arc::new(Security::PRIVATE), &target).unwrap())
    }

    fn begin(keeper: &Keeper, number: u128, physical: &Arc<Physical>) -> Arc<Cell> {
        let cell = Arc::<Cell>::default();
        keeper.load.fetch_add(1, Ordering::SeqCst);
        keeper.tell(Command::Wait(AttemptId(number), physical.clone(), cell.clone())).unwrap();
        cell
    }

    #[test]
    fn a_panic_strands_nobody_and_loses_no_hold() {
        let keeper = Keeper::start(&mut Vec::new()).unwrap();
        let (one, other) = (physical("one"), physical("other"));
        assert!(keeper.attempt(AttemptId(1), &one).unwrap());
        let cell = begin(&keeper, 2, &one);
        keeper.tell(Command::Panic).unwrap();
        // What is asked after it is done, too.
        assert!(keeper.attempt(AttemptId(3), &other).unwrap());
        assert!(cell.poll(&Context::from_waker(Waker::noop())).is_pending());
        let look = |physical: &Physical| Object::look(&physical.object_name(0)).unwrap().unwrap().is_owned().unwrap();
        assert!(look(&one) && look(&other), "they are still its thread's");
        assert!(keeper.give_back(AttemptId(1)).unwrap());
        let start = Instant::now();
        while cell.poll(&Context::from_waker(Waker::noop())).is_pending() {
            assert!(start.elapsed() < Duration::from_secs(60), "the waiter never has it");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(keeper.give_back(AttemptId(2)).unwrap() && keeper.give_back(AttemptId(3)).unwrap());
        assert!(!look(&one) && !look(&other));
        assert_eq!(keeper.load.load(Ordering::SeqCst), 0);
    }
}
