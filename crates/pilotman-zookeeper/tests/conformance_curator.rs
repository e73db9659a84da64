//! The conformance suite on one ZooKeeper, with the layout of Curator.

mod suite;

use pilotman_zookeeper::Layout;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::of("zookeeper-curator", "zookeeper", Layout::Curator).async_only())
}
