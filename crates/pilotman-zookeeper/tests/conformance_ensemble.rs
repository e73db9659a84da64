//! The conformance suite on an ensemble of three, with the layout of the .NET library.

mod suite;

use pilotman_zookeeper::Layout;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::of("zookeeper-ensemble", "zookeeper-ensemble", Layout::DotNet).async_only())
}
