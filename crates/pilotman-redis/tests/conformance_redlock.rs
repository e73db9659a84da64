//! The conformance suite on a quorum of three nodes.

mod quorum;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(quorum::of(quorum::Setting { name: "redlock-3", nodes: 3, down: 0, sentinel: false }))
}
