//! Paths of nodes.

use pilotman_core::{Error, Result};

/// Whether ZooKeeper refuses this UTF-16 unit in a path.
pub(crate) fn is_refused(unit: u16) -> bool {
    matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

/// Checks a path as ZooKeeper does, and says what is wrong with it.
pub(crate) fn check(path: &str) -> std::result::Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Err("must begin with '/'") };
    if rest.is_empty() {
        return Ok(());
    }
    for segment in rest.split('/') {
        match segment {
            "" => return Err("must not have empty parts or end with '/'"),
            "." | ".." => return Err("must not be relative"),
            _ if segment.encode_utf16().any(is_refused) => return Err("has characters that ZooKeeper refuses"),
            _ => {}
        }
    }
    Ok(())
}

/// A path that a person has given, for what it is called in the error.
pub(crate) fn checked(path: String, what: &str) -> Result<String> {
    match check(&path) {
        Ok(()) => Ok(path),
        Err(why) => {
            Err(Error::misconfigured(format!("the {what} of ZooKeeper {why}")).with_advice("write it as in /app/locks"))
        }
    }
}

/// A child of a node.
pub(crate) fn child(directory: &str, name: &str) -> String {
    match directory {
        "/" => format!("/{name}"),
        _ => format!("{directory}/{name}"),
    }
}

/// The node above; `None` for the root.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

/// What comes after the last slash.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_paths_are_refused() {
        for bad in ["", "a", "/a/", "/x\0b", "/.", "/b/./a", "/x/..", "/../r", "/a//b", "/\u{0}a", "/a/\u{7f}"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for bad in ["/a\u{f8ff}/b", "/a\u{ffff}", "/\u{1f600}"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["/", "/a", "/a.js", "/...m", "/...", "/..foo", "/a..", "/.x", "/ä/b c"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn paths_are_put_together_and_taken_apart() {
        assert_eq!((child("/", "a"), child("/a", "b")), ("/a".to_owned(), "/a/b".to_owned()));
        assert_eq!((parent("/"), parent("/a"), parent("/a/b")), (None, Some("/"), Some("/a")));
        assert_eq!(name("/a/b"), "b");
    }
}
