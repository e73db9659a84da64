//! The conformance suite on a quorum of five nodes, one of which is down.

mod quorum;

fn main() -> std::process::ExitCode {
    let setting = quorum::Setting { name: "redlock-5-down-1", nodes: 5, down: 1, sentinel: false };
    pilotman_conformance::main(quorum::of(setting).async_only())
}
