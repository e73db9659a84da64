//! The suite on the memory backend as a server that tells of changes: every call on the I/O thread.

use pilotman_conformance::UnderTest;
use pilotman_conformance::faults::Faulty;
use pilotman_core::Waiting;
use pilotman_core::memory::MemoryBackend;

fn main() -> std::process::ExitCode {
    let connect = |place: &str| Faulty::new(MemoryBackend::shared(place)).waiting(Waiting::Watch);
    pilotman_conformance::main(UnderTest::new("memory, watched", connect))
}
