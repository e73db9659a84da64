//! The backend where none is named: files in a directory of the user's that does not depend on the environment.
//!
//! `HOME` and `XDG_STATE_HOME` differ between cron, systemd and a shell, and two jobs that look into different
//! directories don't exclude each other. So the directory comes from the passwd database alone.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

use crate::exit::Failure;

/// The URL of the default backend.
#[cfg(unix)]
pub(crate) fn url() -> Result<String, Failure> {
    use nix::unistd::{Uid, User};

    let uid = Uid::effective();
    let user = User::from_uid(uid).map_err(|error| Failure::internal("can't look up the user", error))?;
    let home = user.map(|user| user.dir);
    let directory = directory(home.as_deref(), uid.as_raw());
    Ok(format!("file://{}", encode(&directory)))
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

/// A file URL, with what it doesn't say itself: that lock files record their holder, and that this is `program`.
/// Other URLs stay.
pub(crate) fn with_holder(url: String, program: &OsStr) -> String {
    const LONGEST: usize = 60;
    if !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) || url.contains('#') {
        return url;
    }
    // The program's name only: its arguments may hold secrets, and others can read the record.
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let (address, query) = url.split_once('?').unwrap_or((&url, ""));
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    let says = |key| pairs.iter().any(|pair| pair.split('=').next() == Some(key));
    let command = format!("holder-command={}", encode_bytes(name.as_bytes()));
    let new = [("record-holder", "record-holder=true"), ("holder-command", &command)];
    let new: Vec<&str> = new.into_iter().filter_map(|(key, pair)| (!says(key)).then_some(pair)).collect();
    pairs.extend(new);
    format!("{address}?{}", pairs.join("&"))
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
        let recorded = |url: &str| with_holder(url.into(), "/usr/bin/my job.sh".as_ref());
        assert_eq!(recorded("file:///a"), "file:///a?record-holder=true&holder-command=my%20job.sh");
        assert_eq!(
            recorded("FILE:///a?names=strict&record-holder=false"),
            "FILE:///a?names=strict&record-holder=false&holder-command=my%20job.sh"
        );
        for url in ["file:///a?record-holder=false&holder-command=x", "memory://", "redis://h?x=1", "fil", ""] {
            assert_eq!(recorded(url), url);
        }
    }
}
