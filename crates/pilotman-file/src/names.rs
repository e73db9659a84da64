//! From logical names to files.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use pilotman_core::{Error, NameRule, Result};

mod dotnet;

/// The longest path that a system call takes, without the NUL behind it. (Linux has the largest of the common limits;
/// elsewhere the system refuses what is too long for it.)
const PATH_MAX: usize = 4095;
/// The longest file name.
const NAME_MAX: usize = 255;

/// The endings of files that stand beside a lock file.
pub(crate) const TOKEN: &str = ".token";
pub(crate) const OWNER: &str = ".owner";
pub(crate) const RW: &str = ".rw";
pub(crate) const GATE: &str = ".gate";
pub(crate) const PERMITS: &str = ".permits";
pub(crate) const SIBLINGS: [&str; 5] = [TOKEN, OWNER, RW, GATE, PERMITS];

/// The longest of the endings that can be put together.
const SIBLING_MAX: usize = PERMITS.len() + TOKEN.len();

/// The directory and the file name of a mutex's lock file; the other primitives' files have names derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) directory: PathBuf,
    pub(crate) file: OsString,
}

impl Base {
    /// The file name with an ending.
    pub(crate) fn with(&self, ending: &str) -> OsString {
        let mut file = self.file.clone();
        file.push(ending);
        file
    }
}

/// Maps `name` into `directory`, which is absolute.
pub(crate) fn map(directory: &Path, rule: NameRule, name: &str) -> Result<Base> {
    let file = match rule {
        NameRule::DotNet => dotnet::file_name(name, room(directory)).ok_or_else(|| too_long(directory))?,
        NameRule::Strict => {
            let file = strict(name);
            if file.len() + SIBLING_MAX > room(directory) {
                return Err(too_long(directory));
            }
            file
        }
        NameRule::Exact => return exact(directory, name),
        _ => return Err(Error::unsupported("the file backend does not know this rule for names")),
    };
    Ok(Base { directory: directory.to_owned(), file: file.into() })
}

fn room(directory: &Path) -> usize {
    let length = directory.as_os_str().len();
    let slash = usize::from(directory != Path::new("/"));
    PATH_MAX.saturating_sub(length + slash)
}

fn too_long(directory: &Path) -> Error {
    Error::misconfigured(format!(
        "the path of the lock directory has {} bytes, which leaves no room for file names",
        directory.as_os_str().len()
    ))
    .with_advice("use a directory with a shorter path")
}

/// A readable part, then 256 bits of SHA-512, which tell all names apart; an ending that the .NET rule never makes.
fn strict(name: &str) -> String {
    format!("{}-{}.lck", dotnet::readable(name), dotnet::hash(name, 52))
}

/// Whether a file name can be one that the .NET rule or the strict rule makes.
pub(crate) fn is_mapped(file: &str) -> bool {
    let hash_only =
        matches!(file.len(), 12 | 32) && file.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b));
    file.ends_with(".lock") || file.ends_with(".lck") || hash_only
}

fn exact(directory: &Path, name: &str) -> Result<Base> {
    let refuse = |why: &str| Err(Error::invalid_name(format!("the name is used as a path, and {why}")));
    if name.ends_with('/') || name.ends_with("/.") {
        return refuse("it ends like a directory's");
    }
    // Joining an absolute path gives that path.
    let joined = directory.join(name);
    let mut path = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => return refuse("it contains '..'"),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    let (Some(file), Some(parent)) = (path.file_name(), path.parent()) else {
        return refuse("it is the root directory");
    };
    if path == directory || name == "." {
        return refuse("it is the lock directory itself");
    }
    if let Some(ending) = SIBLINGS.iter().find(|ending| file.as_encoded_bytes().ends_with(ending.as_bytes())) {
        return refuse(&format!("it ends in '{ending}', which is kept for files beside a lock"));
    }
    if file.as_encoded_bytes().starts_with(b".pilotman-") {
        return refuse("it begins with '.pilotman-', which is kept for files of the backend's own");
    }
    if file.len() + SIBLING_MAX > NAME_MAX || path.as_os_str().len() + SIBLING_MAX > PATH_MAX {
        return refuse(&format!("it is too long: a file name can have {} bytes", NAME_MAX - SIBLING_MAX));
    }
    Ok(Base { directory: parent.to_owned(), file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::ErrorKind;

    fn mapped(rule: NameRule, name: &str) -> PathBuf {
        let base = map(Path::new("/locks"), rule, name).unwrap();
        base.directory.join(base.file)
    }

    #[test]
    fn strict_names_tell_apart_what_differs_late_or_only_in_signs() {
        let long = "x".repeat(10_000);
        let names = ["a/b", "a_b", "A_b", "a b", &long, &format!("{long}y"), "é", "e\u{301}", "..", "🦉🦉"];
        let files: std::collections::HashSet<_> = names.iter().map(|name| strict(name)).collect();
        assert_eq!(files.len(), names.len());
        for file in files {
            assert!(file.len() + SIBLING_MAX <= NAME_MAX && !file.contains('/'), "{file}");
        }
    }

    #[test]
    fn an_exact_name_is_a_path() {
        assert_eq!(mapped(NameRule::Exact, "a.lock"), Path::new("/locks/a.lock"));
        assert_eq!(mapped(NameRule::Exact, "./sub//a"), Path::new("/locks/sub/a"));
        assert_eq!(mapped(NameRule::Exact, "/run/app.pid"), Path::new("/run/app.pid"));
    }

    #[test]
    fn an_exact_name_that_is_no_file_is_refused() {
        let long = "x".repeat(250);
        for bad in
            ["..", "../a", "a/../b", "/", ".", "a/", "sub/.", "/locks", "a.token", "b.permits", ".pilotman-x", &long]
        {
            let error = map(Path::new("/locks"), NameRule::Exact, bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{bad}");
        }
    }

    #[test]
    fn a_directory_that_leaves_no_room_is_refused() {
        let directory = PathBuf::from(format!("/{}", "d/".repeat(2043)));
        let error = map(&directory, NameRule::Strict, "a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let error = map(&directory, NameRule::DotNet, "a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}
