//! The encoding of the messages: integers with a length before them, byte strings, numbers.

/// Why a message couldn't be read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It goes on in the next packet.
    Short,
    /// It isn't what the stand-in understands.
    Malformed(String),
}

/// A byte string longer than this is sent in chunks.
const LONGEST_SHORT: usize = 252;
const IN_CHUNKS: u8 = 254;
const NULL: u8 = 255;
const CHUNK: usize = 32_767;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Unread> {
        let (read, rest) = self.rest.split_at_checked(count).ok_or(Unread::Short)?;
        self.rest = rest;
        Ok(read)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Unread> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Unread> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// An unsigned integer: the number of its bytes, then these, highest first.
    pub(crate) fn ub(&mut self) -> Result<u64, Unread> {
        let count = self.u8()?;
        if count > 8 {
            return Err(Unread::Malformed(format!("an integer of {count} bytes")));
        }
        Ok(self.bytes(count.into())?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// So many integers that mean nothing here.
    pub(crate) fn skip_ubs(&mut self, count: usize) -> Result<(), Unread> {
        (0..count).try_for_each(|_| self.ub().map(drop))
    }

    /// A byte string; null reads as empty.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>, Unread> {
        match self.u8()? {
            NULL => Ok(Vec::new()),
            IN_CHUNKS => {
                let mut whole = Vec::new();
                loop {
                    match usize::try_from(self.ub()?).unwrap_or(usize::MAX) {
                        0 => return Ok(whole),
                        count => whole.extend_from_slice(self.bytes(count)?),
                    }
                }
            }
            count => Ok(self.bytes(count.into())?.to_vec()),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, Unread> {
        String::from_utf8(self.string()?).map_err(|_| Unread::Malformed("a text that is not UTF-8".into()))
    }

    /// A byte string whose length stands before it once more; without bytes there is no string at all.
    pub(crate) fn counted_text(&mut self) -> Result<String, Unread> {
        if self.ub()? == 0 { Ok(String::new()) } else { self.text() }
    }
}

#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(message: u8) -> Self {
        Self(vec![message])
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(crate) fn ub(&mut self, value: u64) -> &mut Self {
        let bytes = value.to_be_bytes();
        let count = 8 - value.leading_zeros() / 8;
        self.u8(count as u8).raw(&bytes[8 - count as usize..])
    }

    pub(crate) fn ubs(&mut self, values: &[u64]) -> &mut Self {
        for value in values {
            self.ub(*value);
        }
        self
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.len() <= LONGEST_SHORT {
            return self.u8(bytes.len() as u8).raw(bytes);
        }
        self.u8(IN_CHUNKS);
        for chunk in bytes.chunks(CHUNK) {
            self.ub(chunk.len() as u64).raw(chunk);
        }
        self.ub(0)
    }

    pub(crate) fn counted_string(&mut self, bytes: &[u8]) -> &mut Self {
        self.ub(bytes.len() as u64);
        if bytes.is_empty() { self } else { self.string(bytes) }
    }
}

/// The bytes of a NUMBER: an exponent of 100, then digits of base 100.
pub(crate) fn encode_number(value: i64) -> Vec<u8> {
    if value == 0 {
        return vec![0x80];
    }
    let mut digits = Vec::new();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        digits.push((rest % 100) as u8);
        rest /= 100;
    }
    let exponent = 0xC0 + digits.len() as u8;
    let significant = digits.iter().skip_while(|digit| **digit == 0).copied().collect::<Vec<u8>>();
    let mut bytes = vec![if value > 0 { exponent } else { !exponent }];
    bytes.extend(significant.iter().rev().map(|digit| if value > 0 { digit + 1 } else { 101 - digit }));
    if value < 0 {
        // Ends the digits of a negative number, so that such numbers sort as their bytes do.
        bytes.push(102);
    }
    bytes
}

/// The nearest whole number to a NUMBER; `None` if it's too large, or no number.
pub(crate) fn decode_number(bytes: &[u8]) -> Option<i64> {
    let (first, digits) = bytes.split_first()?;
    if *first == 0x80 {
        return Some(0);
    }
    let positive = first & 0x80 != 0;
    let exponent = i32::from(if positive { *first } else { !*first }) - 0xC0;
    let digits = if positive { digits } else { digits.strip_suffix(&[102]).unwrap_or(digits) };
    let digit = |index: i32| -> Option<i64> {
        let Some(byte) = usize::try_from(index).ok().and_then(|index| digits.get(index)) else { return Some(0) };
        let value = if positive { i64::from(*byte) - 1 } else { 101 - i64::from(*byte) };
        (0..100).contains(&value).then_some(value)
    };
    if exponent > 10 {
        return None;
    }
    let mut whole: i64 = 0;
    for index in 0..exponent {
        whole = whole.checked_mul(100)?.checked_add(digit(index)?)?;
    }
    if exponent >= 0 && digit(exponent)? >= 50 {
        whole = whole.checked_add(1)?;
    }
    Some(if positive { whole } else { -whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 5, 9, 10, 99, 100, 101, 32_767, 1_000_000, 1_073_741_824, i64::MAX];
        for number in numbers.into_iter().flat_map(|number| [number, -number]) {
            assert_eq!(decode_number(&encode_number(number)), Some(number), "{number}");
        }
    }

    #[test]
    fn fractions_are_rounded_and_nonsense_is_refused() {
        assert_eq!(decode_number(&[0xC1, 2, 51]), Some(2), "1.5");
        assert_eq!(decode_number(&[0xC1, 2, 50]), Some(1), "1.49");
        assert_eq!(decode_number(&[0xC0, 51]), Some(1), "0.5");
        assert_eq!(decode_number(&[0xBF, 51]), Some(0), "0.005");
        assert_eq!(decode_number(&[]), None);
        assert_eq!(decode_number(&[0xD4, 2]), None, "100^19");
        assert_eq!(decode_number(&[0xC1, 0]), None, "a digit below zero");
    }

    #[test]
    fn integers_and_strings_come_back() {
        for value in [0, 1, 255, 256, 65_536, u64::MAX] {
            let bytes = {
                let mut writer = Writer::default();
                writer.ub(value);
                writer.into_bytes()
            };
            assert_eq!(Reader::new(&bytes).ub().unwrap(), value);
        }
        for length in [0, 1, LONGEST_SHORT, LONGEST_SHORT + 1, CHUNK + 1] {
            let string = vec![7; length];
            let bytes = {
                let mut writer = Writer::default();
                writer.string(&string);
                writer.into_bytes()
            };
            assert_eq!(Reader::new(&bytes).string().unwrap(), string);
            assert!(matches!(Reader::new(&bytes[..bytes.len() - 1]).string(), Err(Unread::Short)), "cut");
        }
    }
}
