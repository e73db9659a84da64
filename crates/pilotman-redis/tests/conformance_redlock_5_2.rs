//! The conformance suite on a quorum of five nodes, two of which are down.

mod quorum;

fn main() -> std::process::ExitCode {
    let setting = quorum::Setting { name: "redlock-5-down-2", nodes: 5, down: 2, sentinel: false };
    pilotman_conformance::main(quorum::of(setting).async_only())
}
