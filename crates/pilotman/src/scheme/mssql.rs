//! SQL Server and Azure SQL.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_mssql::{MsSql, MsSqlBackend, TlsMode};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };
const TOKEN: Names = Names { plain: "entra-token", env: "entra-token-env", file: "entra-token-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let mssql = read(address).map_err(|error| error.with_backend("mssql"))?;
    Ok(Arc::new(MsSqlBackend::new(mssql)?))
}

fn read(address: &mut Address) -> Result<MsSql> {
    let (hosts, mut path) = (address.hosts()?, address.segments()?.into_iter());
    let (user, password) = (address.username()?, address.password()?);
    let (database, more) = (path.next(), path.next());
    if more.is_some() {
        return Err(Error::misconfigured("this mssql:// URL has too long a path")
            .with_advice("it ends with the name of the database, as in mssql://host/shop"));
    }
    let query = &mut address.query;
    let host = hosts.first().map(String::as_str).unwrap_or_default();
    if host.contains(',') {
        return Err(Error::misconfigured("a mssql:// URL names one host")
            .with_advice("name the listener of an availability group, which leads to its primary"));
    }
    if host.is_empty() {
        return Err(Error::misconfigured("this mssql:// URL names no host")
            .with_advice("write it as in mssql://app@db.example/shop"));
    }
    let mut mssql = match query.take("instance") {
        // The port stands behind the instance.
        Some(instance) => match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') => MsSql::host(format!("{name}\\{instance}:{port}"))?,
            _ => MsSql::host(format!("{host}\\{instance}"))?,
        },
        None => MsSql::host(host)?,
    };
    let token = secret::take(query, &TOKEN, None)?;
    let password = secret::take(query, &PASSWORD, password)?;
    mssql = match (user, password, token) {
        (user, password, None) => match (user, password) {
            (Some(user), password) => mssql.login(user, password.unwrap_or_default()),
            (None, None) => mssql,
            (None, Some(_)) => return Err(Error::misconfigured("this mssql:// URL has a password and no user")),
        },
        (None, None, Some(token)) => mssql.entra_token(token),
        _ => return Err(Error::misconfigured("this mssql:// URL has a user or a password, and a token of Entra")),
    };
    if let Some(database) = database {
        mssql = mssql.database(database);
    }
    if let Some(name) = query.take("application-name") {
        mssql = mssql.application_name(name);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        mssql = mssql.connect_timeout(limit);
    }
    if let Some(rule) = query.take_names("names")? {
        mssql = mssql.names(rule);
    }
    if let Some(prefix) = query.take("prefix") {
        mssql = mssql.prefix(prefix);
    }
    if let Some(sequence) = query.take("token-sequence") {
        mssql = mssql.token_sequence(sequence)?;
    }
    match query.take("rw").as_deref() {
        None => {}
        Some("dotnet") => mssql = mssql.dotnet_rw(true),
        Some(_) => {
            return Err(Error::misconfigured("rw can only be dotnet: reader-writer locks where .NET has them"));
        }
    }
    mssql = tls(mssql, query)?;
    let sessions = super::sessions::read(query)?;
    Ok(mssql.sessions(sessions))
}

fn tls(mut mssql: MsSql, query: &mut Query) -> Result<MsSql> {
    let mode = match query.take("tls").as_deref() {
        None => None,
        Some("disable") => Some(TlsMode::Disable),
        Some("login") => Some(TlsMode::LoginOnly),
        Some("require") => Some(TlsMode::Require),
        Some("verify-full") => Some(TlsMode::VerifyFull),
        Some("strict") => Some(TlsMode::Strict),
        Some(_) => {
            return Err(Error::misconfigured("tls is not one of its words")
                .with_advice("use disable, login, require, verify-full or strict"));
        }
    };
    if let Some(mode) = mode {
        mssql = mssql.tls(mode);
    }
    if let Some(name) = query.take("tls-name") {
        mssql = mssql.tls_name(name);
    }
    if let Some(ca) = secret::take_pem(query, "ca")? {
        mssql = mssql.ca(ca);
    }
    Ok(mssql)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let mssql = read(&mut address)?;
        address.query.finish()?;
        Ok(format!("{mssql:?}"))
    }

    #[track_caller]
    fn same(text: &str, mssql: MsSql) {
        assert_eq!(shown(text).unwrap(), format!("{mssql:?}"), "{text}");
    }

    #[test]
    fn urls_are_read() {
        let host = |host: &str| MsSql::host(host).unwrap();
        same("mssql://h", host("h"));
        same("mssql://u:p@h:1/db", host("h:1").login("u", "p").database("db"));
        same("sqlserver://u@h", host("h").login("u", ""));
        same(r"mssql://h?instance=I", host(r"h\I"));
        same(r"mssql://h:9?instance=I", host(r"h\I:9"));
        same("mssql://h?tls=require&rw=dotnet", host("h").tls(TlsMode::Require).dotnet_rw(true));
        same("mssql://h?entra-token=t", host("h").entra_token("t"));
        same("mssql://h?token-sequence=a.b", host("h").token_sequence("a.b").unwrap());
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, part) in [
            ("mssql://", "names no host"),
            ("mssql://a,b", "names one host"),
            ("mssql://h/a/b", "too long a path"),
            ("mssql://h?tls=yes", "verify-full"),
            ("mssql://h?rw=x", "rw"),
            ("mssql://h?password=hunter2", "no user"),
            ("mssql://u@h?entra-token=hunter2", "token of Entra"),
            ("mssql://h?instance=a%20b", "instance"),
            ("mssql://h?sslmode=disable", "tls"),
        ] {
            let error = shown(text).unwrap_err();
            let text = format!("{error} {}", error.advice().unwrap_or_default());
            assert!(text.contains(part) && !text.contains("hunter2"), "{text}");
        }
    }
}
