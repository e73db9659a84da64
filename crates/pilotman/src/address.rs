//! Backend URLs. No error repeats one: it may hold a password.

use pilotman_core::{Error, Result};
use url::Url;

use crate::query::Query;

/// A backend URL, taken apart.
pub(crate) struct Address {
    pub(crate) url: Url,
    pub(crate) query: Query,
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(Error::misconfigured("this backend address is not a URL").with_advice(format!(
                "write it with its scheme; this build knows {}",
                crate::scheme::known_schemes().join(", ")
            )));
        };
        crate::scheme::check(scheme)?;
        // The parser's error says what is wrong without repeating the text.
        let url = Url::parse(text)
            .map_err(|error| Error::misconfigured(format!("this {scheme}:// URL can't be read")).with_source(error))?;
        let query = Query::parse(&url)?;
        Ok(Self { url, query })
    }
}
