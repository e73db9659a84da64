//! Who may do what with the nodes of locks.

use std::fmt;

use pilotman_core::{Error, Result};
use zookeeper_client::{Acl, AuthId, Permission};

/// An entry in the access control list of each node that is made: who, and what they may do with it.
///
/// Written as `scheme:id:permissions`, the permissions as letters: `c`reate, `d`elete, `r`ead, `w`rite, `a`dmin.
///
/// ```
/// use pilotman_zookeeper::AccessControl;
///
/// # fn main() -> pilotman_core::Result<()> {
/// let everybody = AccessControl::parse("world:anyone:cdrwa")?;
/// let who_makes_it = AccessControl::parse("auth::cdrwa")?;
/// assert_eq!(everybody, AccessControl::everybody());
/// # let _ = who_makes_it;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccessControl {
    scheme: String,
    id: String,
    permissions: Vec<char>,
}

const LETTERS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

impl AccessControl {
    /// Everybody may do everything: `world:anyone:cdrwa`. The default, as in the .NET library.
    #[must_use]
    pub fn everybody() -> Self {
        Self::all("world", "anyone")
    }

    /// Whoever made a node may do everything with it, others nothing: `auth::cdrwa`. It needs authentication.
    #[must_use]
    pub fn creator() -> Self {
        Self::all("auth", "")
    }

    fn all(scheme: &str, id: &str) -> Self {
        let permissions = LETTERS.iter().map(|(letter, _)| *letter).collect();
        Self { scheme: scheme.to_owned(), id: id.to_owned(), permissions }
    }

    /// Reads `scheme:id:permissions`. The id of the scheme `digest` has a colon itself.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is not written so. Whether the server knows the scheme and the id is told by the first lock.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // The id may be secret enough not to be shown.
            Error::misconfigured(format!("an entry of the access control list {why}"))
                .with_advice("write it as scheme:id:permissions, as in world:anyone:cdrwa or digest:user:hash:cdrwa")
        };
        let (rest, letters) = text.rsplit_once(':').ok_or_else(|| bad("has no permissions"))?;
        let (scheme, id) = rest.split_once(':').ok_or_else(|| bad("has no id"))?;
        let is_word = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_word {
            return Err(bad("has no scheme"));
        }
        if id.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("has an id that can't be one"));
        }
        let known = |letter: &char| LETTERS.iter().any(|(known, _)| known == letter);
        if letters.is_empty() || !letters.chars().all(|letter| known(&letter)) {
            return Err(bad("has permissions that are not known"));
        }
        let permissions =
            LETTERS.iter().map(|(letter, _)| *letter).filter(|letter| letters.contains(*letter)).collect();
        Ok(Self { scheme: scheme.to_owned(), id: id.to_owned(), permissions })
    }

    /// As the driver has it.
    pub(crate) fn to_acl(&self) -> Acl {
        let granted = LETTERS.iter().filter(|(letter, _)| self.permissions.contains(letter));
        let permission = granted.fold(Permission::NONE, |sum, (_, permission)| sum | *permission);
        Acl::new(permission, AuthId::new(&self.scheme, &self.id))
    }
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id of a digest can be used to guess its password.
        let id = if self.scheme == "digest" { "…" } else { &self.id };
        write!(f, "{}:{id}:{}", self.scheme, self.permissions.iter().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let digest = AccessControl::parse("digest:me:aGFzaA==:wr").unwrap();
        assert_eq!((digest.scheme.as_str(), digest.id.as_str()), ("digest", "me:aGFzaA=="));
        assert_eq!(digest.to_acl().permission(), Permission::READ | Permission::WRITE);
        assert!(!format!("{digest:?}").contains("aGFz"));
        assert_eq!(AccessControl::parse("auth::cdrwa").unwrap(), AccessControl::creator());
        for bad in ["", "world", "world:anyone", "world:anyone:", "world:anyone:x", ":a:r", "w w:a:r", "world:a b:r"] {
            let error = AccessControl::parse(bad).unwrap_err();
            assert!(error.to_string().contains("scheme:id:permissions"), "{bad}: {error}");
        }
    }
}
