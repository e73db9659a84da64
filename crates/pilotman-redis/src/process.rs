//! What this process is called on the servers.

use pilotman_core::backend::host_name;

/// `<host>:<process id>:<random>`: tells people whose lock it is, and is unique.
pub(crate) fn name(random: u64) -> String {
    format!("{}:{}:{random:016x}", host_name(), std::process::id())
}

/// What people are shown of it.
pub(crate) fn shown(name: &str) -> String {
    let mut parts = name.rsplitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(pid), Some(host)) => format!("pid {pid} on {host}"),
        _ => name.chars().take(200).flat_map(char::escape_debug).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_without_its_random_part() {
        let name = name(7);
        assert_eq!(name.matches(':').count(), 2, "{name}");
        assert!(!name.contains('|') && !name.contains(' '), "{name}");
        assert_eq!(shown("web-1:42:0000000000000007"), "pid 42 on web-1");
        assert_eq!(shown("something else"), "something else");
    }
}
