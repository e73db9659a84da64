//! The suite on the memory backend: the engine with a local backend.

use pilotman_conformance::UnderTest;
use pilotman_core::memory::MemoryBackend;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(UnderTest::new("memory", MemoryBackend::shared))
}
