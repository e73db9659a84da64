//! Hash slots of Redis Cluster: which keys live on the same node.

use std::sync::LazyLock;

/// How many slots a cluster has.
pub(crate) const SLOTS: usize = 16384;

/// The part of a key that decides about its slot: what stands between the first `{` and the next `}`, if that is not
/// empty; else all of it.
pub(crate) fn hashed(key: &str) -> &str {
    if let Some(open) = key.find('{')
        && let Some(length) = key[open + 1..].find('}')
        && length > 0
    {
        return &key[open + 1..open + 1 + length];
    }
    key
}

/// The slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    crc16(hashed(key).as_bytes()) % SLOTS as u16
}

/// A short text of digits whose slot this is.
pub(crate) fn tag(slot: u16) -> u32 {
    static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let mut tags = vec![u32::MAX; SLOTS];
        let mut left = SLOTS;
        for number in 0.. {
            let slot = usize::from(crc16(number.to_string().as_bytes())) % SLOTS;
            if tags[slot] == u32::MAX {
                tags[slot] = number;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        tags
    });
    TAGS[usize::from(slot) % SLOTS]
}

/// CRC-16/XMODEM, as the cluster specification says.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(hashed("foo{}{bar}"), "foo{}{bar}");
        assert_eq!(hashed("foo{{bar}}zap"), "{bar");
        assert_eq!(hashed("foo{bar}{zap}"), "bar");
    }

    #[test]
    fn each_slot_has_a_tag() {
        for at in 0..SLOTS as u16 {
            assert_eq!(slot(&tag(at).to_string()), at);
        }
    }
}
