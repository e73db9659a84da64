//! `pilotman run x -- true` against `flock x true`, in turns.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use pilotman_bench::{Failure, figure, median, milliseconds};

const ROUNDS: usize = 201;
const WARM_UP: usize = 10;

fn main() -> Result<(), Failure> {
    // Cargo puts both programs into one directory.
    let pilotman = std::env::current_exe()?.with_file_name(format!("pilotman{}", std::env::consts::EXE_SUFFIX));
    if !pilotman.exists() {
        return Err(format!("{} is not there: build the package pilotman-cli first", pilotman.display()).into());
    }
    let directory = tempfile::tempdir()?;
    let (mut ratios, mut ours_ms, mut flock_ms) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        // Who is first changes, so that a drift of the machine's speed meets both.
        let (ours, flock) = if round % 2 == 0 {
            let ours = ours(&pilotman, directory.path())?;
            (ours, flock(directory.path())?)
        } else {
            let flock = flock(directory.path())?;
            (ours(&pilotman, directory.path())?, flock)
        };
        if round >= WARM_UP {
            ratios.push(ours / flock);
            ours_ms.push(ours);
            flock_ms.push(flock);
        }
    }
    figure("pair", median(&ratios), "×");
    figure("pair-pilotman", median(&ours_ms), "ms");
    figure("pair-flock", median(&flock_ms), "ms");
    Ok(())
}

fn ours(pilotman: &Path, directory: &Path) -> Result<f64, Failure> {
    let backend = format!("file://{}", directory.display());
    timed(Command::new(pilotman).args(["run", "--backend", &backend, "x", "--", "true"]))
}

fn flock(directory: &Path) -> Result<f64, Failure> {
    timed(Command::new("flock").arg(directory.join("bare")).arg("true"))
}

fn timed(command: &mut Command) -> Result<f64, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = start.elapsed();
    if status.success() { Ok(milliseconds(elapsed)) } else { Err(format!("{command:?} failed ({status})").into()) }
}
