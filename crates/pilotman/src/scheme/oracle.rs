//! Oracle Database: a service of a host or of several, a whole descriptor, an alias.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_oracle::{Oracle, OracleBackend};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };
const WALLET_PASSWORD: Names =
    Names { plain: "wallet-password", env: "wallet-password-env", file: "wallet-password-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let oracle = read(address).map_err(|error| error.with_backend("oracle"))?;
    Ok(Arc::new(OracleBackend::new(oracle)?))
}

fn read(address: &mut Address) -> Result<Oracle> {
    let (hosts, path) = (address.hosts()?, address.segments()?);
    let (user, password) = (address.username()?, address.password()?);
    let query = &mut address.query;
    let mut oracle = Oracle::new(connect_string(hosts, &path, query)?)?;
    match (user, query.take("user")) {
        (Some(_), Some(_)) => {
            return Err(Error::misconfigured("there is a user in the URL and another one as an option"));
        }
        (Some(user), None) | (None, Some(user)) => oracle = oracle.user(user),
        (None, None) => {}
    }
    if let Some(password) = secret::take(query, &PASSWORD, password)? {
        oracle = oracle.password(password);
    }
    if let Some(directory) = query.take("wallet") {
        oracle = oracle.wallet(directory);
    }
    if let Some(password) = secret::take(query, &WALLET_PASSWORD, None)? {
        oracle = oracle.wallet_password(password);
    }
    if let Some(name) = query.take("application-name") {
        oracle = oracle.application_name(name);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        oracle = oracle.connect_timeout(limit);
    }
    if let Some(rule) = query.take_names("names")? {
        oracle = oracle.names(rule);
    }
    if let Some(prefix) = query.take("prefix") {
        oracle = oracle.prefix(prefix);
    }
    match query.take("rw").as_deref() {
        None => {}
        Some("dotnet") => oracle = oracle.dotnet_rw(true),
        Some(_) => {
            return Err(Error::misconfigured("rw can only be dotnet: reader-writer locks with the names of .NET"));
        }
    }
    if let Some(sequence) = query.take("token-sequence") {
        oracle = oracle.token_sequence(sequence)?;
    }
    match query.take("driver").as_deref() {
        None => {}
        Some("thin") => oracle = oracle.client_library(false),
        Some("odpi") => oracle = oracle.client_library(true),
        Some(_) => {
            return Err(Error::misconfigured("driver is neither thin (in Rust) nor odpi (on Oracle's client library)"));
        }
    }
    let sessions = super::sessions::read(query)?;
    Ok(oracle.sessions(sessions))
}

/// Easy Connect of what stands in the URL, or the connect string that an option has.
fn connect_string(hosts: Vec<String>, path: &[String], query: &mut Query) -> Result<String> {
    let (whole, tls) = (query.take("connect-string"), query.take_bool("tls")?);
    let is_empty = hosts.iter().all(String::is_empty);
    match (whole, path) {
        (Some(whole), []) if is_empty && tls.is_none() => Ok(whole),
        (Some(_), _) => {
            Err(Error::misconfigured("there is a connect string as an option and a host, service or tls beside it")
                .with_advice(
                    "write it as in oracle:///?connect-string=ALIAS&user=app, with signs like ( and = encoded",
                ))
        }
        (None, [service]) if !is_empty => {
            let protocol = if tls == Some(true) { "tcps://" } else { "" };
            Ok(format!("{protocol}{}/{service}", hosts.join(",")))
        }
        _ => Err(Error::misconfigured("this oracle:// URL names no host or no service")
            .with_advice("write it as in oracle://app@db.example:1521/SHOP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let oracle = read(&mut address)?;
        address.query.finish()?;
        Ok(all(&oracle))
    }

    /// The options, with what they don't show.
    fn all(oracle: &Oracle) -> String {
        format!("{} {oracle:?}", oracle.connect_string())
    }

    #[track_caller]
    fn same(text: &str, oracle: Oracle) {
        assert_eq!(shown(text).unwrap(), all(&oracle), "{text}");
    }

    #[test]
    fn databases() {
        let oracle = |connect_string: &str| Oracle::new(connect_string).unwrap();
        same("oracle://h/S", oracle("h/S"));
        same("oracle://u@h:1/S", oracle("h:1/S").user("u"));
        same("oracle://us%2Fer:p%40ss@h1:1,h2:2/s.example", oracle("h1:1,h2:2/s.example").user("us/er").password("x"));
        same("oracle://u@h/S?tls=true&wallet=/w", oracle("tcps://h/S").user("u").wallet("/w"));
        same("oracle:///?connect-string=(DESCRIPTION%3D(X))&user=u", oracle("(DESCRIPTION=(X))").user("u"));
        same("oracle://h/S?rw=dotnet&driver=odpi", oracle("h/S").dotnet_rw(true).client_library(true));
        same("oracle://h/S?token-sequence=APP.T", oracle("h/S").token_sequence("APP.T").unwrap());
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        for (text, says) in [
            ("oracle://", "no host or no service"),
            ("oracle://h", "no host or no service"),
            ("oracle://h/a/b", "no host or no service"),
            ("oracle://h/S?connect-string=X", "beside it"),
            ("oracle:///?connect-string=a/b@c", "options of their own"),
            ("oracle://u@h/S?user=v", "another one"),
            ("oracle://h/S?rw=x", "dotnet"),
            ("oracle://h/S?driver=oci", "odpi"),
            ("oracle://h/S?token-sequence=a%22b", "sequence"),
            ("oracle://h/S?service=x", "connect-string"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
