//! What the processes that contend do.

use std::time::Duration;

use pilotman_bench::contend::{self, Contender, Work};
use pilotman_bench::{Failure, give_back};
use pilotman_core::{Guard, Mutex};

use crate::bare::{self, Queue};
use crate::ours;

/// The lock that all contend for.
pub(crate) const NAME: &str = "contended";
/// The list, with another name so that the keys differ.
pub(crate) const LIST: &str = "list";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The tasks of a process share their connection.
    Pilotman,
    /// Each task is a process's only one, as far as the server and the library can see.
    PilotmanEach,
    /// A bare list, on the first server.
    List,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Pilotman => "pilotman",
            Self::PilotmanEach => "pilotman-each",
            Self::List => "list",
        }
    }

    pub(crate) fn work(self, ports: Vec<u16>, tasks: usize, hold: Duration, time: Duration, rounds: usize) -> Work {
        Work { side: self.word().to_owned(), ports, tasks, hold, time, rounds }
    }
}

/// The process itself.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    contend::run(arguments, contenders)
}

async fn contenders(work: Work) -> Result<Vec<Taker>, Failure> {
    let sides = [Side::Pilotman, Side::PilotmanEach, Side::List];
    let side = sides.into_iter().find(|side| side.word() == work.side).ok_or("the side is not known")?;
    let first = work.ports.first().ok_or("there is no server")?;
    let shared = match side {
        Side::Pilotman => Some(ours::locks(&work.ports).await?),
        _ => None,
    };
    let mut takers = Vec::new();
    for _ in 0..work.tasks {
        takers.push(match (side, &shared) {
            (Side::List, _) => Taker::List(Queue::new(bare::connect(*first).await?, LIST)),
            (_, Some(locks)) => Taker::Pilotman(locks.mutex(NAME), None),
            (_, None) => Taker::Pilotman(ours::locks(&work.ports).await?.mutex(NAME), None),
        });
    }
    Ok(takers)
}

enum Taker {
    Pilotman(Mutex, Option<Guard>),
    List(Queue),
}

impl Contender for Taker {
    async fn take(&mut self) -> Result<u64, Failure> {
        match self {
            Self::Pilotman(mutex, held) => {
                let guard = held.insert(mutex.acquire().await?);
                Ok(guard.token().ok_or("Redis gives a token with each lock")?)
            }
            Self::List(queue) => queue.take().await.map(|()| 0),
        }
    }

    async fn give_back(&mut self) -> Result<(), Failure> {
        match self {
            Self::Pilotman(_, held) => give_back(held.take().ok_or("there is nothing to give back")?).await,
            Self::List(queue) => queue.give_back().await,
        }
    }
}
