//! MySQL and MariaDB: one server, several of which one takes writes, a Unix socket.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_mysql::{MySql, MySqlBackend, TlsMode};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let mysql = read(address).map_err(|error| error.with_backend("mysql"))?;
    Ok(Arc::new(MySqlBackend::new(mysql)?))
}

fn read(address: &mut Address) -> Result<MySql> {
    let (hosts, mut path) = (address.hosts()?, address.segments()?.into_iter());
    let (user, password) = (address.username()?, address.password()?);
    let (database, more) = (path.next(), path.next());
    if more.is_some() {
        return Err(Error::misconfigured("this mysql:// URL has too long a path")
            .with_advice("it ends with the name of the database, as in mysql://host/shop"));
    }
    let query = &mut address.query;
    let mut mysql = match (hosts == [""], query.take("socket")) {
        (true, Some(socket)) => MySql::host(socket)?,
        (false, None) => MySql::hosts(hosts)?,
        (true, None) => {
            return Err(Error::misconfigured("this mysql:// URL names no host").with_advice(
                "write it as in mysql://user@127.0.0.1/shop, or with a socket: mysql:///shop?socket=/run/mysqld/mysqld.sock",
            ));
        }
        (false, Some(_)) => return Err(Error::misconfigured("there is a host in the URL and a socket as an option")),
    };
    if let Some(user) = user {
        mysql = mysql.user(user);
    }
    if let Some(password) = secret::take(query, &PASSWORD, password)? {
        mysql = mysql.password(password);
    }
    if let Some(database) = database {
        mysql = mysql.database(database);
    }
    if let Some(name) = query.take("application-name") {
        mysql = mysql.application_name(name);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        mysql = mysql.connect_timeout(limit);
    }
    if let Some(rule) = query.take_names("names")? {
        mysql = mysql.names(rule);
    }
    if let Some(prefix) = query.take("prefix") {
        mysql = mysql.prefix(prefix);
    }
    if let Some(table) = query.take("token-table") {
        mysql = mysql.token_table(table)?;
    }
    match query.take("proxy").as_deref() {
        None => {}
        Some("session") => mysql = mysql.trust_proxy(true),
        Some(_) => {
            return Err(Error::misconfigured(
                "proxy can only be session: one that gives each connection a session of its own",
            ));
        }
    }
    mysql = tls(mysql, query)?;
    let sessions = super::sessions::read(query)?;
    Ok(mysql.sessions(sessions))
}

fn tls(mut mysql: MySql, query: &mut Query) -> Result<MySql> {
    let mode = match query.take("ssl-mode").as_deref() {
        None => None,
        Some("disabled") => Some(TlsMode::Disable),
        Some("preferred") => Some(TlsMode::Prefer),
        Some("required") => Some(TlsMode::Require),
        Some("verify-identity") => Some(TlsMode::VerifyFull),
        Some(_) => {
            return Err(Error::misconfigured("ssl-mode is not one of its words")
                .with_advice("use disabled, preferred, required or verify-identity"));
        }
    };
    if let Some(mode) = mode {
        mysql = mysql.tls(mode);
    }
    if let Some(name) = query.take("tls-name") {
        mysql = mysql.tls_name(name);
    }
    if let Some(ca) = secret::take_pem(query, "ssl-ca")? {
        mysql = mysql.ca(ca);
    }
    match (secret::take_pem(query, "ssl-cert")?, secret::take_pem(query, "ssl-key")?) {
        (Some(certificate), Some(key)) => Ok(mysql.client_certificate(certificate, key)),
        (None, None) => Ok(mysql),
        _ => Err(Error::misconfigured("ssl-cert and ssl-key belong together; one of them is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let mysql = read(&mut address)?;
        address.query.finish()?;
        Ok(format!("{mysql:?}"))
    }

    #[track_caller]
    fn same(text: &str, mysql: MySql) {
        assert_eq!(shown(text).unwrap(), format!("{mysql:?}"), "{text}");
    }

    #[test]
    fn servers() {
        let host = |host: &str| MySql::host(host).unwrap();
        same("mysql://h", host("h"));
        same("mysql://u@h:1/db", host("h:1").user("u").database("db"));
        same("mariadb://us%2Fer:p%40ss@[::1]:7/a", host("[::1]:7").user("us/er").password("x").database("a"));
        same("mysql://a:1,b/db", MySql::hosts(["a:1", "b"]).unwrap().database("db"));
        same("mysql:///db?socket=/run/m.sock", host("/run/m.sock").database("db"));
        same("mysql://h?ssl-mode=verify-identity", host("h").tls(TlsMode::VerifyFull));
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        for (text, says) in [
            ("mysql://", "names no host"),
            ("mysql://h/a/b", "too long a path"),
            ("mysql://h?socket=/run", "socket"),
            ("mysql://h?ssl-mode=yes", "verify-identity"),
            ("mysql://h?proxy=x", "proxy"),
            ("mysql://h?ssl-cert=/nowhere/x", "ssl-cert"),
            ("mysql://h?sslmode=disable", "ssl-mode"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
