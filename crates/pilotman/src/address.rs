//! Backend addresses. No error repeats one: it may hold a password.

use pilotman_core::{Error, Result};
use url::Url;

use crate::query::Query;
use crate::{connection_string, percent};

/// A backend address, taken apart.
#[derive(Clone)]
pub(crate) struct Address {
    /// The URL, with the first host only.
    pub(crate) url: Url,
    /// The other hosts, each `host` or `host:port`.
    pub(crate) others: Vec<String>,
    pub(crate) query: Query,
}

impl Address {
    /// Reads a URL, or one of the other forms that a [`connection_string`] has.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = split_scheme(text) else {
            return connection_string::read(text)?.ok_or_else(|| {
                Error::misconfigured("this backend address is not a URL").with_advice(format!(
                    "write it with its scheme; this build knows {}",
                    crate::scheme::known_schemes().join(", ")
                ))
            });
        };
        let (first, others) = match crate::scheme::find(scheme)?.0.several_hosts {
            true => split_hosts(scheme, rest)?,
            false => (text.to_owned(), Vec::new()),
        };
        // The parser's error says what is wrong without repeating the text.
        let url = Url::parse(&first).map_err(|error| {
            let error = Error::misconfigured(format!("this {scheme}:// URL can't be read")).with_source(error);
            match first.contains('@') {
                true => {
                    error.with_advice("if user or password have characters like / ? # @, write them as %2F %3F %23 %40")
                }
                false => error,
            }
        })?;
        if url.fragment().is_some() {
            return Err(Error::misconfigured(format!("this {scheme}:// URL has a #, after which nothing counts"))
                .with_advice("write it as %23 if it belongs to a name or a password"));
        }
        let query = Query::parse(&url)?;
        Ok(Self { url, others, query })
    }
}

#[cfg_attr(not(feature = "redis"), allow(dead_code))]
impl Address {
    /// All hosts as `host` or `host:port`; a single empty one if there is none.
    pub(crate) fn hosts(&self) -> Result<Vec<String>> {
        let host = self.url.host_str().unwrap_or_default();
        let first = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        std::iter::once(&first).chain(&self.others).map(|host| self.decoded(host)).collect()
    }

    /// The user name, unless it is empty.
    pub(crate) fn username(&self) -> Result<Option<String>> {
        Some(self.url.username()).filter(|name| !name.is_empty()).map(|name| self.decoded(name)).transpose()
    }

    /// The password, unless it is empty.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        self.url.password().filter(|password| !password.is_empty()).map(|password| self.decoded(password)).transpose()
    }

    /// The parts of the path, between slashes.
    pub(crate) fn segments(&self) -> Result<Vec<String>> {
        let path = self.url.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Vec::new());
        }
        path.split('/').map(|segment| self.decoded(segment)).collect()
    }

    /// The path as a whole.
    pub(crate) fn path(&self) -> Result<String> {
        self.decoded(self.url.path())
    }

    fn decoded(&self, part: &str) -> Result<String> {
        percent::decode(part).ok_or_else(|| {
            let scheme = self.url.scheme();
            Error::misconfigured(format!("this {scheme}:// URL has bytes that are no UTF-8 when percent-decoded"))
        })
    }
}

/// The scheme, and what follows `://`.
pub(crate) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    // In a connection string :// may be a part of the password.
    text.split_once("://").filter(|(scheme, _)| !scheme.contains([',', '=']))
}

/// The URL with its first host only, and the other hosts: URLs have but one.
fn split_hosts(scheme: &str, rest: &str) -> Result<(String, Vec<String>)> {
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    if user.matches('@').count() > 1 {
        return Err(Error::misconfigured(format!("this {scheme}:// URL has more than one @ before its path"))
            .with_advice("write user and password once, before all hosts, and an @ in them as %40"));
    }
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    Ok((format!("{scheme}://{user}{first}{after}"), hosts.map(str::to_owned).collect()))
}
