//! The names of the .NET DistributedLock library's wait handles.

use sha2::{Digest, Sha512};

/// The longest name of a kernel object, in UTF-16 units, with its prefix.
pub(crate) const MAX: usize = 260;
/// The namespace of all sessions.
pub(crate) const GLOBAL: &str = r"Global\";

/// The name of the kernel object, with its prefix: as it stands where that is a valid name, with a hash where not.
pub(crate) fn dotnet(name: &str) -> String {
    format!("{GLOBAL}{}", safe(name.strip_prefix(GLOBAL).unwrap_or(name), MAX - GLOBAL.len()))
}

/// `name` in at most `max` UTF-16 units and without a backslash; a name that is not so gets the Base64 of its SHA-512.
pub(crate) fn safe(name: &str, max: usize) -> String {
    let converted = if name.is_empty() { "EMPTY".to_owned() } else { name.replace('\\', "_") };
    if converted == name && units(name) <= max {
        return converted;
    }
    let hash = base64(&Sha512::digest(name.as_bytes()));
    if hash.len() >= max {
        return hash[..max].to_owned();
    }
    format!("{}{hash}", cut(&converted, max - hash.len()))
}

pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The first units; .NET may cut a pair of surrogates in two, where we leave it out. Such a name is found by its hash
/// by people only.
fn cut(text: &str, units: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.len_utf16();
        used > units
    });
    end.map_or(text, |(at, _)| &text[..at])
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let sign = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_name_stays_as_it_is() {
        assert_eq!(dotnet("abc"), r"Global\abc");
        assert_eq!(dotnet(r"Global\abc"), r"Global\abc");
        assert_eq!(dotnet("a/b:é"), r"Global\a/b:é");
        let longest = "x".repeat(MAX - GLOBAL.len());
        assert_eq!(dotnet(&longest), format!("{GLOBAL}{longest}"));
    }

    #[test]
    fn a_name_that_is_not_valid_is_hashed() {
        let one = dotnet(r"a\b");
        assert!(one.starts_with(r"Global\a_b") && one.ends_with("=="), "{one}");
        assert_eq!(units(&one), 7 + 3 + 88);
        assert_ne!(one, dotnet("a_b"));
        let long = dotnet(&"x".repeat(300));
        assert_eq!(units(&long), MAX);
        assert_ne!(long, dotnet(&"x".repeat(301)));
        let owls = dotnet(&"🦉".repeat(200));
        assert!(units(&owls) <= MAX, "{owls}");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
