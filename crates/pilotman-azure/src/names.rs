//! How names become names of blobs.

use azure_core::base64;
use pilotman_core::{Error, NameRule, Result};
use sha2::{Digest, Sha256, Sha512};

/// The longest name of a blob, in UTF-16 units.
const LONGEST: usize = 1024;
/// The longest in the emulator, as the .NET library has it.
const LONGEST_IN_EMULATOR: usize = 256;
/// Where the .NET library takes it for the emulator.
const EMULATOR: &str = "http://127.0.0.1:10000/devstoreaccount1";
/// A name has so many slashes at most.
const SLASHES: usize = 253;
/// What a strict name shows of the original.
const READABLE: usize = 100;
/// The longest strict name that stays as it is.
const LONGEST_PLAIN: usize = 200;

/// How names of blobs are made at one place.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    rule: NameRule,
    prefix: String,
    longest: usize,
}

impl Naming {
    /// `container_url` is where the blobs are.
    pub(crate) fn new(rule: NameRule, prefix: &str, container_url: &str) -> Self {
        let longest = if container_url.starts_with(EMULATOR) { LONGEST_IN_EMULATOR } else { LONGEST };
        Self { rule, prefix: prefix.to_owned(), longest }
    }

    /// The name of the blob of a lock.
    pub(crate) fn blob(&self, name: &str) -> Result<String> {
        match self.rule {
            NameRule::Strict => Ok(self.prefix.clone() + &strict(name)),
            NameRule::Exact => exact(format!("{}{name}", self.prefix), self.longest),
            _ => Ok(dotnet(&format!("{}{name}", self.prefix), self.longest)),
        }
    }

    /// The name of the lock of a blob, where that can be told.
    pub(crate) fn lock(&self, blob: &str) -> Option<String> {
        let name = blob.strip_prefix(self.prefix.trim_start_matches('/'))?;
        let is_hashed = match self.rule {
            NameRule::Strict => name.contains('~'),
            _ => blob.ends_with("=="),
        };
        (!name.is_empty() && !is_hashed && self.blob(name).is_ok_and(|again| again == blob)).then(|| name.to_owned())
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// As the .NET library and the SDK beneath it do.
fn dotnet(name: &str, longest: usize) -> String {
    let valid = valid(name);
    let mapped = match valid == name && units(name) <= longest {
        true => valid,
        false => hashed(&valid, name, longest),
    };
    // Azure takes one for the other, and the SDK leaves slashes at the beginning out.
    let mapped = mapped.replace('\\', "/");
    let mapped = mapped.trim_start_matches('/');
    // There a request with such a name fails, so that there is nobody to agree with.
    match mapped.chars().any(is_refused) {
        true => {
            let plain: String = mapped.chars().map(|c| if is_refused(c) { '_' } else { c }).collect();
            hashed(&plain, name, longest)
        }
        false => mapped.to_owned(),
    }
}

/// The name with other endings, and no more slashes than there may be.
fn valid(name: &str) -> String {
    let (mut valid, mut slashes) = (String::with_capacity(name.len()), 0);
    let mut signs = name.chars().peekable();
    while let Some(sign) = signs.next() {
        let is_last = signs.peek().is_none();
        match sign {
            '/' | '\\' => {
                slashes += 1;
                match slashes > SLASHES || is_last {
                    true => valid.push_str("SLASH"),
                    false => valid.push(sign),
                }
            }
            '.' if is_last => valid.push_str("DOT"),
            sign => valid.push(sign),
        }
    }
    valid
}

/// The beginning of what is valid, and a hash of the whole name.
fn hashed(valid: &str, name: &str, longest: usize) -> String {
    let hash = base64::encode(Sha512::digest(name.as_bytes()));
    // Cut by UTF-16 units, as there: a half of a pair is sent as a replacement character.
    let start: Vec<u16> = valid.encode_utf16().take(longest - hash.len()).collect();
    String::from_utf16_lossy(&start) + &hash
}

/// Names that are plain stay; all others have a sign that no plain one has.
fn strict(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() <= LONGEST_PLAIN && name.chars().all(plain) && !name.ends_with('.') && !name.starts_with('.') {
        return name.to_owned();
    }
    let readable: String = name.chars().take(READABLE).map(|c| if plain(c) && c != '.' { c } else { '_' }).collect();
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{readable}~{hash}")
}

/// The name itself, if it can be the name of a blob and stands for no other.
fn exact(name: String, longest: usize) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid_name(format!("with names=exact a name {why}"))
            .with_advice("choose another name, or let it be mapped (names=dotnet or names=strict)")
    };
    if units(&name) > longest {
        return Err(bad(&format!("has at most {longest} characters")));
    }
    if name.starts_with('/') || name.ends_with(['/', '.']) {
        return Err(bad("neither begins nor ends with a slash, and doesn't end with a dot"));
    }
    if name.contains('\\') {
        return Err(bad("has no backslashes, which Azure takes for slashes"));
    }
    if name.matches('/').count() > SLASHES {
        return Err(bad("has at most 253 slashes"));
    }
    if name.chars().any(is_refused) {
        return Err(bad("has no characters that Azure refuses, such as control characters"));
    }
    Ok(name)
}

/// What no name of a blob may have.
fn is_refused(c: char) -> bool {
    let code = u32::from(c);
    c.is_control()
        || (0xe000..=0xf8ff).contains(&code)
        || (0xfdd0..=0xfdef).contains(&code)
        || code & 0xfffe == 0xfffe
        || code >= 0xf_0000
}

fn units(name: &str) -> usize {
    name.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(rule: NameRule) -> Naming {
        Naming::new(rule, "", "https://contoso.blob.core.windows.net/locks")
    }

    fn mapped(name: &str) -> String {
        at(NameRule::DotNet).blob(name).unwrap()
    }

    fn sha(name: &str) -> String {
        base64::encode(Sha512::digest(name.as_bytes()))
    }

    #[test]
    fn names_are_those_of_the_dotnet_library() {
        for plain in ["a", "A", "a b", "ü/🚂", "a.b", &"x".repeat(1024)] {
            assert_eq!(mapped(plain), *plain, "{plain}");
        }
        for (name, start) in [(".", "DOT"), ("a.", "aDOT"), ("a/", "aSLASH"), ("a\\", "aSLASH"), ("a..", "a.DOT")] {
            assert_eq!(mapped(name), format!("{start}{}", sha(name)), "{name}");
        }
        let long = "x".repeat(1025);
        assert_eq!(mapped(&long), "x".repeat(936) + &sha(&long));
        let deep = "a/".repeat(254) + "a";
        assert_eq!(mapped(&deep), "a/".repeat(253) + "aSLASHa" + &sha(&deep));
        assert_eq!(mapped(&("a/".repeat(253) + "a")), "a/".repeat(253) + "a");
    }

    #[test]
    fn the_emulator_has_shorter_names() {
        let naming = Naming::new(NameRule::DotNet, "", "http://127.0.0.1:10000/devstoreaccount1/locks");
        let name = "x".repeat(257);
        assert_eq!(naming.blob(&name).unwrap(), "x".repeat(168) + &sha(&name));
        assert_eq!(naming.blob(&"x".repeat(256)).unwrap(), "x".repeat(256));
    }

    #[test]
    fn some_names_are_the_same_as_there() {
        assert_eq!(mapped("a\\b"), mapped("a/b"));
        assert_eq!(mapped("//a"), mapped("a"));
        assert_ne!(mapped("a"), mapped("A"));
        // A hash is over the name as it was given.
        assert_ne!(mapped("/a."), mapped("a."));
    }

    #[test]
    fn what_azure_refuses_is_hashed() {
        for name in ["a\n", "\t", "a\u{7f}b", "\u{e000}", "\u{10ffff}", "a\u{1}."] {
            let blob = mapped(name);
            assert!(blob.ends_with(&sha(name)) && !blob.chars().any(is_refused), "{blob:?}");
        }
    }

    #[test]
    fn names_are_told_from_blobs_where_that_can_be() {
        let naming = Naming::new(NameRule::DotNet, "p/", "https://h/c");
        assert_eq!(naming.lock("p/a b"), Some("a b".to_owned()));
        assert_eq!(naming.lock("a"), None);
        assert_eq!(naming.lock(&naming.blob("a.").unwrap()), None);
        let naming = Naming::new(NameRule::Strict, "p/", "https://h/c");
        assert_eq!(naming.lock(&naming.blob("a").unwrap()), Some("a".to_owned()));
        assert_eq!(naming.lock(&naming.blob("a b").unwrap()), None);
    }

    #[test]
    fn exact_names_are_taken_or_refused() {
        assert_eq!(at(NameRule::Exact).blob("a/b c.ü").unwrap(), "a/b c.ü");
        for bad in ["/a", "a/", "a.", "a\\b", "a\nb", &"x".repeat(1025), &"a/".repeat(254)] {
            let error = at(NameRule::Exact).blob(bad).unwrap_err();
            assert_eq!(error.kind(), pilotman_core::ErrorKind::InvalidName, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_can_be_that_of_a_blob(name in any::<String>(), tail in "[./\\\\\u{0}-\u{ff}]{0,5}") {
            prop_assume!(!name.is_empty() || !tail.is_empty());
            for rule in [NameRule::DotNet, NameRule::Strict] {
                let blob = at(rule).blob(&(name.clone() + &tail)).unwrap();
                prop_assert!(!blob.is_empty() && units(&blob) <= LONGEST, "{blob}");
                prop_assert!(!blob.starts_with('/') && !blob.ends_with(['/', '.']) && blob != "..", "{blob}");
                prop_assert!(!blob.chars().any(is_refused) && !blob.contains('\\'));
            }
        }

        #[test]
        fn strict_names_differ(one in "[a-z~./ ]{1,20}", other in "[a-z~./ ]{1,20}") {
            let naming = at(NameRule::Strict);
            prop_assert_eq!(one == other, naming.blob(&one).unwrap() == naming.blob(&other).unwrap());
        }
    }
}
