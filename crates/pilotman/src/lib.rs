//! pilotman.
