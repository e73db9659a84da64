//! `skips.toml`: the servers whose tests may be left out where they can't be installed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The list of allowed skips.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Skips {
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    server: String,
    reason: String,
}

/// Reads the list.
///
/// # Errors
///
/// When the file can't be read, is not as it should be, or an entry gives no reason.
pub(super) fn read(path: &Path) -> Result<Skips> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Skips::parse(&text).with_context(|| format!("{} is not right", path.display()))
}

impl Skips {
    /// Parses the list.
    ///
    /// # Errors
    ///
    /// When it is not as it should be, or an entry gives no reason.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let skips: Self = toml::from_str(text)?;
        for skip in &skips.skip {
            if skip.reason.trim().is_empty() {
                bail!("the skip of {} has no reason", skip.server);
            }
        }
        Ok(skips)
    }

    /// Whether the tests of this server may be left out when it is missing.
    pub(super) fn allows(&self, server: &str) -> bool {
        self.servers().any(|name| name == server)
    }

    /// The servers of the list.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        self.skip.iter().map(|skip| skip.server.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_needs_a_reason() {
        assert!(Skips::parse("[[skip]]\nserver = \"mysql\"\n").is_err());
        assert!(Skips::parse("[[skip]]\nserver = \"mysql\"\nreason = \" \"\n").is_err());
        let skips = Skips::parse("[[skip]]\nserver = \"mysql\"\nreason = \"no package\"\n").unwrap();
        assert!(skips.allows("mysql") && !skips.allows("redis"));
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(Skips::parse("[[skips]]\nserver = \"mysql\"\nreason = \"x\"\n").is_err());
    }

    #[test]
    fn the_list_of_the_repository_is_right() {
        read(&crate::workspace::root().join("skips.toml")).unwrap();
    }
}
