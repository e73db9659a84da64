//! What this process is called in its nodes.

use pilotman_core::backend::host_name;

/// `pid 4711 on web-1`.
pub(crate) fn name() -> String {
    format!("pid {} on {}", std::process::id(), host_name())
}
