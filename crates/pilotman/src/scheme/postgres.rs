//! PostgreSQL: one server, several of which one is the primary, a Unix socket.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_postgres::{Postgres, PostgresBackend, Scope, TlsMode};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let postgres = read(address).map_err(|error| error.with_backend("postgres"))?;
    Ok(Arc::new(PostgresBackend::new(postgres)?))
}

fn read(address: &mut Address) -> Result<Postgres> {
    let (hosts, mut path) = (address.hosts()?, address.segments()?.into_iter());
    let (user, password) = (address.username()?, address.password()?);
    let (database, more) = (path.next(), path.next());
    if more.is_some() {
        return Err(Error::misconfigured("this postgres:// URL has too long a path")
            .with_advice("it ends with the name of the database, as in postgres://host/shop"));
    }
    let query = &mut address.query;
    // As other programs name the directory of a socket, which can't stand where a host does.
    let mut postgres = match (hosts == [""], query.take("host")) {
        (true, Some(host)) => Postgres::host(host)?,
        (false, None) => Postgres::hosts(hosts)?,
        (true, None) => {
            return Err(Error::misconfigured("this postgres:// URL names no host").with_advice(
                "write it as in postgres://user@127.0.0.1/shop, or with a socket's directory: \
                 postgres:///shop?host=/run/postgresql",
            ));
        }
        (false, Some(_)) => return Err(Error::misconfigured("the host is given twice, in the URL and as an option")),
    };
    if let Some(user) = user {
        postgres = postgres.user(user);
    }
    if let Some(password) = secret::take(query, &PASSWORD, password)? {
        postgres = postgres.password(password);
    }
    if let Some(database) = database {
        postgres = postgres.database(database);
    }
    if let Some(name) = query.take("application-name") {
        postgres = postgres.application_name(name);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        postgres = postgres.connect_timeout(limit);
    }
    if let Some(rule) = query.take_names("names")? {
        postgres = postgres.names(rule);
    }
    if let Some(sequence) = query.take("token-sequence") {
        postgres = postgres.token_sequence(sequence)?;
    }
    postgres = tls(postgres, query)?;
    postgres = scope(postgres, query)?;
    Ok(postgres.sessions(super::sessions::read(query)?))
}

fn tls(mut postgres: Postgres, query: &mut Query) -> Result<Postgres> {
    let mode = match query.take("sslmode").as_deref() {
        None => None,
        Some("disable") => Some(TlsMode::Disable),
        Some("prefer" | "allow") => Some(TlsMode::Prefer),
        Some("require") => Some(TlsMode::Require),
        Some("verify-ca") => Some(TlsMode::VerifyCa),
        Some("verify-full") => Some(TlsMode::VerifyFull),
        Some(_) => {
            return Err(Error::misconfigured("sslmode is not one of its words")
                .with_advice("use disable, prefer, require, verify-ca or verify-full"));
        }
    };
    if let Some(mode) = mode {
        postgres = postgres.tls(mode);
    }
    if let Some(ca) = secret::take_pem(query, "sslrootcert")? {
        postgres = postgres.ca(ca);
    }
    match (secret::take_pem(query, "sslcert")?, secret::take_pem(query, "sslkey")?) {
        (Some(certificate), Some(key)) => Ok(postgres.client_certificate(certificate, key)),
        (None, None) => Ok(postgres),
        _ => Err(Error::misconfigured("sslcert and sslkey belong together; one of them is missing")),
    }
}

fn scope(postgres: Postgres, query: &mut Query) -> Result<Postgres> {
    let postgres = match query.take("scope").as_deref() {
        None | Some("session") => postgres,
        Some("transaction") => postgres.scope(Scope::Transaction),
        Some(_) => {
            return Err(Error::misconfigured("scope is neither session nor transaction"));
        }
    };
    match query.take("pooler").as_deref() {
        None => Ok(postgres),
        Some("session") => Ok(postgres.trust_pooler(true)),
        Some(_) => {
            Err(Error::misconfigured("pooler can only be session: a pooler that gives each connection one of its own")
                .with_advice("for a pooler that gives transactions to servers, use scope=transaction"))
        }
    }
}

#[cfg(test)]
mod tests {
    use pilotman_postgres::SessionOptions;

    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let postgres = read(&mut address)?;
        address.query.finish()?;
        Ok(format!("{postgres:?}"))
    }

    #[track_caller]
    fn same(text: &str, postgres: Postgres) {
        assert_eq!(shown(text).unwrap(), format!("{postgres:?}"), "{text}");
    }

    #[test]
    fn servers() {
        let host = |host: &str| Postgres::host(host).unwrap();
        same("postgres://h", host("h"));
        same("postgresql://u@h:1/db", host("h:1").user("u").database("db"));
        same("postgres://us%2Fer:p%40ss@[::1]:7/a%20b", host("[::1]:7").user("us/er").password("x").database("a b"));
        same("postgres://a:1,b/db", Postgres::hosts(["a:1", "b"]).unwrap().database("db"));
        same("postgres:///db?host=/run/pg", host("/run/pg").database("db"));
        same(
            "postgres://h?sslmode=verify-full&scope=transaction",
            host("h").tls(TlsMode::VerifyFull).scope(Scope::Transaction),
        );
        let mut sessions = SessionOptions::default();
        sessions.max_sessions = 5;
        same("postgres://h?max-sessions=5", host("h").sessions(sessions));
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        for (text, says) in [
            ("postgres://", "names no host"),
            ("postgres://h/a/b", "too long a path"),
            ("postgres://h?host=/run", "twice"),
            ("postgres://h?sslmode=yes", "verify-full"),
            ("postgres://h?scope=x", "transaction"),
            ("postgres://h?pooler=transaction", "scope=transaction"),
            ("postgres://h?sslcert=/nowhere/x", "sslcert"),
            ("postgres://h?sslmod=disable", "sslmode"),
            ("postgres://h?token-sequence=a.b.c", "sequence"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
