//! What may be locked, and how names of this library relate to those of others.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The name of a lock: any non-empty Unicode string without NUL, of at most [`Name::MAX_BYTES`] bytes.
///
/// Names are case-sensitive and are compared byte by byte, without normalization.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes of UTF-8: 64 KiB. A longer one is taken to be a mistake of the caller.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) if it is empty, contains a NUL, or is longer than
    /// [`Self::MAX_BYTES`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() {
            return Err(Error::invalid_name("a lock needs a name, this one is empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return Err(Error::invalid_name(format!(
                "the name has {} bytes, the longest allowed has {}",
                name.len(),
                Self::MAX_BYTES
            ))
            .with_lock(&name));
        }
        if let Some(at) = name.find('\0') {
            return Err(Error::invalid_name(format!("the name has a NUL at byte {at}")).with_lock(&name));
        }
        Ok(Self(name))
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", crate::error::shown(&self.0))
    }
}

/// How logical names become physical ones, such as file names or keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NameRule {
    /// As the .NET DistributedLock library does, so that a lock of ours and one of its own of the same name exclude
    /// each other. Names collide exactly where they do there.
    #[default]
    DotNet,
    /// Two different names never become the same physical name.
    Strict,
    /// The name is the physical name, which the caller is responsible for (a path, a key).
    Exact,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", "a\0b", &"x".repeat(1 << 20)] {
            assert_eq!(Name::new(bad).unwrap_err().kind(), ErrorKind::InvalidName);
        }
        assert_eq!(Name::new("x".repeat(10_000)).unwrap().as_str().len(), 10_000);
        assert_ne!(Name::new("é").unwrap(), Name::new("e\u{301}").unwrap());
    }
}
