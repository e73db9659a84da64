//! Durations, as people type them (`1.5s`) and as they read them (`2 min 5 s`).

use std::time::Duration;

/// Reads `10`, `10s`, `1.5s`, `500ms`, `2m`, `1h` or `1d`. A number without a unit is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let hint = "a duration is a number and a unit, such as 10, 10s, 1.5s, 500ms, 2m, 1h";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_nanos: u128 = match unit {
        "" | "s" => 1_000_000_000,
        "us" => 1_000,
        "ms" => 1_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(format!("the unit is unknown; {hint}")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.contains('.') {
        return Err(hint.into());
    }
    let too_long = || "the duration is too long".to_string();
    let whole: u128 = whole.parse::<u64>().map_err(|_| too_long())?.into();
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let mut nanos = whole * unit_nanos;
    if !fraction.is_empty() {
        let parts: u128 = fraction.parse().map_err(|_| hint.to_string())?;
        nanos += parts * unit_nanos / 10u128.pow(fraction.len() as u32);
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| too_long())?;
    // Beyond this, adding it to a point in time may overflow.
    if seconds > 100 * 365 * 86_400 {
        return Err(too_long());
    }
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// A duration for people: its two biggest units.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, millis) in [
            ("10", 10_000),
            ("0", 0),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.25", 250),
            ("1.0000000000000000000000000001s", 1_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", ".5s", "1.", "1..2", "1.2.3", "-1", "1 s", "1x", "１", "99999999999999999999", "1000000d"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn durations_are_told_in_two_units() {
        for (millis, text) in [
            (3, "3 ms"),
            (1_540, "1.5 s"),
            (12_900, "12 s"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (3_600_000, "1 h"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
