//! What tells this process from others, for people.

use pilotman_core::backend::host_name;

/// `pid 4711 on web-1`, in characters that a header may have.
pub(crate) fn owner() -> String {
    format!("pid {} on {}", std::process::id(), host_name())
}
