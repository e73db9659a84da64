//! Addresses of Redis without a scheme: `host:port`, and the connection string of StackExchange.Redis, in which .NET
//! programs and the portals of cloud providers name a Redis.

use std::net::Ipv6Addr;

use pilotman_core::{Error, Result};
use url::Url;

use crate::address::Address;
use crate::query::Query;

/// The options that such a string may have.
const KNOWN: &str = "abortConnect, asyncTimeout, connectTimeout, defaultDatabase, keepAlive, name, password, \
                     serviceName, ssl, sslHost, syncTimeout, user";

/// Reads `host:port[,host:port…]` or `host[:port][,host[:port]…],option=value…`; `None` if it is nothing of the kind.
pub(crate) fn read(text: &str) -> Result<Option<Address>> {
    let mut items = text.split(',').map(str::trim).peekable();
    let mut hosts = Vec::new();
    while let Some(item) = items.next_if(|item| !item.contains('=')) {
        let Some(endpoint) = Endpoint::parse(item) else { return Ok(None) };
        hosts.push(endpoint);
    }
    let has_options = items.peek().is_some();
    // A bare word may be anything, a password for one.
    if hosts.is_empty() || !has_options && hosts.iter().any(|endpoint| endpoint.port.is_none()) {
        return Ok(None);
    }
    let mut options = Options::default();
    for item in items.filter(|item| !item.is_empty()) {
        options.read(item)?;
    }
    options.address(&hosts).map(Some)
}

/// A host, perhaps with its port.
struct Endpoint<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Endpoint<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let fits = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
            None => !host.is_empty() && host.chars().all(is_name),
        };
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok().filter(|port| *port > 0)?)
            }
            Some(_) => return None,
            None => None,
        };
        fits.then_some(Self { host, port })
    }

    fn with_port(&self, default: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(default))
    }
}

/// What the options say, as options of a URL.
#[derive(Default)]
struct Options {
    seen: Vec<String>,
    pairs: Vec<(String, String)>,
    ssl: bool,
    ssl_host: bool,
    service: Option<String>,
    sync_timeout: Option<String>,
    async_timeout: Option<String>,
}

impl Options {
    /// Reads one `option=value`. Neither is repeated in an error: a comma in a password makes an option of its rest.
    fn read(&mut self, item: &str) -> Result<()> {
        let Some((key, value)) = item.split_once('=') else {
            return Err(Error::misconfigured("something in this connection string is no option=value")
                .with_advice("servers come first; a password with a comma needs the form of a URL, with %2C"));
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if self.seen.contains(&key) {
            return Err(Error::misconfigured("an option of this connection string is given twice"));
        }
        match key.as_str() {
            "password" => self.set("password", value),
            "user" => self.set("username", value),
            "name" => self.set("client-name", value),
            "defaultdatabase" => self.set("db", value),
            "servicename" => self.service = Some(value.to_owned()).filter(|service| !service.is_empty()),
            "ssl" => self.ssl = boolean(value).ok_or_else(|| bad("ssl", "True or False"))?,
            "sslhost" => {
                self.ssl_host = !value.is_empty();
                self.set("server-name", value);
            }
            "connecttimeout" => {
                let limit = millis("connectTimeout", value)?;
                self.set("connect-timeout", &limit);
            }
            "synctimeout" => self.sync_timeout = Some(millis("syncTimeout", value)?),
            "asynctimeout" => self.async_timeout = Some(millis("asyncTimeout", value)?),
            // We connect when it is needed, again if it fails, and the system keeps idle connections alive.
            "abortconnect" | "keepalive" => {}
            _ => {
                return Err(Error::misconfigured("an option of this connection string is not known here")
                    .with_advice(format!("the options are {KNOWN}; a URL has more, see its page")));
            }
        }
        self.seen.push(key);
        Ok(())
    }

    /// What is empty, as templates leave it, counts as absent.
    fn set(&mut self, option: &str, value: &str) {
        if !value.is_empty() {
            self.pairs.push((option.to_owned(), value.to_owned()));
        }
    }

    /// The same as a URL would say it.
    fn address(mut self, hosts: &[Endpoint<'_>]) -> Result<Address> {
        if self.ssl_host && !self.ssl {
            return Err(Error::misconfigured("sslHost needs ssl=True"));
        }
        if let Some(limit) = self.async_timeout.take().or(self.sync_timeout.take()) {
            self.set("response-timeout", &limit);
        }
        let (scheme, port) = match (&self.service, self.ssl) {
            (None, false) => ("redis", 6379),
            (None, true) => ("rediss", 6380),
            (Some(_), false) => ("redis-sentinel", 26379),
            (Some(_), true) => ("rediss-sentinel", 26379),
        };
        crate::scheme::find(scheme)?;
        let unreadable = || Error::misconfigured("this connection string can't be read");
        let mut hosts = hosts.iter().map(|endpoint| endpoint.with_port(port));
        let first = format!("{scheme}://{}", hosts.next().unwrap_or_default());
        let mut url = Url::parse(&first).map_err(|error| unreadable().with_source(error))?;
        if let Some(service) = &self.service {
            url.path_segments_mut().map_err(|()| unreadable())?.push(service);
        }
        Ok(Address { url, others: hosts.collect(), query: Query::of(self.pairs)? })
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn millis(option: &'static str, text: &str) -> Result<String> {
    match text.parse::<u32>() {
        Ok(millis) => Ok(format!("{millis}ms")),
        Err(_) => Err(bad(option, "a number of milliseconds")),
    }
}

fn bad(option: &str, expected: &str) -> Error {
    Error::misconfigured(format!("the option '{option}' must be {expected}"))
}
