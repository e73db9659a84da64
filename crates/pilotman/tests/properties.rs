//! Whatever is written into an address or a duration: an answer, never a panic, never a secret.

use std::time::Duration;

use pilotman::{Locks, parse_duration, show_duration};
use proptest::prelude::*;

/// Percent-encoded, every byte that is no letter or digit.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

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
            Just("redis-cluster"), Just("redis+unix"), Just("redlock"), Just("redlocks"),
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
    fn any_node_of_a_quorum_gets_an_answer_without_its_secrets(
        scheme in prop_oneof![
            Just("redis://"), Just("rediss://"), Just("redis-sentinel://"), Just("redlock://"), Just("file://"), Just(""),
        ],
        before in "[a-z0-9:@/?=%.,\\[\\]-]{0,12}",
        option in prop_oneof![Just(":"), Just("password="), Just("?password="), Just("?node="), Just(",password=")],
        after in "[a-z0-9:@/?&=%.,-]{0,12}",
        encode in any::<bool>(),
    ) {
        let node = format!("{scheme}{before}{option}QZXJ{after}");
        let node = if encode { encoded(&node) } else { node };
        let url = format!("redlock://?node=h:1&node={node}");
        if let Err(error) = Locks::open(&url) {
            prop_assert!(!format!("{error} {error:?}").contains("QZXJ"), "{url}: {error}");
        }
    }

    /// Whatever a URL of one Redis says, a quorum takes as a node, and refuses what is refused there.
    #[cfg(feature = "redis")]
    #[test]
    fn a_node_is_read_as_the_url_by_itself(
        scheme in prop_oneof![Just("redis"), Just("rediss"), Just("redis-cluster")],
        password in "[ -~]{0,8}",
        host in "[a-z0-9.]{1,6}",
        port in 0..3_u16,
        db in prop_oneof![Just(""), Just("/0"), Just("/7"), Just("/x")],
        option in prop_oneof![Just(""), Just("?prefix=app:"), Just("?db=1"), Just("?wait-replicas=1"), Just("?x=1")],
    ) {
        let url = format!("{scheme}://:{}@{host}:{port}{db}{option}", encoded(&password));
        let alone = Locks::open(&url);
        let in_quorum = Locks::open(&format!("redlock://?node={}", encoded(&url)));
        prop_assert_eq!(alone.is_ok(), in_quorum.is_ok(), "{}: {:?} {:?}", url, alone.err(), in_quorum.err());
        if let (Ok(alone), Ok(in_quorum)) = (alone, in_quorum) {
            let key = |locks: Locks| locks.physical_name("a", pilotman::Primitive::Mutex).unwrap();
            prop_assert_eq!(key(alone), key(in_quorum));
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
