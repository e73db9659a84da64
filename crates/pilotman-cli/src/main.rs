//! The command `pilotman`. See the README for its manual.

#![cfg_attr(not(unix), allow(dead_code, reason = "run and wait, which most of it is for, are for Unix only"))]

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

mod args;
mod backend;
mod backends;
mod doctor;
mod duration;
mod events;
mod exit;
mod kind;
mod list;
mod output;
mod pages;
mod physical;
mod release;
mod status;
mod table;

#[cfg(unix)]
mod run;
#[cfg(unix)]
mod wait;

use args::{Cli, Command};
use exit::{Code, Ending, Failure};

fn main() -> ExitCode {
    let ending = match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            // If help can't be printed, there is nobody to tell.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ending::Success,
                _ => Code::Usage.into(),
            }
        }
    };
    #[cfg(unix)]
    run::leave(ending);
    ExitCode::from(ending.status())
}

fn dispatch(cli: Cli) -> Ending {
    let backend = cli.backend;
    let done = match cli.command {
        #[cfg(unix)]
        Command::Run(args) => return run::run(*args, backend),
        #[cfg(unix)]
        Command::Wait(args) => return wait::wait(args, backend),
        Command::Status(args) => status::status(&args, backend),
        Command::List(args) => list::list(&args, backend),
        Command::Name(args) => physical::name(&args, backend),
        Command::Release(args) => release::release(&args, backend),
        Command::Doctor(args) => doctor::doctor(&args, backend),
        Command::Backends(args) => backends::backends(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    };
    done.unwrap_or_else(|Failure { code, message }| {
        events::say(&message);
        code.into()
    })
}
