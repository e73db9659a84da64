//! The suite on the memory backend as a server that can only be polled: every call on the I/O thread.

use pilotman_conformance::UnderTest;
use pilotman_conformance::faults::Faulty;
use pilotman_core::Waiting;
use pilotman_core::memory::MemoryBackend;

fn main() -> std::process::ExitCode {
    let connect = |place: &str| Faulty::new(MemoryBackend::shared(place)).waiting(Waiting::Poll);
    pilotman_conformance::main(UnderTest::new("memory, polled", connect))
}
