//! The file names of the .NET DistributedLock library.

use sha2::{Digest, Sha512};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

const PORTABLE_LENGTH: usize = 64;
const HASH_LENGTH: usize = 32;
const MIN_LENGTH: usize = 12;
const EXTENSION: &str = ".lock";
const READABLE_LENGTH: usize = PORTABLE_LENGTH - HASH_LENGTH - EXTENSION.len();

/// The file name of `name` where `room` bytes are left for it; `None` if not even the shortest form fits.
pub(super) fn file_name(name: &str, room: usize) -> Option<String> {
    let hash = hash(name, HASH_LENGTH);
    let portable = format!("{}{hash}{EXTENSION}", readable(name));
    if portable.len() <= room {
        Some(portable)
    } else if hash.len() <= room {
        Some(hash)
    } else {
        (MIN_LENGTH <= room).then(|| hash[..MIN_LENGTH].to_owned())
    }
}

/// The first 27 UTF-16 units, with `_` for whatever is neither letter nor digit.
pub(super) fn readable(name: &str) -> String {
    name.encode_utf16().take(READABLE_LENGTH).map(readable_unit).collect()
}

/// .NET looks at UTF-16 units one by one, so that a character outside the basic plane counts as two signs.
fn readable_unit(unit: u16) -> char {
    use GeneralCategory::*;
    char::from_u32(unit.into())
        .filter(|c| {
            matches!(
                c.general_category(),
                UppercaseLetter | LowercaseLetter | TitlecaseLetter | ModifierLetter | OtherLetter | DecimalNumber
            )
        })
        .unwrap_or('_')
}

/// The first `length` × 5 bits of SHA-512 in base 32, least significant bits first.
pub(super) fn hash(name: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha512::digest(name.as_bytes());
    let bit = |at: usize| usize::from(digest[at / 8] >> (at % 8) & 1);
    (0..length)
        .map(|sign| (0..5).fold(0, |value, offset| value | bit(sign * 5 + offset) << offset))
        .map(|value| char::from(ALPHABET[value]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the .NET library itself makes of these names.
    const GOLDEN: [(&str, &str); 11] = [
        ("", "P6AD62YPPHO33YTKIBUM5WBQHQVBCSXA.lock"),
        (".", "_LIYISOQPXAPX3NYVHPC2EK4WEOU6OW7Y.lock"),
        ("..", "__G2H2MVGLQK7QVO2MAWVKSVSKM26KX5S6.lock"),
        ("...", "___2ZDJLYOT376KUA5OQFR2OERKUXIH4A7R.lock"),
        ("LPT1", "LPT1VUGMI6NJVPIYUGXMY4K6ETA3232OR2B5.lock"),
        (" ", "_ZPD253R4AYXN6RS7UP6A3FYDCXHBXKUY.lock"),
        ("_", "_3VP7XSELHOF3DU4D257KSSAQD3WR4SSL.lock"),
        ("cool<>!/:x\\zzz", "cool_____x_zzzATJSHZSADXN7WTL4DBU6JULFTEDVFF3L.lock"),
        ("ABC", "ABCZJ4QR6TVN4A3KMGQ4BUKHOWQYFRLXSB3.lock"),
        ("abc", "abc56LLTQOSBT6ULGHITLS4KQEIRREMO53J.lock"),
        ("lower", "lowerPRE5SHQAMC324P4C6UKD4R4VMGGJMF6T.lock"),
    ];

    #[test]
    fn names_are_those_of_the_dotnet_library() {
        for (name, file) in GOLDEN {
            assert_eq!(file_name(name, 1000).as_deref(), Some(file), "{name:?}");
        }
        let owls = "🦉".repeat(63);
        let long = [
            ("a".repeat(260), "aaaaaaaaaaaaaaaaaaaaaaaaaaaXTSAJQWFKOYRBNXC6DV3HRZWQJANRKCX.lock"),
            (format!("{owls}123"), "___________________________VA7XJG3JUQKTL6AU2KWPHVQFK43N4DVW.lock"),
            (format!("{owls}1234"), "___________________________NOLT44QRLWYINT53TY2I4H34X4AU4O46.lock"),
        ];
        for (name, file) in long {
            assert_eq!(file_name(&name, 1000).as_deref(), Some(file));
        }
    }

    #[test]
    fn letters_and_digits_are_those_of_dotnet() {
        // Rust's `is_alphanumeric` takes the fraction, the Roman numeral, the mark and the circled letter too.
        assert_eq!(readable("é ü߀½ⅧⒶ中\u{345}-٣"), "é_ü߀___中__٣");
        assert_eq!(readable("🦉x"), "__x");
        assert_eq!(readable("𝒳"), "__");
    }

    #[test]
    fn a_long_directory_leaves_the_hash_or_part_of_it() {
        assert_eq!(file_name("abc", 39).unwrap(), "56LLTQOSBT6ULGHITLS4KQEIRREMO53J");
        assert_eq!(file_name("abc", 31).unwrap(), "56LLTQOSBT6U");
        assert_eq!(file_name("abc", 11), None);
    }

    #[test]
    fn the_hash_uses_every_sign_equally_often() {
        let mut counts = [0_u32; 128];
        let names = 20_000_u32;
        for number in 0..names {
            for sign in hash(&format!("{number}/"), HASH_LENGTH).bytes() {
                counts[usize::from(sign)] += 1;
            }
        }
        for (sign, count) in counts.iter().enumerate() {
            let sign = sign as u8;
            if sign.is_ascii_uppercase() || (b'2'..=b'7').contains(&sign) {
                assert!(count.abs_diff(names) < names / 10, "{}: {count}", sign as char);
            } else {
                assert_eq!(*count, 0);
            }
        }
    }
}
