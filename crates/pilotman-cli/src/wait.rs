//! `pilotman wait`: until a lock is free.

use std::time::Instant;

use crate::args::Wait;
use crate::backend::Backend;
use crate::events::{Event, Reporter};
use crate::exit::{Code, Ending, Failure};
use crate::run::acquire::{Acquired, Patience, acquire};
use crate::run::signals::Signals;
use crate::run::wanted::Wanted;

/// Takes its turn in the queue, and gives the lock back as soon as it has it.
pub(crate) fn wait(args: Wait, backend: Option<String>) -> Ending {
    let wanted = Wanted::one(args.name.clone(), args.kind.primitive());
    let mut reporter = Reporter::new(args.name.clone(), args.voice, None);
    let ending = until_free(&args, &wanted, backend, &mut reporter).unwrap_or_else(|failure| {
        reporter.tell(&Event::Failed(&failure));
        failure.code.into()
    });
    reporter.tell(&Event::Exit(ending));
    ending
}

fn until_free(
    args: &Wait,
    wanted: &Wanted,
    backend: Option<String>,
    reporter: &mut Reporter,
) -> Result<Ending, Failure> {
    let backend = Backend::choose_to_look(backend)?;
    let signals = Signals::take()?;
    let locks = backend.connect()?;
    reporter.explain(|| format!("backend: {}", backend.shown()));
    let start = Instant::now();
    let asks = reporter.asks_for_holders();
    let patience = Patience::from(args.patience);
    let acquired = acquire(&locks, wanted, patience, &signals, asks, |inspection| {
        reporter.tell(&Event::Waiting { backend: locks.backend_kind(), inspection });
    })?;
    let ending = match acquired {
        Acquired::Held(hold) => {
            let _ = hold.release()?;
            reporter.tell(&Event::Free { waited: start.elapsed() });
            Ending::Success
        }
        Acquired::Interrupted(signal) => Ending::Signal(signal as i32),
        Acquired::Not(inspection) => {
            let waited = start.elapsed();
            reporter.tell(&Event::NotAcquired { waited, inspection: inspection.as_ref() });
            Ending::Own(args.patience.conflict_exit_code.unwrap_or(Code::NotAcquired as u8))
        }
    };
    locks.close();
    Ok(ending)
}
