//! How far a server's clock is from ours.

use std::time::{Duration, Instant, SystemTime};

use pilotman_core::Result;
use pilotman_core::backend::Finding;
use redis::Value;

use super::told::{answer, text};
use crate::node::Line;

/// The question that is answered fastest counts.
const QUESTIONS: usize = 5;
/// From here on two clocks differ.
pub(super) const DIFFERENT: i64 = 100_000;
/// From here on it can't be the network or a sleepy process.
pub(super) const FAR_APART: i64 = 1_000_000;

/// By how much a server's clock is ahead of ours, in microseconds, and how far off that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) ahead: i64,
    pub(super) margin: i64,
}

/// Measures it; `None` where `TIME` is not allowed.
pub(super) async fn measure(line: &Line) -> Result<Option<Offset>> {
    let cmd = redis::cmd("TIME");
    let mut best: Option<Offset> = None;
    for _ in 0..QUESTIONS {
        let (ours, sent) = (SystemTime::now(), Instant::now());
        let Some(answered) = answer(line.ask(&cmd).await)? else { return Ok(None) };
        let margin = micros(sent.elapsed()) / 2;
        let Some(server) = read(&answered) else { return Ok(None) };
        let ours = ours.duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros);
        let offset = Offset { ahead: server.saturating_sub(ours.saturating_add(margin)), margin };
        if best.is_none_or(|best| offset.margin < best.margin) {
            best = Some(offset);
        }
    }
    Ok(best)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn read(answered: &Value) -> Option<i64> {
    let Value::Array(parts) = answered else { return None };
    let number = |at: usize| text(parts.get(at)?)?.parse::<i64>().ok();
    number(0)?.checked_mul(1_000_000)?.checked_add(number(1)?)
}

/// A span of time, for people.
pub(super) fn shown(micros: i64) -> String {
    let micros = micros.unsigned_abs();
    match micros {
        0..2_000 => format!("{micros} µs"),
        2_000..2_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{} s", micros / 1_000_000),
    }
}

/// A lease is a span of the server's clock, so ours doesn't matter to it. But two clocks that differ are not both kept
/// in step, and one that is not will be stepped some day.
pub(super) fn against_ours(offset: Offset) -> Finding {
    let sure = (offset.ahead.saturating_abs() - offset.margin).max(0);
    let which = if offset.ahead < 0 { "behind" } else { "ahead of" };
    let what = format!("its clock is {} {which} ours, give or take {}", shown(offset.ahead), shown(offset.margin));
    let advice = "have both clocks kept in step (NTP), by slewing: a step forward ends leases early";
    match sure {
        FAR_APART.. => Finding::warning("clock", what).advice(advice),
        DIFFERENT.. => Finding::note("clock", what).advice(advice),
        _ => Finding::fine("clock", what),
    }
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{Fine, Note, Warning};

    use super::*;

    #[test]
    fn only_what_the_network_does_not_explain_is_told() {
        for (ahead, margin, severity) in [
            (0, 10, Fine),
            (90_000, 10, Fine),
            (-150_000, 10, Note),
            (150_000, 60_000, Fine),
            (-3_000_000, 1_000, Warning),
            (i64::MIN, 0, Warning),
        ] {
            assert_eq!(against_ours(Offset { ahead, margin }).severity, severity, "{ahead} {margin}");
        }
        assert!(against_ours(Offset { ahead: -3_000_000, margin: 5 }).what.contains("3 s behind ours"));
    }

    #[test]
    fn odd_answers_are_no_time() {
        let bulk = |text: &str| Value::BulkString(text.into());
        assert_eq!(read(&Value::Array(vec![bulk("7"), bulk("8")])), Some(7_000_008));
        for bad in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("7")]), Value::Array(vec![bulk("x"); 2])] {
            assert_eq!(read(&bad), None);
        }
        assert_eq!(read(&Value::Array(vec![bulk(&i64::MAX.to_string()), bulk("1")])), None);
    }
}
