//! Set-up from a configuration file, in any format that serde reads.

use std::fmt;
use std::time::Duration;

use pilotman_core::Result;
use serde::{Deserialize, Deserializer};

use crate::{Locks, parse_duration};

/// Set-up from a configuration file.
///
/// ```
/// # #[cfg(feature = "file")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: pilotman::Config = serde_json::from_str(r#"{ "url": "file:///var/lib/myjob/locks", "hold_at_most": "1h" }"#)?;
/// let locks = config.build()?;
/// # drop(locks);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "file"))]
/// # fn main() {}
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The backend, as for [`Locks::connect`]. `None`: the environment variable `PILOTMAN_BACKEND` names it.
    #[serde(default)]
    pub url: Option<String>,
    /// The lease of locks that name none, like `"30s"`.
    #[serde(default, deserialize_with = "duration")]
    pub lease: Option<Duration>,
    /// The longest pause between attempts where waiting is polling, like `"500ms"`.
    #[serde(default, deserialize_with = "duration")]
    pub retry: Option<Duration>,
    /// How long a holder may keep a lock, like `"1h"`.
    #[serde(default, deserialize_with = "duration")]
    pub hold_at_most: Option<Duration>,
}

impl Config {
    /// Makes the locks.
    ///
    /// # Errors
    ///
    /// As [`Locks::connect`] and [`Builder::build`](crate::Builder::build).
    pub fn build(&self) -> Result<Locks> {
        let mut builder = Locks::builder();
        if let Some(lease) = self.lease {
            builder = builder.lease(lease);
        }
        if let Some(retry) = self.retry {
            builder = builder.retry(retry);
        }
        if let Some(limit) = self.hold_at_most {
            builder = builder.hold_at_most(limit);
        }
        match &self.url {
            Some(url) => builder.use_url(url).build(),
            None => builder.use_env().build(),
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(serde::de::Error::custom)).transpose()
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password, and so may an address that is no URL.
        let shown = |url: &str| match crate::address::split_scheme(url) {
            Some((scheme, _)) => format!("{scheme}://…"),
            None => "…".to_owned(),
        };
        f.debug_struct("Config")
            .field("url", &self.url.as_deref().map(shown))
            .field("lease", &self.lease)
            .field("retry", &self.retry)
            .field("hold_at_most", &self.hold_at_most)
            .finish()
    }
}
