//! `cargo xtask servers`: what the tests can start, and starting one by hand.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use pilotman_testkit::ServerKind;
use pilotman_testkit::servers::{self, SERVERS};

use crate::test::programs;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List the known servers and whether they are installed (the default).
    List,
    /// Start a throw-away server on loopback, print its URLs, stop it at Ctrl-C.
    Start {
        /// Its name in the list.
        name: String,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let search = programs::search_path()?;
    match &options.action {
        None | Some(Action::List) => {
            print!("{}", list(SERVERS, &search));
            Ok(())
        }
        Some(Action::Start { name }) => start(SERVERS, name, &search, until_interrupted),
    }
}

fn list(kinds: &[ServerKind], search: &[PathBuf]) -> String {
    if kinds.is_empty() {
        return "The tests of this build's backends need no server.\n".to_owned();
    }
    let mut text = String::new();
    for kind in kinds {
        let missing = servers::missing(kind, search);
        let state = if missing.is_empty() {
            "installed".to_owned()
        } else {
            let packages: Vec<String> = missing.iter().map(|program| program.package.to_string()).collect();
            format!("missing: {}", packages.join(", "))
        };
        text.push_str(&format!("{:<16} {state:<32} {}\n", kind.name, kind.about));
    }
    text
}

fn start(kinds: &[ServerKind], name: &str, search: &[PathBuf], wait: impl FnOnce() -> Result<()>) -> Result<()> {
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        bail!("no server is called {name:?} (known: {known})");
    };
    let server = servers::start(kind, search).with_context(|| format!("cannot start {name}"))?;
    for url in server.urls() {
        println!("{url}");
    }
    eprintln!("{name} keeps its data in {}; Ctrl-C stops it", server.directory().display());
    wait()
}

#[cfg(unix)]
fn until_interrupted() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot wait for Ctrl-C")?;
    signals.forever().next();
    Ok(())
}

#[cfg(not(unix))]
fn until_interrupted() -> Result<()> {
    eprintln!("(on this system: press Enter)");
    std::io::stdin().read_line(&mut String::new()).context("cannot wait for Enter")?;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use pilotman_testkit::servers::Started;
    use pilotman_testkit::{Package, Process, Program, Scratch};
    use std::cell::Cell;
    use std::process::Command;
    use std::time::Duration;

    const SH: Program = Program { command: "sh", package: Package::Debian("dash"), also_in: &[] };
    const GHOST: Program = Program { command: "ghost-server", package: Package::Debian("ghostd"), also_in: &[] };
    const KINDS: &[ServerKind] = &[
        ServerKind { name: "shell", about: "a shell", programs: &[SH], start: start_shell },
        ServerKind { name: "ghost", about: "never there", programs: &[GHOST], start: start_shell },
    ];

    fn start_shell(scratch: &Scratch) -> std::io::Result<Started> {
        let mut command = Command::new("sh");
        command.args(["-c", "exec sleep 600"]);
        let mut process = Process::spawn("shell", command, &scratch.path().join("log"))?;
        process.wait_ready(Duration::from_secs(30), || true)?;
        Ok(Started { processes: vec![process], urls: vec!["test://".to_owned()] })
    }

    #[test]
    fn the_list_says_what_is_missing() {
        let text = list(KINDS, &[]);
        assert!(text.contains("shell            installed"), "{text}");
        assert!(text.contains("ghost            missing: ghostd"), "{text}");
        assert!(list(&[], &[]).contains("no server"));
    }

    #[test]
    fn a_server_runs_until_told() {
        let waited = Cell::new(false);
        start(KINDS, "shell", &[], || {
            waited.set(true);
            Ok(())
        })
        .unwrap();
        assert!(waited.get());
    }

    #[test]
    fn an_unknown_server_lists_the_known_ones() {
        let error = start(KINDS, "redix", &[], || Ok(())).unwrap_err().to_string();
        assert!(error.contains("redix") && error.contains("shell, ghost"), "{error}");
    }
}
