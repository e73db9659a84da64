//! pilotman-conformance.
