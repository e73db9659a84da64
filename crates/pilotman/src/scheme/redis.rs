//! Redis and Valkey: one server, several of which one is the primary, Sentinel, Cluster, a Unix socket.

use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_redis::{RedisBackend, RedisNode};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

/// Replicas have this long to acknowledge a write, unless the URL says otherwise.
const WAIT_TIMEOUT: Duration = Duration::from_secs(1);

const PASSWORD: Names = Names { plain: "password", env: "password-env", file: "password-file" };
const SENTINEL_PASSWORD: Names =
    Names { plain: "sentinel-password", env: "sentinel-password-env", file: "sentinel-password-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let node = node(address).map_err(|error| error.with_backend("redis"))?;
    Ok(Arc::new(RedisBackend::new(node)?))
}

/// What an address says about one Redis.
pub(super) fn node(address: &mut Address) -> Result<RedisNode> {
    let (node, path_db) = topology(address)?;
    let is_tls = address.url.scheme().starts_with("rediss");
    with_options(node, address, path_db, is_tls)
}

/// The node with everything that an address says besides where it is.
pub(super) fn with_options(
    mut node: RedisNode,
    address: &mut Address,
    path_db: Option<String>,
    is_tls: bool,
) -> Result<RedisNode> {
    let (username, password) = (address.username()?, address.password()?);
    let query = &mut address.query;
    // The key is the name under all these rules, so there is nothing to choose.
    query.take_names("names")?;

    let username = only_one("user name", username, query.take("username"))?;
    match (username, secret::take(query, &PASSWORD, password)?) {
        (Some(_), None) => {
            return Err(Error::misconfigured("there is a user name but no password").with_advice(
                "write user:password@host, or :password@host if it is the password that stands there; for a user who \
                 needs none, any will do",
            ));
        }
        (username, Some(password)) => {
            node = node.password(password);
            if let Some(username) = username {
                node = node.username(username);
            }
        }
        (None, None) => {}
    }
    if let Some(db) = only_one("number of the database", path_db, query.take("db"))? {
        let number = db.parse().map_err(|_| {
            Error::misconfigured("the database is not a number").with_advice("write it as in redis://host/3 or ?db=3")
        })?;
        node = node.database(number);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        node = node.connect_timeout(limit);
    }
    if let Some(limit) = query.take_duration("response-timeout")? {
        node = node.response_timeout(limit);
    }
    if let Some(name) = query.take("client-name") {
        node = node.client_name(name)?;
    }
    node = tls(node.tls(is_tls), is_tls, query)?;
    node = keys(node, query)?;
    confirm(node, query)
}

/// Where the servers are, and the database that the path names.
fn topology(address: &mut Address) -> Result<(RedisNode, Option<String>)> {
    let scheme = address.url.scheme().to_owned();
    if scheme == "redis+unix" {
        return Ok((socket(address)?, None));
    }
    let (hosts, mut path) = (address.hosts()?, address.segments()?.into_iter());
    if hosts == [""] {
        return Err(Error::misconfigured(format!("this {scheme}:// URL names no host"))
            .with_advice("write it as in redis://127.0.0.1:6379"));
    }
    let node = match scheme.as_str() {
        "redis-sentinel" | "rediss-sentinel" => {
            let node = RedisNode::sentinel(hosts, path.next().unwrap_or_default())?;
            let username = address.query.take("sentinel-username");
            match (username, secret::take(&mut address.query, &SENTINEL_PASSWORD, None)?) {
                (Some(_), None) => {
                    return Err(Error::misconfigured("there is a sentinel-username but no sentinel-password"));
                }
                (username, Some(password)) => node.sentinel_credentials(username, password),
                (None, None) => node,
            }
        }
        "redis-cluster" | "rediss-cluster" => RedisNode::cluster(hosts)?,
        _ => RedisNode::endpoints(hosts)?,
    };
    Ok((node, database(&scheme, path)?))
}

/// What a path ends with.
pub(super) fn database(scheme: &str, mut path: impl Iterator<Item = String>) -> Result<Option<String>> {
    let db = path.next();
    match path.next() {
        Some(_) => Err(Error::misconfigured(format!("this {scheme}:// URL has too long a path"))
            .with_advice(format!("it ends with the number of the database, as in {scheme}://host/3"))),
        None => Ok(db),
    }
}

fn socket(address: &Address) -> Result<RedisNode> {
    let path = address.path()?;
    match address.url.host_str() {
        None | Some("") if path.len() > 1 && path.starts_with('/') => RedisNode::endpoint(path),
        _ => Err(Error::misconfigured("a redis+unix:// URL has the full path of a socket, and no host")
            .with_advice("write three slashes: redis+unix:///run/redis.sock")),
    }
}

fn only_one(what: &str, in_url: Option<String>, option: Option<String>) -> Result<Option<String>> {
    match (in_url, option) {
        (Some(_), Some(_)) => {
            Err(Error::misconfigured(format!("the {what} is given twice, in the URL and as an option")))
        }
        (in_url, option) => Ok(in_url.or(option)),
    }
}

fn tls(mut node: RedisNode, is_tls: bool, query: &mut Query) -> Result<RedisNode> {
    let ca = secret::take_pem(query, "ca-file")?;
    let certificate = secret::take_pem(query, "cert-file")?;
    let key = secret::take_pem(query, "key-file")?;
    let server_name = query.take("server-name");
    if !is_tls && (ca.is_some() || certificate.is_some() || key.is_some() || server_name.is_some()) {
        return Err(Error::misconfigured(
            "ca-file, cert-file, key-file and server-name are for TLS, which is off here",
        )
        .with_advice("turn it on with rediss://, rediss-sentinel:// or rediss-cluster://"));
    }
    if let Some(ca) = ca {
        node = node.ca(ca);
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => node = node.client_certificate(certificate, key),
        (None, None) => {}
        _ => return Err(Error::misconfigured("cert-file and key-file belong together; one of them is missing")),
    }
    Ok(match server_name {
        Some(name) => node.server_name(name),
        None => node,
    })
}

fn keys(node: RedisNode, query: &mut Query) -> Result<RedisNode> {
    match (query.take("key-format"), query.take("prefix")) {
        (Some(_), Some(_)) => Err(Error::misconfigured("key-format and prefix are both given")
            .with_advice("prefix=app: is short for key-format=app:{}")),
        (Some(format), None) => node.key_format(format),
        (None, Some(prefix)) => node.key_format(format!("{prefix}{{}}")),
        (None, None) => Ok(node),
    }
}

fn confirm(node: RedisNode, query: &mut Query) -> Result<RedisNode> {
    let replicas = query.take_number("wait-replicas")?.unwrap_or(0);
    let on_disk = query.take_bool("wait-on-disk")?.unwrap_or(false);
    let within = query.take_duration("wait-timeout")?;
    let limit = within.unwrap_or(WAIT_TIMEOUT);
    match (on_disk, replicas) {
        (true, replicas) => Ok(node.wait_on_disk(replicas, limit)),
        (false, 0) if within.is_some() => Err(Error::misconfigured("wait-timeout says how long, but not for what")
            .with_advice("add wait-replicas=N or wait-on-disk=true")),
        (false, 0) => Ok(node),
        (false, replicas) => Ok(node.wait_replicas(replicas, limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RedisNode> {
        let mut address = Address::parse(text)?;
        let node = node(&mut address)?;
        address.query.finish()?;
        Ok(node)
    }

    /// Both name the same Redis, as far as a node shows it.
    #[track_caller]
    fn same(text: &str, node: Result<RedisNode>) {
        let (read, node) = (read(text).unwrap(), node.unwrap());
        assert_eq!(format!("{read:?}"), format!("{node:?}"), "{text}");
    }

    #[test]
    fn one_server() {
        let local = || RedisNode::endpoint("127.0.0.1:6379");
        for text in ["redis://127.0.0.1:6379", "redis://127.0.0.1", "redis://127.0.0.1/", "127.0.0.1:6379"] {
            same(text, local());
        }
        same("localhost:1", RedisNode::endpoint("localhost:1"));
        same("[::1]:7000", RedisNode::endpoint("[::1]:7000"));
        same("redis://[::1]:7000", RedisNode::endpoint("[::1]:7000"));
        same("redis://h/3", RedisNode::endpoint("h").map(|node| node.database(3)));
        same("redis://h?db=3&names=exact", RedisNode::endpoint("h").map(|node| node.database(3)));
        same("rediss://h:6380", RedisNode::endpoint("h:6380").map(|node| node.tls(true)));
        let credentials = || RedisNode::endpoint("h").map(|node| node.username("us/er").password("x"));
        same("redis://us%2Fer:p%40ss@h", credentials());
        same("redis://h?username=us/er&password=x", credentials());
        same("redis://h?prefix=app:", RedisNode::endpoint("h").and_then(|node| node.key_format("app:{}")));
        same("redis://h?key-format=app:{0}", RedisNode::endpoint("h").and_then(|node| node.key_format("app:{}")));
    }

    #[test]
    fn secrets_are_decoded() {
        let secrets = |text: &str| {
            let node = address_and_password(text);
            node.unwrap().unwrap()
        };
        assert_eq!(secrets("redis://:p%40s%2Fs%25@h"), "p@s/s%");
        assert_eq!(secrets("redis://:a+b%2B@h"), "a+b+");
        assert_eq!(secrets("redis://h?password=a+b%2B/=="), "a+b+/==");
        assert_eq!(secrets("h:1,password=a+b/%41=="), "a+b/%41==");
        assert!(address_and_password("redis://:%FF@h").is_err());
    }

    fn address_and_password(text: &str) -> Result<Option<String>> {
        let mut address = Address::parse(text)?;
        let in_url = address.password()?;
        secret::take(&mut address.query, &PASSWORD, in_url)
    }

    #[test]
    fn several_servers() {
        same("redis://a:1,b,[::1]:3/2", RedisNode::endpoints(["a:1", "b", "[::1]:3"]).map(|node| node.database(2)));
        same("a:1,b:2", RedisNode::endpoints(["a:1", "b:2"]));
        same(
            "rediss://u:p@a:1,b:2?connect-timeout=1s",
            RedisNode::endpoints(["a:1", "b:2"]).map(|node| node.username("u").password("p").tls(true)),
        );
        let sentinels = || RedisNode::sentinel(["a:1", "b", "c:3"], "my master");
        same("redis-sentinel://a:1,b,c:3/my%20master", sentinels());
        same("rediss-sentinel://a:1,b,c:3/my%20master/5", sentinels().map(|node| node.tls(true).database(5)));
        same("redis-cluster://a,b:2", RedisNode::cluster(["a", "b:2"]));
        same("rediss-cluster://a", RedisNode::cluster(["a"]).map(|node| node.tls(true)));
    }

    #[cfg(unix)]
    #[test]
    fn sockets() {
        let socket = |path: &str| RedisNode::endpoint(path);
        same("redis+unix:///run/redis.sock", socket("/run/redis.sock"));
        same("redis+unix:///run/my%20redis,1?db=1", socket("/run/my redis,1").map(|node| node.database(1)));
        for bad in ["redis+unix://run/redis.sock", "redis+unix://", "redis+unix:///"] {
            assert!(read(bad).unwrap_err().to_string().contains("three slashes"), "{bad}");
        }
    }

    #[test]
    fn connection_strings_of_dotnet() {
        let azure =
            RedisNode::endpoint("contoso.redis.cache.windows.net:6380").map(|node| node.password("x").tls(true));
        same("contoso.redis.cache.windows.net:6380,password=a=,ssl=True,abortConnect=False", azure.clone());
        same("contoso.redis.cache.windows.net, Password=a, SSL=true ,", azure);
        same("a:1,b,keepAlive=60", RedisNode::endpoints(["a:1", "b:6379"]));
        same(
            "a,user=u,password=x,defaultDatabase=2,name=me,connectTimeout=1000,syncTimeout=500,asyncTimeout=700",
            RedisNode::endpoint("a").map(|node| node.username("u").password("x").database(2)),
        );
        same("a,b,serviceName=my/master", RedisNode::sentinel(["a", "b"], "my/master"));
        same("a:1,user=,password=,ssl=False", RedisNode::endpoint("a:1"));
        same("a:1,ssl=yes,sslHost=b", RedisNode::endpoint("a:1").map(|node| node.server_name("b")));
    }

    #[test]
    fn confirmation_by_replicas() {
        let node = || RedisNode::endpoint("h").unwrap();
        same("redis://h?wait-replicas=2", Ok(node().wait_replicas(2, WAIT_TIMEOUT)));
        same("redis://h?wait-replicas=0", Ok(node()));
        let limit = Duration::from_millis(300);
        same("redis://h?wait-replicas=1&wait-on-disk=true&wait-timeout=300ms", Ok(node().wait_on_disk(1, limit)));
        same("redis://h?wait-on-disk", Ok(node().wait_on_disk(0, WAIT_TIMEOUT)));
    }
}
