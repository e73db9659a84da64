//! Whatever is written into an address or a duration: an answer, never a panic, never a secret.

use std::time::Duration;

use pilotman::{Locks, parse_duration, show_duration};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_as_an_address_gets_an_answer(text in ".{0,60}") {
        let _ = Locks::open(&text);
    }

    #[test]
    fn anything_after_a_known_scheme_gets_an_answer_without_its_secrets(
        scheme in prop_oneof![
            Just("memory"), Just("file"), Just("S"), Just("redis"), Just("rediss"), Just("redis-sentinel"),
            Just("redis-cluster"), Just("redis+unix"),
        ],
        before in "[a-z0-9:@/?&=%.,#+\\[\\]-]{0,20}",
        option in prop_oneof![Just(""), Just("password="), Just("?password="), Just("?db="), Just("?password-file=/")],
        after in "[a-z0-9:@/?&=%.,#+\\[\\]-]{0,20}",
    ) {
        // A capital letter stands in no word of ours, so it can only come from here.
        let url = format!("{scheme}://{before}{option}QZXJ{after}");
        if let Err(error) = Locks::open(&url) {
            prop_assert!(!format!("{error} {error:?}").contains("QZXJ"), "{error}");
        }
    }

    #[test]
    fn any_connection_string_gets_an_answer_without_its_secrets(
        host in "[a-z0-9:.\\[\\]]{0,8}",
        options in prop::collection::vec(("(password|user|ssl|sslHost|name|defaultDatabase|connectTimeout|serviceName|[a-z]{0,3})?", "[ -~]{0,8}"), 0..4),
        at in 0..4_usize,
    ) {
        let mut text = host;
        for (nth, (key, value)) in options.iter().enumerate() {
            let secret = if nth == at { "QZXJ" } else { "" };
            text.push_str(&format!(",{key}={value}{secret}"));
        }
        if let Err(error) = Locks::open(&text) {
            prop_assert!(!format!("{error} {error:?}").contains("QZXJ"), "{error}");
        }
    }

    #[test]
    fn durations_survive_being_written(nanos in 0..1_000_000_000_000_000_u64) {
        let duration = Duration::from_nanos(nanos);
        let read = parse_duration(&show_duration(duration)).unwrap();
        // A number with a fraction goes through a floating-point number.
        let off = read.abs_diff(duration);
        prop_assert!(off <= Duration::from_nanos(nanos / 1_000_000_000_000), "{duration:?} became {read:?}");
    }

    #[test]
    fn any_text_as_a_duration_gets_an_answer(text in ".{0,20}") {
        let _ = parse_duration(&text);
    }
}
