//! The tasks of this repository: `cargo xtask test | lint | servers | bench | faults | docs`.

#![forbid(unsafe_code)]

mod bench;
mod docs;
mod faults;
mod lint;
mod servers;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tasks of this repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all tests, after checking that the programs and servers that they need are there.
    Test(test::Options),
    /// Check format, clippy, and the rules of this repository.
    Lint(lint::Options),
    /// List the servers that tests use, or start one.
    Servers(servers::Options),
    /// Measure, and compare with budgets.toml.
    Bench(bench::Options),
    /// Run the long form of the tests that break things.
    Faults(faults::Options),
    /// Build the API documentation without a warning, and write the generated tables.
    Docs(docs::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Lint(options) => lint::run(&options),
        Task::Servers(options) => servers::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Faults(options) => faults::run(&options),
        Task::Docs(options) => docs::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
