//! What this build has.

use pilotman_core::Capabilities;

use crate::scheme::{ALL, Scheme};

/// One backend technology.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackendInfo {
    /// Its stable lower-case name.
    pub kind: &'static str,
    /// The schemes of its URLs, without `://`.
    pub schemes: &'static [&'static str],
    /// A URL as it could be used.
    pub example_url: &'static str,
    /// The cargo feature that adds it.
    pub feature: &'static str,
    /// Whether this build has it.
    pub built: bool,
    /// What it can do with the options of the example; `None` if this build doesn't have it.
    pub capabilities: Option<Capabilities>,
}

/// Every backend technology that the library knows, in this build or not. Nothing is connected.
pub fn backends() -> Vec<BackendInfo> {
    let describe = |scheme: &Scheme| BackendInfo {
        kind: scheme.kind,
        schemes: scheme.schemes,
        example_url: scheme.example,
        feature: scheme.feature,
        built: scheme.open.is_some(),
        capabilities: scheme.open.and_then(|open| {
            let mut address = crate::address::Address::parse(scheme.example).ok()?;
            Some(open(&mut address).ok()?.capabilities())
        }),
    };
    ALL.iter().map(describe).collect()
}
