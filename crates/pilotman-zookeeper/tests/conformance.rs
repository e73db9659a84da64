//! The conformance suite on one ZooKeeper, with the layout of the .NET library.

mod suite;

use pilotman_zookeeper::Layout;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::of("zookeeper", "zookeeper", Layout::DotNet))
}
