//! The servers that all tests of a run share, and what stops them early.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use pilotman_testkit::servers::{self, SEARCH_VARIABLE};
use pilotman_testkit::{BackendNeeds, Running, ServerKind};

/// Servers that run until this is dropped.
#[derive(Debug)]
pub(super) struct Servers {
    running: Vec<(&'static str, Running)>,
    search: Vec<PathBuf>,
}

/// The servers that the tests of these backends need, each once, without those that are skipped.
pub(super) fn needed(backends: &[&BackendNeeds], skipped: &[String]) -> Vec<&'static ServerKind> {
    let mut kinds: Vec<&'static ServerKind> = Vec::new();
    for kind in backends.iter().flat_map(|needs| needs.servers).filter_map(|name| servers::find(name)) {
        let is_skipped = skipped.iter().any(|name| name == kind.name);
        if !is_skipped && kinds.iter().all(|other| other.name != kind.name) {
            kinds.push(kind);
        }
    }
    kinds
}

impl Servers {
    /// Starts them all at the same time and waits until each answers.
    ///
    /// # Errors
    ///
    /// When one doesn't come up; the others are stopped then.
    pub(super) fn start(kinds: &[&'static ServerKind], search: Vec<PathBuf>) -> Result<Self> {
        if !kinds.is_empty() {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            eprintln!("starting servers: {}", names.join(", "));
        }
        let started: Vec<Result<(&'static str, Running)>> = thread::scope(|scope| {
            let search = &search;
            let starts: Vec<_> =
                kinds.iter().map(|kind| (kind.name, scope.spawn(move || servers::start(kind, search)))).collect();
            let done = starts.into_iter().map(|(name, start)| match start.join() {
                Ok(running) => running.map(|running| (name, running)).with_context(|| format!("cannot start {name}")),
                Err(panic) => std::panic::resume_unwind(panic),
            });
            done.collect()
        });
        Ok(Self { running: started.into_iter().collect::<Result<_>>()?, search })
    }

    /// The environment by which tests find them.
    ///
    /// # Errors
    ///
    /// When a directory to look for programs in can't be written there.
    pub(super) fn environment(&self) -> Result<Vec<(String, OsString)>> {
        let search = std::env::join_paths(&self.search).context("the build directory's path can't be in a PATH")?;
        let mut variables = vec![(SEARCH_VARIABLE.to_owned(), search)];
        variables.extend(self.running.iter().flat_map(|(name, running)| servers::variables(name, running)));
        Ok(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_testkit::needs;

    #[test]
    fn a_server_is_started_once_and_not_when_it_is_skipped() {
        let Some(needs) = needs::of("redis").filter(|needs| !needs.servers.is_empty()) else { return };
        let names = |skipped: &[String]| -> Vec<&str> {
            needed(&[needs, needs], skipped).iter().map(|kind| kind.name).collect()
        };
        assert_eq!(names(&[]), needs.servers);
        let skipped = [needs.servers[0].to_owned()];
        assert_eq!(names(&skipped), needs.servers[1..]);
    }

    #[test]
    fn no_server_is_no_work() {
        let servers = Servers::start(&[], vec![PathBuf::from("/some/where")]).unwrap();
        let expected = vec![(SEARCH_VARIABLE.to_owned(), OsString::from("/some/where"))];
        assert_eq!(servers.environment().unwrap(), expected);
    }
}
