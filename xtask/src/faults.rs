//! `cargo xtask faults`: the long runs of tests that break things, whose short form is among the tests.

use anyhow::{Context, Result};
use clap::Args;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// The backends (default: all that have a long run).
    #[arg(value_name = "BACKEND")]
    backends: Vec<String>,
    /// How many processes are killed in each test.
    #[arg(long, default_value_t = 1500)]
    kills: u32,
}

/// The backends, each with the package and the test program that breaks it. The program takes the number of kills from
/// the environment variable `PILOTMAN_FAULTS_KILLS`.
const RUNS: [(&str, &str, &str); 1] = [("os", "pilotman-os", "kill")];

pub(crate) fn run(options: &Options) -> Result<()> {
    for (_, package, program) in chosen(&options.backends)? {
        // One test at a time: they measure how soon others get on.
        let mut test = shell::cargo();
        test.args(["test", "--package", package, "--test", program, "--", "--nocapture", "--test-threads=1"]);
        test.env("PILOTMAN_FAULTS_KILLS", options.kills.to_string());
        shell::run(&mut test)?;
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<(&'static str, &'static str, &'static str)>> {
    if names.is_empty() {
        return Ok(RUNS.to_vec());
    }
    let find = |name: &String| {
        let known = || RUNS.map(|(backend, ..)| backend).join(", ");
        let run = RUNS.into_iter().find(|(backend, ..)| backend == name);
        run.with_context(|| format!("there is no long run for {name:?} (known: {})", known()))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_lists_the_known_ones() {
        let error = chosen(&["oss".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("oss") && error.contains("known: os"), "{error}");
        assert_eq!(chosen(&[]).unwrap(), chosen(&["os".to_owned()]).unwrap());
    }
}
