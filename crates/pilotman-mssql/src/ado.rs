//! ADO.NET connection strings.

use std::time::Duration;

use pilotman_core::{Error, Result};

use crate::options::{Host, MsSql, TlsMode};

/// What a keyword means, in all its spellings, without blanks and in small letters.
const KNOWN: &[(&str, Key)] = &[
    ("server", Key::Server),
    ("datasource", Key::Server),
    ("address", Key::Server),
    ("addr", Key::Server),
    ("networkaddress", Key::Server),
    ("database", Key::Database),
    ("initialcatalog", Key::Database),
    ("userid", Key::User),
    ("uid", Key::User),
    ("user", Key::User),
    ("password", Key::Password),
    ("pwd", Key::Password),
    ("applicationname", Key::Application),
    ("app", Key::Application),
    ("encrypt", Key::Encrypt),
    ("trustservercertificate", Key::Trust),
    ("hostnameincertificate", Key::CertificateName),
    ("connecttimeout", Key::ConnectTimeout),
    ("connectiontimeout", Key::ConnectTimeout),
    ("timeout", Key::ConnectTimeout),
    ("integratedsecurity", Key::Off("the login of the operating system")),
    ("trustedconnection", Key::Off("the login of the operating system")),
    ("multipleactiveresultsets", Key::Off("several results at the same time")),
    ("mars", Key::Off("several results at the same time")),
    ("persistsecurityinfo", Key::Pointless),
    ("pooling", Key::Pointless),
    ("maxpoolsize", Key::Pointless),
    ("minpoolsize", Key::Pointless),
    ("connectretrycount", Key::Pointless),
    ("connectretryinterval", Key::Pointless),
    ("multisubnetfailover", Key::Pointless),
    ("commandtimeout", Key::Pointless),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Server,
    Database,
    User,
    Password,
    Application,
    Encrypt,
    Trust,
    CertificateName,
    ConnectTimeout,
    /// It may be switched off, and is so in any case.
    Off(&'static str),
    /// It says how a pool or a driver of .NET behaves, and changes nothing here.
    Pointless,
}

/// Reads a connection string. No error quotes a value.
pub(crate) fn read(text: &str) -> Result<MsSql> {
    let (mut host, mut user, mut password) = (None, None, None);
    let mut set: Vec<(Key, String)> = Vec::new();
    for (word, value) in pairs(text)? {
        let key = known(&word, password.is_some())?;
        match key {
            Key::Server => host = Some(server(&value)?),
            Key::User => user = Some(value),
            Key::Password => password = Some(value),
            // The last one counts.
            _ => set.push((key, value)),
        }
    }
    let host = host.ok_or_else(|| {
        Error::misconfigured("this connection string names no server").with_advice("as in Server=tcp:db.example,1433")
    })?;
    let mut mssql = MsSql::at(host);
    if let Some(user) = user {
        mssql = mssql.login(user, password.unwrap_or_default());
    }
    let (mut trusts, mut encrypt) = (false, TlsMode::VerifyFull);
    for (key, value) in set {
        match key {
            Key::Database => mssql = mssql.database(value),
            Key::Application => mssql = mssql.application_name(value),
            Key::CertificateName => mssql = mssql.tls_name(value),
            Key::ConnectTimeout => {
                let seconds: u32 = value.trim().parse().map_err(|_| odd("Connect Timeout", "a number of seconds"))?;
                // Zero is without a limit, there.
                let limit =
                    if seconds == 0 { Duration::from_secs(86_400) } else { Duration::from_secs(seconds.into()) };
                mssql = mssql.connect_timeout(limit);
            }
            Key::Trust => trusts = is_yes("TrustServerCertificate", &value)?,
            Key::Encrypt => {
                encrypt = match value.trim().to_ascii_lowercase().as_str() {
                    "strict" => TlsMode::Strict,
                    "mandatory" | "true" | "yes" => TlsMode::VerifyFull,
                    "optional" | "false" | "no" => TlsMode::LoginOnly,
                    _ => return Err(odd("Encrypt", "strict, mandatory or optional")),
                }
            }
            Key::Off(what) if is_yes("such a keyword", &value)? => {
                return Err(Error::misconfigured(format!(
                    "this connection string asks for {what}, which is not to be had"
                ))
                .with_advice("leave it out; log in by User ID and Password, or by a token"));
            }
            _ => {}
        }
    }
    Ok(mssql.tls(match (encrypt, trusts) {
        (TlsMode::VerifyFull, true) => TlsMode::Require,
        (mode, _) => mode,
    }))
}

fn odd(key: &str, wanted: &str) -> Error {
    Error::misconfigured(format!("{key} in this connection string is not {wanted}"))
}

fn is_yes(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "sspi" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(odd(key, "true or false")),
    }
}

fn known(word: &str, behind_password: bool) -> Result<Key> {
    let plain: String =
        word.chars().filter(|c| !c.is_whitespace() && *c != '_').collect::<String>().to_ascii_lowercase();
    if let Some((_, key)) = KNOWN.iter().find(|(known, _)| *known == plain) {
        return Ok(*key);
    }
    // What stands there may be a part of a password with a semicolon.
    let is_word = !behind_password && plain.len() <= 40 && plain.bytes().all(|byte| byte.is_ascii_lowercase());
    let shown = if is_word { format!("the keyword {plain}") } else { "a keyword".to_owned() };
    let all: Vec<_> = KNOWN.iter().map(|(known, _)| *known).collect();
    Err(Error::misconfigured(format!("this connection string has {shown}, which is not known here"))
        .with_advice(format!("known are {}; a value with a semicolon stands in quotes", all.join(", "))))
}

/// `tcp:host\instance,port`.
fn server(text: &str) -> Result<Host> {
    let text = text.trim();
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let (name, port) = match text.split_once(',') {
        Some((name, port)) => (name.trim(), Some(port.trim().parse().unwrap_or(0))),
        None => (text, None),
    };
    let (name, instance) = match name.split_once('\\') {
        Some((name, instance)) => (name, Some(instance)),
        None => (name, None),
    };
    let name = match name {
        "." | "(local)" => "localhost",
        name => name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name),
    };
    Host::new(name, port, instance)
}

/// The keywords and their values. A value with semicolons or blanks at its ends stands in quotes, which are doubled inside.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let bad = |why: &str| Error::misconfigured(format!("this is no connection string: {why}"));
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
        if rest.is_empty() {
            return Ok(found);
        }
        let (word, value) = rest.split_once('=').ok_or_else(|| bad("a keyword has no value"))?;
        if word.contains(';') {
            return Err(bad("a keyword has no value"));
        }
        let value = value.trim_start();
        let (value, behind) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote).ok_or_else(|| bad("a quote is not closed"))?,
            _ => {
                let (value, behind) = value.split_once(';').unwrap_or((value, ""));
                (value.trim_end().to_owned(), behind)
            }
        };
        found.push((word.trim().to_owned(), value));
        rest = behind;
    }
}

/// A value up to its closing quote, and what stands behind the semicolon after it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut signs = text.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        if sign != quote {
            value.push(sign);
        } else if signs.next_if(|(_, next)| *next == quote).is_some() {
            value.push(quote);
        } else {
            let behind = text[at + 1..].trim_start();
            return match behind.is_empty() {
                true => Some((value, "")),
                false => behind.strip_prefix(';').map(|behind| (value, behind)),
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(text: &str, mssql: MsSql) {
        assert_eq!(format!("{:?}", read(text).unwrap()), format!("{mssql:?}"), "{text}");
    }

    #[test]
    fn connection_strings_are_read() {
        let host = |host: &str| MsSql::host(host).unwrap();
        same("Server=h", host("h"));
        same("server=tcp:h,1;", host("h:1"));
        same("Data Source=(local)", host("localhost"));
        same(r"Server=h\I,9", host(r"h\I:9"));
        same("Server=h;Initial Catalog=shop;Application Name=x", host("h").database("shop").application_name("x"));
        same("Server=h;UID=u;PWD=p;TrustServerCertificate=True", host("h").login("u", "p").tls(TlsMode::Require));
        same("Server=h;Encrypt=Strict;TrustServerCertificate=yes", host("h").tls(TlsMode::Strict));
        same("Server=h;Encrypt=false", host("h").tls(TlsMode::LoginOnly));
        same("Server=h;Connect Timeout=7;Pooling=false;MARS=no", host("h").connect_timeout(Duration::from_secs(7)));
    }

    #[test]
    fn values_may_be_quoted() {
        let password = |text: &str| {
            let found = pairs(text).unwrap();
            found.into_iter().find(|(word, _)| word == "p").unwrap().1
        };
        for (text, value) in [
            ("p=a=b==;x=1", "a=b=="),
            ("p='a;b'", "a;b"),
            ("p=\"a\"\"b\" ;x=1", "a\"b"),
            ("p= ' a ' ", " a "),
            ("p=;x=1", ""),
        ] {
            assert_eq!(password(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for (text, part) in [
            ("", "names no server"),
            ("Server", "no value"),
            ("Server=h;Password='x", "not closed"),
            ("Server=h;Password=hun;ter2=1", "semicolon"),
            ("Server=h;Password=hun;zqx=1", "semicolon"),
            ("Server=h;PWD=hun;Encrypt=no;zqx=1", "semicolon"),
            ("Server=h;Colour=red", "the keyword colour"),
            ("Server=h;Colour=red;Password=hun;zqx=1", "the keyword colour"),
            ("Server=h;Encrypt=perhaps", "strict, mandatory or optional"),
            ("Server=h;Integrated Security=SSPI", "not to be had"),
            ("Server=h,x", "no port"),
            ("Server=h;Connect Timeout=soon", "seconds"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), pilotman_core::ErrorKind::Misconfigured);
            let text = format!("{error} {}", error.advice().unwrap_or_default());
            assert!(text.contains(part) && !text.contains("hun"), "{text}");
            assert!(!text.contains("ter2") && !text.contains("zqx"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[ -~;='\"\\PC]{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn what_was_quoted_comes_back(value in "\\PC{0,40}", single in proptest::bool::ANY) {
            let quote = if single { "'" } else { "\"" };
            let text = format!("p={quote}{}{quote};x=1", value.replace(quote, &quote.repeat(2)));
            prop_assert_eq!(&pairs(&text).unwrap()[0].1, &value);
        }
    }
}
