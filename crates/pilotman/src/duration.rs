//! Durations as people write them.

use std::time::Duration;

use pilotman_core::{Error, Result};

/// The units that [`parse_duration`] knows, with their nanoseconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86_400e9)];

/// Reads a duration such as `500ms`, `1.5s`, `2m`, `1h`, `7d`; a bare number is seconds.
///
/// # Errors
///
/// `Misconfigured` if it is none.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { "s" } else { unit };
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let nanos = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    match nanos {
        // Beyond 100 years it is a slip of the finger, and arithmetic stays exact enough below.
        Some(nanos) if nanos <= 100.0 * 365.25 * 86_400e9 => Ok(Duration::from_nanos(nanos.round() as u64)),
        _ => Err(Error::misconfigured("this is not a duration").with_advice("write it like 500ms, 10s, 1.5m or 2h")),
    }
}

/// Writes a duration as [`parse_duration`] reads it, without loss.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let exact = UNITS.iter().rev().find(|(unit, factor)| {
        let factor = *factor as u128;
        nanos >= factor && nanos.is_multiple_of(factor) && *unit != "d"
    });
    match exact {
        Some((unit, factor)) => format!("{}{unit}", nanos / *factor as u128),
        None => "0s".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [
            ("10", 10_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("0.25", 250),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "s", "-1s", "1x", "1 s", "ten", "1e9s", "NaN", "inf", "9999999999999h", "1.2.3s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
        }
    }
}
