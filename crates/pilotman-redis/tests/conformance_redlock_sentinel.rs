//! The conformance suite on a quorum of three nodes, one of which is a primary that Sentinels name.

mod quorum;

fn main() -> std::process::ExitCode {
    let setting = quorum::Setting { name: "redlock-sentinel", nodes: 3, down: 0, sentinel: true };
    pilotman_conformance::main(quorum::of(setting).async_only())
}
