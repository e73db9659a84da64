//! `pilotman release --force`: taking a lock away from its holder.

use std::io::{IsTerminal, Write, stderr, stdin};

use pilotman::backend::Holder;

use crate::args::Release;
use crate::backend::Backend;
use crate::events::{held_by, printable, say};
use crate::exit::{Code, Ending, Failure};
use crate::output::print;

pub(crate) fn release(args: &Release, backend: Option<String>) -> Result<Ending, Failure> {
    if !args.force {
        return Err(Failure::usage(
            "only a holder can give its lock back, by ending; release --force takes it away from whoever holds it, who \
             may go on working beside the next holder",
        ));
    }
    let primitive = args.kind.primitive();
    let locks = Backend::choose_to_look(backend)?.connect()?;
    if !locks.capabilities().force_release {
        return Err(Failure::new(
            Code::Misconfigured,
            format!("the {} backend can't break a lock; end the process that holds it", locks.backend_kind()),
        ));
    }
    let inspection = locks.inspect(&args.name, primitive)?;
    let name = printable(&args.name);
    if inspection.holders.is_empty() {
        print(&format!("nobody holds '{name}'\n"))?;
        return Ok(Ending::Success);
    }
    if !args.yes {
        say(&format!("'{name}' is {}, who is not stopped by this and may do harm", held_by(Some(&inspection))));
        if !agreed()? {
            say("nothing was done");
            return Ok(Code::NotAcquired.into());
        }
    }
    let broken = locks.force_release(&args.name, primitive)?;
    print(&told(&name, &broken))?;
    Ok(Ending::Success)
}

fn told(name: &str, broken: &[Holder]) -> String {
    if broken.is_empty() {
        return format!("'{name}' was free by then\n");
    }
    broken.iter().map(|holder| format!("took '{name}' from {}\n", printable(&holder.owner))).collect()
}

fn agreed() -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to be asked; give --yes to break the lock without asking"));
    }
    let failed = |error| Failure::internal("can't ask", error);
    write!(stderr(), "Take it away? [y/N] ").map_err(failed)?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
