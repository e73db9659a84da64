//! Percent-encoding, undone.

/// `text` decoded; what only looks like an encoding stays as it is. `None` if the result is no UTF-8.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn what_is_no_encoding_stays() {
        for (text, expected) in [
            ("", Some("")),
            ("a%2Fb%40", Some("a/b@")),
            ("100%", Some("100%")),
            ("%4", Some("%4")),
            ("%zz%41", Some("%zzA")),
            ("%+1", Some("%+1")),
            ("%C3%BC", Some("ü")),
            ("ü%", Some("ü%")),
            ("%FF", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
    }
}
