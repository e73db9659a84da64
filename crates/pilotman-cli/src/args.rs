//! The command line, as clap reads it.

#[cfg(unix)]
use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pilotman::parse_duration;

use crate::exit;

/// Run a job under a lock, and look after locks.
///
/// Locks are between threads, processes and machines, on the coordination service you already run, or on files if you
/// run none.
#[derive(Debug, Parser)]
#[command(name = "pilotman", version, after_help = exit::TABLE, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where the locks are, such as `file:///var/lock/jobs` [env: PILOTMAN_BACKEND] [default: files in a directory of
    /// your user's, which -v shows]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) backend: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run COMMAND while holding the lock NAME
    #[cfg(unix)]
    Run(Box<Run>),
    /// Tell who holds a lock, since when, for how long still, and who waits
    Status(Status),
    /// List the locks that the backend knows
    List(List),
    /// Print the physical name: the file, key or row that stands for a lock
    Name(Physical),
    /// Wait until a lock is free
    #[cfg(unix)]
    Wait(Wait),
    /// Break a lock that somebody holds
    Release(Release),
    /// Tell whether the backend is set up safely: what is not, and what to do about it
    ///
    /// It looks and changes nothing. Exit status: 0 if there is no problem (warnings and notes are none), 78 if there
    /// is one or the backend refuses us, 69 if it can't be reached.
    Doctor(Doctor),
    /// List the backends of this build, with what they can do
    Backends(Backends),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page, as roff: `pilotman man | man -l -`
    Man(Man),
}

/// Which of the locks that one name has.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Kind {
    /// The read side of a reader-writer lock: any number of holders, none beside a -x
    ///
    /// A plain mutex (neither -s nor -x) of the same name is another lock.
    #[arg(short, long, conflicts_with_all = ["exclusive", "permits"])]
    pub(crate) shared: bool,

    /// The write side of the reader-writer lock whose read side is -s
    #[arg(short = 'x', long, conflicts_with = "permits")]
    pub(crate) exclusive: bool,

    /// One of N permits: a semaphore with up to N holders. All must give the same N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) permits: Option<u32>,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Voice {
    /// Say nothing about waiting and about locks that others hold; errors are still told
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say what is done: the backend, waiting, acquiring, releasing
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Write events to standard error as JSON, one a line: waiting, acquired, at-risk, lost, released, error, exit
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) json: bool,
}

/// How long to wait for the lock.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Patience {
    /// Don't wait: one attempt, and exit with 75 if others hold the lock
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most this long, such as 10, 1.5s, 500ms, 2m, 1h; then exit with 75 [default: as long as it takes]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,

    /// Exit with N instead of 75 when others hold the lock
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,
}

#[cfg(unix)]
#[derive(Debug, Args)]
#[command(after_help = exit::TABLE)]
pub(crate) struct Run {
    /// The name of the lock
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) name: Option<String>,

    /// Hold all these locks, comma-separated, instead of NAME: all or none, in an order that can't deadlock
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with_all = ["shared", "exclusive", "permits", "lease", "token"]
    )]
    pub(crate) all: Option<Vec<String>>,

    #[command(flatten)]
    pub(crate) patience: Patience,

    #[command(flatten)]
    pub(crate) kind: Kind,

    /// How long the hold lasts unless renewed, on backends with leases [default: the backend's]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lease: Option<Duration>,

    /// Keep the lock at least this long, even if COMMAND ends before
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) hold_at_least: Option<Duration>,

    /// Keep the lock at most this long: COMMAND is ended as when the lock is lost, before the time is up
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) hold_at_most: Option<Duration>,

    /// What COMMAND gets when the lock is being lost: `kill` (TERM, and KILL in time), `signal:SIG`, or `ignore`
    #[arg(long, value_name = "ACTION", default_value = "kill")]
    pub(crate) on_lost: crate::run::loss::OnLost,

    /// How long before the end of the hold COMMAND is told [default: a sixth of the lease, else up to 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) grace: Option<Duration>,

    /// Get a fencing token (PILOTMAN_TOKEN) even where it costs a write
    #[arg(long)]
    pub(crate) token: bool,

    /// Don't pass the lock on to COMMAND: it ends with pilotman, not with the last process that COMMAND started
    #[arg(long)]
    pub(crate) close: bool,

    /// Write the events of --json to descriptor N; the last one tells whose the exit status is
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) status_fd: Option<i32>,

    #[command(flatten)]
    pub(crate) voice: Voice,

    /// What to run, after `--`: a program and its arguments, passed on as they are, without a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The name of the lock
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) kind: Kind,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that somebody holds
    #[arg(long)]
    pub(crate) held: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Physical {
    /// The name of the lock
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) kind: Kind,
}

#[cfg(unix)]
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The name of the lock
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) patience: Patience,

    #[command(flatten)]
    pub(crate) kind: Kind,

    #[command(flatten)]
    pub(crate) voice: Voice,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The name of the lock
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) kind: Kind,

    /// Take the lock away from whoever holds it, who may go on working
    #[arg(long)]
    pub(crate) force: bool,

    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Tell only what is not as it should be
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backends {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The subcommand whose page is wanted [default: the page of pilotman itself]
    pub(crate) subcommand: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[cfg(unix)]
    fn run(line: &[&str]) -> Result<Run, clap::Error> {
        let line = ["pilotman", "run"].iter().chain(line);
        match Cli::try_parse_from(line)?.command {
            Command::Run(run) => Ok(*run),
            other => panic!("{other:?}"),
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_follows_the_dashes_is_the_childs() {
        let run = run(&["-w", "2m", "x", "--", "prog", "-n", "--", "--json", ""]).unwrap();
        assert_eq!(run.command, ["prog", "-n", "--", "--json", ""]);
        assert_eq!(run.patience.wait, Some(Duration::from_secs(120)));
        assert!(!run.patience.no_wait && !run.voice.json);
    }

    #[cfg(unix)]
    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for line in [
            &["-n", "-w", "1", "x"][..],
            &["-s", "-x", "x"],
            &["-s", "--permits", "2", "x"],
            &["-x", "--permits", "2", "x"],
            &["--all", "a,b", "x"],
            &["--all", "a,b", "-s"],
            &["--all", "a,b", "--permits", "2"],
            &["-q", "-v", "x"],
            &["--permits", "0", "x"],
            &["--permits", "-1", "x"],
            &["--grace", "soon", "x"],
            &["--on-lost", "weep", "x"],
            &["-E", "256", "x"],
            &["--status-fd", "0", "x"],
            &[],
        ] {
            let line: Vec<_> = line.iter().copied().chain(["--", "true"]).collect();
            assert!(run(&line).is_err(), "{line:?} was taken");
        }
        assert!(run(&["x", "--"]).is_err() && run(&["x"]).is_err(), "a command is needed");
        assert!(run(&["x", "true"]).is_err(), "the dashes are needed");
    }
}
