//! ZooKeeper: the members of an ensemble and a chroot.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_zookeeper::{AccessControl, Layout, ZooKeeper, ZooKeeperBackend};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let zookeeper = read(address).map_err(|error| error.with_backend("zookeeper"))?;
    Ok(Arc::new(ZooKeeperBackend::new(zookeeper)?))
}

fn read(address: &mut Address) -> Result<ZooKeeper> {
    let hosts = address.hosts()?;
    if hosts == [""] {
        return Err(Error::misconfigured("this zookeeper:// URL names no host")
            .with_advice("write it as in zookeeper://zk1,zk2,zk3/app"));
    }
    let mut zookeeper = ZooKeeper::hosts(hosts)?;
    let segments = address.segments()?;
    if !segments.is_empty() {
        zookeeper = zookeeper.chroot(format!("/{}", segments.join("/")))?;
    }
    let (user, password) = (address.username()?, address.password()?);
    let is_encrypted = address.url.scheme() == "zookeeper+tls";
    let query = &mut address.query;
    let is_sasl = match query.take("auth").as_deref() {
        None | Some("digest") => false,
        Some("sasl-digest-md5") => true,
        Some(_) => return Err(Error::misconfigured("the option 'auth' must be digest or sasl-digest-md5")),
    };
    match (user, secret::take(query, &PASSWORD, password)?) {
        (Some(user), Some(password)) if is_sasl => zookeeper = zookeeper.sasl_digest_md5(user, password),
        (Some(user), Some(password)) => zookeeper = zookeeper.digest(&user, &password),
        (None, None) if is_sasl => {
            return Err(Error::misconfigured("SASL needs a user and a password")
                .with_advice("write them as in zookeeper://user:password@zk1,zk2?auth=sasl-digest-md5"));
        }
        (None, None) => {}
        _ => {
            return Err(Error::misconfigured("user and password belong together; one of them is missing")
                .with_advice("write them as in zookeeper://user:password@zk1,zk2, or the password as an option"));
        }
    }
    if let Some(directory) = query.take("directory") {
        zookeeper = zookeeper.directory(directory)?;
    }
    if let Some(timeout) = query.take_duration("session-timeout")? {
        zookeeper = zookeeper.session_timeout(timeout);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        zookeeper = zookeeper.connect_timeout(limit);
    }
    if let Some(limit) = query.take_duration("idle-timeout")? {
        zookeeper = zookeeper.idle_timeout(limit);
    }
    if let Some(rule) = query.take_names("names")? {
        zookeeper = zookeeper.names(rule);
    }
    if let Some(assume) = query.take_bool("assume-path-exists")? {
        zookeeper = zookeeper.assume_path_exists(assume);
    }
    match query.take("layout").as_deref() {
        None => {}
        Some("dotnet") => zookeeper = zookeeper.layout(Layout::DotNet),
        Some("curator") => zookeeper = zookeeper.layout(Layout::Curator),
        Some(_) => return Err(Error::misconfigured("the option 'layout' must be dotnet or curator")),
    }
    if let Some(entries) = query.take("acl") {
        zookeeper = zookeeper.acl(entries.split(',').map(AccessControl::parse).collect::<Result<Vec<_>>>()?)?;
    }
    tls(zookeeper, query, is_encrypted)
}

fn tls(mut zookeeper: ZooKeeper, query: &mut Query, is_encrypted: bool) -> Result<ZooKeeper> {
    let ca = secret::take_pem(query, "tls-ca")?;
    let identity = (secret::take_pem(query, "tls-cert")?, secret::take_pem(query, "tls-key")?);
    if !is_encrypted {
        return match (ca, identity) {
            (None, (None, None)) => Ok(zookeeper),
            _ => Err(Error::misconfigured("there are options for TLS, but the URL asks for none")
                .with_advice("write zookeeper+tls:// instead of zookeeper://")),
        };
    }
    zookeeper = zookeeper.tls();
    if let Some(ca) = ca {
        zookeeper = zookeeper.ca(ca);
    }
    match identity {
        (Some(certificate), Some(key)) => Ok(zookeeper.client_certificate(certificate, key)),
        (None, None) => Ok(zookeeper),
        _ => Err(Error::misconfigured("tls-cert and tls-key belong together; one of them is missing")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let zookeeper = read(&mut address)?;
        address.query.finish()?;
        Ok(format!("{zookeeper:?}"))
    }

    #[track_caller]
    fn same(text: &str, zookeeper: ZooKeeper) {
        assert_eq!(shown(text).unwrap(), format!("{zookeeper:?}"), "{text}");
    }

    #[test]
    fn ensembles() {
        let host = |host: &str| ZooKeeper::host(host).unwrap();
        same("zookeeper://h", host("h"));
        same("zookeeper://h/", host("h"));
        same(
            "zookeeper://a:1,b,[::1]:3/x/y",
            ZooKeeper::hosts(["a:1", "b", "[::1]:3"]).unwrap().chroot("/x/y").unwrap(),
        );
        same("zookeeper://me:p%40ss@h", host("h").digest("me", "x"));
        same("zookeeper://me:p%40ss@h?auth=digest", host("h").digest("me", "x"));
        same("zookeeper://me:p%40ss@h?auth=sasl-digest-md5", host("h").sasl_digest_md5("me", "x"));
        same("zookeeper+tls://h", host("h").tls());
        same(
            "zookeeper://h?session-timeout=20s&connect-timeout=1s&directory=/l&layout=curator&acl=auth::cdrwa&idle-timeout=5m",
            host("h")
                .session_timeout(Duration::from_secs(20))
                .connect_timeout(Duration::from_secs(1))
                .idle_timeout(Duration::from_secs(300))
                .directory("/l")
                .unwrap()
                .layout(Layout::Curator)
                .acl([AccessControl::creator()])
                .unwrap(),
        );
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        for (text, says) in [
            ("zookeeper://", "names no host"),
            ("zookeeper://h//a", "chroot"),
            ("zookeeper://me@h", "belong together"),
            ("zookeeper://h?layout=x", "dotnet or curator"),
            ("zookeeper://me:hunter2@h?auth=kerberos", "digest or sasl-digest-md5"),
            ("zookeeper://h?auth=sasl-digest-md5", "a user and a password"),
            ("zookeeper://h?acl=hunter2", "scheme:id:permissions"),
            ("zookeeper://h?directory=x", "/app/locks"),
            ("zookeeper://h?tls-ca=/nowhere/x", "tls-ca"),
            ("zookeeper://h?session-timeout=x", "duration"),
            ("zookeeper://h?chroot=/x", "session-timeout"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
        let mut address = Address::parse("zookeeper://h?session-timeout=1ms").unwrap();
        assert!(open(&mut address).unwrap_err().to_string().contains("session time-out"));
    }
}
