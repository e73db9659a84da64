//! What tells this process from others, for people.

/// `pid 4711 on web-1`, in characters that a header may have.
pub(crate) fn owner() -> String {
    format!("pid {} on {}", std::process::id(), host())
}

fn host() -> String {
    let name: String =
        system_name().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).take(64).collect();
    match name.is_empty() {
        true => "host".to_owned(),
        false => name,
    }
}

#[cfg(unix)]
fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn system_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
