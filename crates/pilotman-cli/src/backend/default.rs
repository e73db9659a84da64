//! The backend where none is named: files in a directory of the user's that does not depend on the environment.
//!
//! `HOME` and `XDG_STATE_HOME` differ between cron, systemd and a shell, and two jobs that look into different
//! directories don't exclude each other. So the directory comes from the passwd database alone.

use std::fmt::Write as _;

#[cfg(unix)]
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The URL of the default backend.
#[cfg(unix)]
pub(crate) fn url() -> Result<String, Failure> {
    use nix::unistd::{Uid, User};

    let uid = Uid::effective();
    let user = User::from_uid(uid).map_err(|error| Failure::internal("can't look up the user", error))?;
    let home = user.map(|user| user.dir);
    let directory = directory(home.as_deref(), uid.as_raw());
    Ok(format!("file://{}?record-holder=true", encode(&directory)))
}

/// The URL of the default backend.
#[cfg(not(unix))]
pub(crate) fn url() -> Result<String, Failure> {
    let message = format!("no backend is named; give --backend URL or set {}", super::VARIABLE);
    Err(Failure::new(crate::exit::Code::Misconfigured, message))
}

/// `<home>/.local/state/pilotman/locks`, or a directory in `/var/tmp` if there is no home of this user's own.
///
/// A home that belongs to the user but can't be written to is an error later on, not a reason to look elsewhere.
#[cfg(unix)]
fn directory(home: Option<&Path>, uid: u32) -> PathBuf {
    use std::os::unix::fs::MetadataExt;

    let is_own = |home: &&Path| {
        home.is_absolute()
            && home.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && home.parent().is_some())
    };
    match home.filter(is_own) {
        Some(home) => home.join(".local/state/pilotman/locks"),
        None => PathBuf::from(format!("/var/tmp/pilotman-{uid}")),
    }
}

/// A path, percent-encoded for a URL.
#[cfg(unix)]
fn encode(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    encode_bytes(path.as_os_str().as_bytes())
}

fn encode_bytes(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte as char),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// A file URL that doesn't say whether lock files record their holder, made to say yes. Other URLs stay.
pub(crate) fn with_record(url: String) -> String {
    if !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) || url.contains('#') {
        return url;
    }
    match url.split_once('?') {
        Some((_, query)) if query.split('&').any(|pair| pair.split('=').next() == Some("record-holder")) => url,
        Some((_, "")) => format!("{url}record-holder=true"),
        Some(_) => format!("{url}&record-holder=true"),
        None => format!("{url}?record-holder=true"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_in_the_home_if_that_is_the_users_own() {
        use std::os::unix::fs::MetadataExt;
        let home = tempfile::tempdir().unwrap();
        let uid = home.path().metadata().unwrap().uid();
        assert_eq!(directory(Some(home.path()), uid), home.path().join(".local/state/pilotman/locks"));

        let elsewhere = Path::new("/var/tmp/pilotman-4242");
        assert_eq!(directory(Some(home.path()), 4242), elsewhere, "the home of somebody else");
        for home in ["/nonexistent", "/", "", "home", "/dev/null"] {
            assert_eq!(directory(Some(Path::new(home)), 4242), elsewhere, "{home}");
        }
        assert_eq!(directory(None, 4242), elsewhere);
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encode(Path::new("/home/a b/ü?x=1#%&+")), "/home/a%20b/%C3%BC%3Fx%3D1%23%25%26%2B");
    }

    #[test]
    fn the_holder_is_recorded_unless_the_url_says_otherwise() {
        let recorded = |url: &str| with_record(url.into());
        assert_eq!(recorded("file:///a"), "file:///a?record-holder=true");
        assert_eq!(recorded("FILE:///a?"), "FILE:///a?record-holder=true");
        assert_eq!(recorded("file:///a?names=strict"), "file:///a?names=strict&record-holder=true");
        for url in ["file:///a?record-holder=false", "memory://", "redis://h?x=1", "fil", ""] {
            assert_eq!(recorded(url), url);
        }
    }
}
