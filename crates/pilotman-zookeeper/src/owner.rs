//! What this process is called in its nodes.

/// `pid 4711 on web-1`.
pub(crate) fn name() -> String {
    format!("pid {} on {}", std::process::id(), host())
}

fn host() -> String {
    let name = system_name();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
    match plain.is_empty() {
        true => "host".to_owned(),
        false => plain.chars().take(64).collect(),
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
