//! What this machine is called.

/// At most so many characters of it are kept.
const LONGEST: usize = 64;

/// The machine's name, for people who look at who holds a lock: at most 64 of ASCII letters, digits and `-._`, which stand for
/// nothing in keys, paths and headers; `host` if it has none of these.
pub fn host_name() -> String {
    plain(&system_name())
}

fn plain(name: &str) -> String {
    let plain = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    let plain: String = plain.take(LONGEST).collect();
    if plain.is_empty() { "host".to_owned() } else { plain }
}

#[cfg(unix)]
fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn system_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_nothing_that_stands_for_something() {
        assert_eq!(plain("web-1.example_a"), "web-1.example_a");
        assert_eq!(plain("a b:c|d/\u{e9}\n"), "abcd");
        assert_eq!(plain("::"), "host");
        assert_eq!(plain(&"x".repeat(100)).len(), LONGEST);
        assert!(!host_name().is_empty());
    }
}
