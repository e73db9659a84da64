//! Which keys a lock consists of.
//!
//! | what | key, for the name `n` and the key format `{}` |
//! |---|---|
//! | a mutex | `n`: a string, as other lock libraries have it |
//! | holders of a reader-writer lock | `pilotman:rw:{n}` |
//! | holders of a semaphore | `pilotman:semaphore:{n}` |
//! | details of those | the same with `:details` |
//! | who waits, and how long they live | `pilotman:queue:{n}`, `pilotman:waiters:{n}`, with the primitive before `{` |
//! | the token counter | `pilotman:token`; in a cluster one per slot: `pilotman:token:{1234}` |
//! | the same on a node of a quorum | `pilotman:quorum:queue:…`, `pilotman:quorum:waiters:…`, `pilotman:quorum:token:…` |
//! | which set of nodes it belongs to | `pilotman:quorum` |
//!
//! All begin with what stands before the placeholder of the key format, so that an access-control pattern covers them,
//! and those of one lock have one slot, whatever its name contains.

use std::fmt;

use pilotman_core::{Error, Primitive, Result};

use crate::slots;

/// Keys of our own begin so, after the prefix of the key format.
const OWN: &str = "pilotman:";

/// How names become keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyFormat {
    prefix: String,
    suffix: String,
}

impl KeyFormat {
    /// A format has one placeholder: `{}`, or `{0}` as in .NET.
    pub(crate) fn parse(format: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(Error::misconfigured(format!("the key format '{format}' {why}"))
                .with_advice("write the name's place once as {}, as in 'redlock:{}'"))
        };
        let placeholder = if format.contains("{}") { "{}" } else { "{0}" };
        let Some((prefix, suffix)) = format.split_once(placeholder) else {
            return refuse("has no placeholder, so that all names would be one lock");
        };
        if [prefix, suffix].iter().any(|part| part.contains("{}") || part.contains("{0}")) {
            return refuse("has more than one placeholder");
        }
        if prefix.matches('{').count() != prefix.matches('}').count() || prefix.find('}') < prefix.find('{') {
            return refuse("has a lone brace before its placeholder");
        }
        Ok(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
    }

    /// The key of the lock itself.
    fn lock(&self, name: &str) -> String {
        let Self { prefix, suffix } = self;
        match format!("{name}{suffix}") {
            // Such a name would meet our own keys.
            rest if rest.starts_with(OWN) => format!("{prefix}{OWN}name:{rest}"),
            rest => format!("{prefix}{rest}"),
        }
    }

    /// What keys and channels of our own begin with.
    pub(crate) fn own(&self) -> String {
        format!("{}{OWN}", self.prefix)
    }

    /// A pattern that matches the keys of all locks, for `SCAN`.
    pub(crate) fn pattern(&self) -> String {
        let literal = |text: &str| {
            text.chars().fold(String::new(), |mut escaped, c| {
                if matches!(c, '*' | '?' | '[' | ']' | '\\') {
                    escaped.push('\\');
                }
                escaped.push(c);
                escaped
            })
        };
        format!("{}*", literal(&self.prefix))
    }

    /// The name of a mutex by its key.
    pub(crate) fn name_of(&self, key: &str) -> Option<String> {
        let rest = key.strip_prefix(&self.prefix)?;
        let rest = rest.strip_prefix(OWN).map_or(Some(rest), |own| own.strip_prefix("name:"))?;
        rest.strip_suffix(&self.suffix).map(str::to_owned)
    }
}

impl fmt::Display for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{}}{}", self.prefix, self.suffix)
    }
}

impl fmt::Debug for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The keys of one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The string of a mutex, or the holders of a reader-writer lock or semaphore.
    pub(crate) lock: String,
    pub(crate) queue: String,
    pub(crate) waiters: String,
    pub(crate) counter: String,
    /// Of the holders, where there can be several.
    pub(crate) details: String,
    /// What the channels of processes begin with.
    pub(crate) channels: String,
    /// Which set of nodes this one belongs to.
    pub(crate) meta: String,
    pub(crate) slot: u16,
}

impl Keys {
    pub(crate) fn new(format: &KeyFormat, clustered: bool, name: &str, primitive: Primitive) -> Self {
        let (own, key) = (format.own(), format.lock(name));
        let slot = slots::slot(&key);
        let hashed = slots::hashed(&key);
        let tagged = match hashed {
            // A brace within would end the tag too early: another text of the same slot stands in.
            _ if hashed.contains('}') => format!("{{{}}}:{key}", slots::tag(slot)),
            _ if hashed.len() == key.len() => format!("{{{key}}}"),
            _ => format!("{{{hashed}}}:{key}"),
        };
        let (kind, lock) = match primitive {
            Primitive::Mutex => ("mutex", key),
            Primitive::Permit(_) => ("semaphore", format!("{own}semaphore:{tagged}")),
            Primitive::Read | Primitive::UpgradeableRead | Primitive::Write => ("rw", format!("{own}rw:{tagged}")),
        };
        let (counter, channels, meta) = match clustered {
            true => {
                let tag = slots::tag(slot);
                let tagged = |what: &str| format!("{own}{what}:{{{tag}}}");
                (tagged("token"), format!("{own}push:{{{tag}}}:"), tagged("quorum"))
            }
            false => (format!("{own}token"), format!("{own}push:"), format!("{own}quorum")),
        };
        Self {
            meta,
            details: format!("{own}{kind}:details:{tagged}"),
            queue: format!("{own}queue:{kind}:{tagged}"),
            waiters: format!("{own}waiters:{kind}:{tagged}"),
            lock,
            counter,
            channels,
            slot,
        }
    }

    /// The same lock on a node of a quorum: its queue has another order, and each lock has a counter of its own, since the
    /// tokens of different locks would push each other's apart.
    pub(crate) fn of_quorum(format: &KeyFormat, clustered: bool, name: &str, primitive: Primitive) -> Self {
        let keys = Self::new(format, clustered, name, primitive);
        let own = format.own();
        let rest = |key: &str| {
            key.strip_prefix(&own).and_then(|key| key.split_once(':')).map_or("", |(_, rest)| rest).to_owned()
        };
        let rest = rest(&keys.queue);
        Self {
            queue: format!("{own}quorum:queue:{rest}"),
            waiters: format!("{own}quorum:waiters:{rest}"),
            counter: format!("{own}quorum:token:{rest}"),
            ..keys
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(keys: &Keys) -> [&str; 7] {
        [&keys.lock, &keys.queue, &keys.waiters, &keys.counter, &keys.details, &keys.channels, &keys.meta]
    }

    const PRIMITIVES: [Primitive; 3] =
        [Primitive::Mutex, Primitive::Write, Primitive::Permit(std::num::NonZeroU32::MIN)];

    #[test]
    fn a_mutex_is_the_key_that_others_use() {
        let key = |format: &str| Keys::new(&KeyFormat::parse(format).unwrap(), false, "a", Primitive::Mutex).lock;
        assert_eq!(key("{}"), "a");
        assert_eq!(key("redlock:{0}"), "redlock:a");
        assert_eq!(key("{0}-redislock"), "a-redislock");
    }

    #[test]
    fn a_format_without_one_placeholder_is_refused() {
        for bad in ["", "redlock:", "{}{}", "{0}-{}", "{a", "{1}", "}{:{}", "{:{}"] {
            assert!(KeyFormat::parse(bad).is_err(), "{bad}");
        }
        for good in ["{}", "{0}", "{app}:{}", "lock:{}", "{}:x"] {
            assert!(KeyFormat::parse(good).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn the_keys_of_a_lock_have_one_slot(name in "[{}a:]{1,12}|\\PC{1,20}", format in "(|x:|\\{t\\}:)\\{\\}(|:y|\\}|\\{z)") {
            let format = KeyFormat::parse(&format).unwrap();
            for primitive in PRIMITIVES {
                for keys in [Keys::new, Keys::of_quorum].map(|new| new(&format, true, &name, primitive)) {
                    for key in all(&keys) {
                        prop_assert_eq!(slots::slot(key), keys.slot, "{}", key);
                    }
                }
            }
        }

        #[test]
        fn different_locks_have_different_keys(a in "[{}a0:]{1,8}|pilotman:(name:)?[a{}]{1,3}", b in "[{}a0:]{1,8}|pilotman:(name:)?[a{}]{1,3}") {
            prop_assume!(a != b);
            let format = KeyFormat::default();
            let keys = |name: &str| {
                PRIMITIVES.map(|primitive| Keys::new(&format, false, name, primitive))
            };
            let (first, second) = (keys(&a), keys(&b));
            for one in &first {
                for other in &second {
                    for key in [&one.lock, &one.queue, &one.waiters, &one.details] {
                        for another in [&other.lock, &other.queue, &other.waiters, &other.details] {
                            prop_assert_ne!(key, another);
                        }
                    }
                }
            }
        }

        #[test]
        fn a_name_is_found_again_by_its_key(name in "\\PC{1,12}|pilotman:\\PC{0,5}", format in "(|x:)\\{\\}(|:y)") {
            let format = KeyFormat::parse(&format).unwrap();
            let key = Keys::new(&format, false, &name, Primitive::Mutex).lock;
            prop_assert_eq!(format.name_of(&key), Some(name));
        }
    }
}
