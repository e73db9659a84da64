//! One lock that 4 processes with 4 tasks each want all the time, against 16 connections that wait for it in bare statements.

use std::time::Duration;

use pilotman_bench::contend::{self, Contender, Turns, Work};
use pilotman_bench::{Failure, give_back};
use pilotman_core::{Guard, Mutex};

use crate::bare::Bare;
use crate::ours;

const PROCESSES: usize = 4;
const TASKS: usize = 4;
/// Both sides run in turns.
const TURNS: usize = 3;
const TURN: Duration = Duration::from_millis(600);
const NAME: &str = "contended";
const BARE: &str = "bare";
const PILOTMAN: &str = "pilotman";

pub(crate) fn measure(port: u16) -> Result<(), Failure> {
    variant("hand-off", port, Duration::ZERO)?;
    variant("hand-off-1ms", port, Duration::from_millis(1))
}

fn variant(what: &str, port: u16, hold: Duration) -> Result<(), Failure> {
    let work = |side: &str| Work {
        side: side.to_owned(),
        ports: vec![port],
        tasks: TASKS,
        hold,
        time: TURN,
        rounds: usize::MAX,
    };
    let (mut bare, mut ours) = (Turns::default(), Turns::default());
    // What the servers count is not the same for all of them: nothing is counted here.
    for _ in 0..TURNS {
        bare.take(PROCESSES, &work(BARE), || Ok(0))?;
        ours.take(PROCESSES, &work(PILOTMAN), || Ok(0))?;
    }
    contend::compare(what, &ours, &bare, BARE);
    Ok(())
}

/// The process itself.
pub(crate) fn work(arguments: &[&str]) -> Result<(), Failure> {
    contend::run(arguments, contenders)
}

async fn contenders(work: Work) -> Result<Vec<Taker>, Failure> {
    let port = *work.ports.first().ok_or("there is no server")?;
    let (locks, _) = ours::locks(port, None).await?;
    let mut takers = Vec::new();
    for _ in 0..work.tasks {
        takers.push(match work.side.as_str() {
            PILOTMAN => Taker::Pilotman(locks.mutex(NAME), None),
            BARE => Taker::Bare(Bare::connect(port).await?),
            side => return Err(format!("{side:?} is no side").into()),
        });
    }
    Ok(takers)
}

enum Taker {
    Pilotman(Mutex, Option<Guard>),
    Bare(Bare),
}

impl Contender for Taker {
    async fn take(&mut self) -> Result<u64, Failure> {
        match self {
            Self::Pilotman(mutex, held) => *held = Some(mutex.acquire().await?),
            Self::Bare(bare) => bare.lock(BARE).await?,
        }
        Ok(0)
    }

    async fn give_back(&mut self) -> Result<(), Failure> {
        match self {
            Self::Pilotman(_, held) => give_back(held.take().ok_or("there is nothing to give back")?).await,
            Self::Bare(bare) => bare.unlock(BARE).await,
        }
    }
}
