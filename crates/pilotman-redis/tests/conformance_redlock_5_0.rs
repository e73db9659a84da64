//! The conformance suite on a quorum of five nodes, none of which is down.

mod quorum;

fn main() -> std::process::ExitCode {
    let setting = quorum::Setting { name: "redlock-5-down-0", nodes: 5, down: 0, sentinel: false };
    pilotman_conformance::main(quorum::of(setting).async_only())
}
