//! Options in the query of a URL: typed, each used once, none unknown.

use std::time::Duration;

use pilotman_core::{Error, LockOptions, NameRule, Result};
use url::Url;

use crate::duration::parse_duration;

/// The one option that may be given several times: a node of a quorum.
const NODE: &str = "node";

/// The options of one URL, from which the backend takes what it knows.
#[derive(Clone)]
pub(crate) struct Query {
    left: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub(crate) fn parse(url: &Url) -> Result<Self> {
        // This is no form of a web page: a plus is a plus, and access keys have many.
        let query = url.query().unwrap_or_default().replace('+', "%2B");
        Self::of(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The options, each with its value.
    pub(crate) fn of(left: Vec<(String, String)>) -> Result<Self> {
        for (at, (name, _)) in left.iter().enumerate() {
            if name != NODE && left[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Error::misconfigured(format!("{} is given twice", shown(name))));
            }
        }
        Ok(Self { left, known: Vec::new() })
    }

    /// Takes an option as text.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.left.iter().position(|(given, _)| given == name)?;
        // The nodes keep their order.
        Some(self.left.remove(at).1)
    }

    /// Takes all nodes, in their order.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn take_nodes(&mut self) -> Vec<String> {
        self.known.push(NODE);
        let (nodes, others) = std::mem::take(&mut self.left).into_iter().partition(|(name, _)| name == NODE);
        self.left = others;
        let nodes: Vec<(String, String)> = nodes;
        nodes.into_iter().map(|(_, value)| value).collect()
    }

    /// An option that nobody took, as errors show it.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn first_left(&self) -> Option<String> {
        self.left.first().map(|(name, _)| shown(name))
    }

    /// Takes an option and reads it; `expected` says what it should look like.
    fn take_as<T>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::misconfigured(format!("the option '{name}' must be {expected}"))),
        }
    }

    pub(crate) fn take_duration(&mut self, name: &'static str) -> Result<Option<Duration>> {
        self.take_as(name, "a duration like 500ms, 10s or 2m", |text| parse_duration(text).ok())
    }

    // Most backends use these; a build without any of them is no reason to warn.
    #[cfg_attr(not(any(feature = "file", feature = "os", feature = "redis")), allow(dead_code))]
    pub(crate) fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>> {
        self.take_as(name, "true or false", |text| match text {
            "true" | "1" | "yes" | "" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => None,
        })
    }

    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn take_number(&mut self, name: &'static str) -> Result<Option<u32>> {
        self.take_as(name, "a number", |text| text.parse().ok())
    }

    #[cfg_attr(not(any(feature = "file", feature = "os", feature = "redis")), allow(dead_code))]
    pub(crate) fn take_names(&mut self, name: &'static str) -> Result<Option<NameRule>> {
        self.take_as(name, "dotnet, strict or exact", parse_names)
    }

    /// Takes the options that every backend has.
    pub(crate) fn take_lock_options(&mut self) -> Result<LockOptions> {
        let mut options = LockOptions::default();
        options.lease = self.take_duration("lease")?;
        options.retry = self.take_duration("retry")?;
        options.hold_at_most = self.take_duration("hold-at-most")?;
        Ok(options)
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        let Some((unknown, _)) = self.left.first() else { return Ok(()) };
        let mut known = self.known;
        known.sort_unstable();
        known.dedup();
        Err(Error::misconfigured(format!("{} is not known here", shown(unknown)))
            .with_advice(format!("the options are {}", known.join(", "))))
    }
}

#[cfg_attr(not(any(feature = "file", feature = "os", feature = "redis")), allow(dead_code))]
pub(crate) fn parse_names(text: &str) -> Option<NameRule> {
    match text {
        "dotnet" => Some(NameRule::DotNet),
        "strict" => Some(NameRule::Strict),
        "exact" => Some(NameRule::Exact),
        _ => None,
    }
}

/// An option's name, if it looks like one: anything else may be a secret that slipped in.
fn shown(name: &str) -> String {
    let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_');
    if plain { format!("the option '{name}'") } else { "an option of the URL".into() }
}
