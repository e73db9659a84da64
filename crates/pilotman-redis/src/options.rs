//! How a Redis is reached, and what is expected of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, Result};
use redis::ConnectionAddr;

use crate::incident::Incident;
use crate::keys::KeyFormat;

/// Connecting may take this long unless set otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest name of a client.
const LONGEST_NAME: usize = 64;

/// Where the primary is found.
#[derive(Clone)]
pub(crate) enum Topology {
    /// One of these is the primary; usually there is but one.
    Endpoints(Vec<ConnectionAddr>),
    Sentinel {
        sentinels: Vec<ConnectionAddr>,
        service: String,
        username: Option<String>,
        password: Option<String>,
    },
    Cluster(Vec<ConnectionAddr>),
    Client(Box<redis::Client>),
    ClusterClient(Box<redis::cluster::ClusterClient>),
}

/// One Redis or Valkey: a server, a primary with its replicas, or a cluster. It has one vote in a quorum.
///
/// ```
/// use pilotman_redis::RedisNode;
///
/// # fn main() -> pilotman_core::Result<()> {
/// let one = RedisNode::endpoint("127.0.0.1:6379")?;
/// let azure = RedisNode::endpoint("contoso.redis.cache.windows.net:6380")?.password("access key").tls(true);
/// let followed = RedisNode::sentinel(["10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"], "mymaster")?;
/// let cluster = RedisNode::cluster(["10.0.1.1:6379", "10.0.1.2:6379"])?.key_format("locks:{}")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisNode {
    pub(crate) topology: Topology,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) database: Option<i64>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) client_name: Option<String>,
    pub(crate) key_format: KeyFormat,
    pub(crate) confirm: Option<Confirm>,
    pub(crate) observer: Option<Observer>,
}

/// What TLS connections are made with.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) server_name: Option<String>,
}

/// What must have happened to a write before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confirm {
    /// So many replicas have it.
    pub(crate) replicas: u32,
    /// It is on disk, here and on the replicas.
    pub(crate) on_disk: bool,
    pub(crate) within: Duration,
}

/// Is told of what happens to a server.
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn Fn(&Incident) + Send + Sync>);

impl RedisNode {
    fn new(topology: Topology) -> Self {
        Self {
            topology,
            username: None,
            password: None,
            tls: None,
            database: None,
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: None,
            client_name: None,
            key_format: KeyFormat::default(),
            confirm: None,
            observer: None,
        }
    }

    /// One server, as `host:port`, `host` (port 6379), `[::1]:6379`, or the path of a Unix socket.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no address.
    pub fn endpoint(address: impl AsRef<str>) -> Result<Self> {
        Self::endpoints([address])
    }

    /// A primary with its replicas: whichever of these servers is the primary is used, also after another was promoted.
    /// They are one vote.
    ///
    /// # Errors
    ///
    /// `Misconfigured` without an address, with one twice, or with something that is none.
    pub fn endpoints(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        Ok(Self::new(Topology::Endpoints(parse_all(addresses, 6379, "endpoint")?)))
    }

    /// The primary of `service`, as these Sentinels tell (default port: 26379). A failover is followed.
    ///
    /// # Errors
    ///
    /// `Misconfigured` without a Sentinel or service name, with one Sentinel twice, or with something that is no
    /// address.
    pub fn sentinel(sentinels: impl IntoIterator<Item = impl AsRef<str>>, service: impl Into<String>) -> Result<Self> {
        let service = service.into();
        if service.is_empty() {
            return Err(Error::misconfigured("the name of the Sentinel service is empty")
                .with_advice("write it after the hosts, as in redis-sentinel://h1,h2,h3/mymaster"));
        }
        let sentinels = parse_all(sentinels, 26379, "Sentinel")?;
        Ok(Self::new(Topology::Sentinel { sentinels, service, username: None, password: None }))
    }

    /// A Redis Cluster, known by some of its nodes. Needs Redis 7 (for sharded channels).
    ///
    /// # Errors
    ///
    /// `Misconfigured` without an address, with one twice, or with something that is none.
    pub fn cluster(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        Ok(Self::new(Topology::Cluster(parse_all(addresses, 6379, "cluster node")?)))
    }

    /// The server that an existing client connects to, with its address, credentials and TLS settings. We make a
    /// connection of our own with them (RESP3, since pushes come over it), and never close the client's.
    pub fn client(client: redis::Client) -> Self {
        Self::new(Topology::Client(Box::new(client)))
    }

    /// The cluster that an existing client connects to. We make connections of our own through it.
    ///
    /// The client should speak RESP3; without it waiters are not told when their turn comes and ask every second
    /// instead.
    pub fn cluster_client(client: redis::cluster::ClusterClient) -> Self {
        Self::new(Topology::ClusterClient(Box::new(client)))
    }

    /// The user name of an access-control list. Default: the default user.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password, or the access key of a cloud's cache. Default: none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// User name and password of the Sentinels themselves. Default: none.
    pub fn sentinel_credentials(mut self, user: Option<String>, secret: impl Into<String>) -> Self {
        if let Topology::Sentinel { username, password, .. } = &mut self.topology {
            *username = user;
            *password = Some(secret.into());
        }
        self
    }

    /// Whether connections use TLS. Default: no. Certificates are checked against the system's authorities unless
    /// [`Self::ca`] names another.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls.then(|| self.tls.take().unwrap_or_default());
        self
    }

    fn tls_mut(&mut self) -> &mut Tls {
        self.tls.get_or_insert_default()
    }

    /// The certificates, in PEM, of the authorities that are trusted instead of the system's. Turns TLS on.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls_mut().ca = Some(pem.into());
        self
    }

    /// Our own certificate and its private key, in PEM, for servers that ask for one. Turns TLS on.
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls_mut().certificate = Some((certificate.into(), key.into()));
        self
    }

    /// The name that the server's certificate must have and that is sent as SNI. Default: the host of the address.
    /// Turns TLS on.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls_mut().server_name = Some(name.into());
        self
    }

    /// The number of the database. Default: 0. A cluster has but one.
    pub fn database(mut self, number: u32) -> Self {
        self.database = Some(i64::from(number));
        self
    }

    /// How long connecting may take, and how long a waiter goes on asking a server that does not answer. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long one answer may take. Default: what the lease allows, a sixth of it and 2 s at most. It can only make
    /// that shorter.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = Some(limit);
        self
    }

    /// The name that `CLIENT LIST` shows for our connections. Default: `pilotman`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is empty, longer than 64 bytes, or has spaces or control characters, which Redis refuses.
    pub fn client_name(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::misconfigured("a client name has 1 to 64 printable ASCII characters and no spaces"));
        }
        self.client_name = Some(name);
        Ok(self)
    }

    /// How names become keys: text with one placeholder `{}` (or `{0}`). Default: `{}`, which is how the .NET library
    /// DistributedLock names its keys; `redlock:{}` is how RedLock.net does.
    ///
    /// # Errors
    ///
    /// `Misconfigured` without exactly one placeholder, or with a lone brace before it.
    pub fn key_format(mut self, format: impl AsRef<str>) -> Result<Self> {
        self.key_format = KeyFormat::parse(format.as_ref())?;
        Ok(self)
    }

    /// Has each grant, renewal and token acknowledged by so many replicas (`WAIT`) before it counts; without them in
    /// time it is given back and the attempt fails as unavailable. Default: no replica. Costs a round trip, and a second
    /// connection.
    ///
    /// A replica that has acknowledged nothing can still be promoted: the server's promise ends there.
    pub fn wait_replicas(mut self, replicas: u32, within: Duration) -> Self {
        self.confirm = (replicas > 0).then_some(Confirm { replicas, on_disk: false, within });
        self
    }

    /// As [`Self::wait_replicas`], and on disk here and there (`WAITAOF`, Redis 7.2 with append-only files). `replicas`
    /// may be 0.
    pub fn wait_on_disk(mut self, replicas: u32, within: Duration) -> Self {
        self.confirm = Some(Confirm { replicas, on_disk: true, within });
        self
    }

    /// Is called when something happens to a server that can cost locks: a restart, a promotion, a flush, a stepped
    /// clock. It must not block. Default: such things are only logged.
    pub fn on_incident(mut self, observer: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Checks what can be checked without a server.
    pub(crate) fn check(&self) -> Result<()> {
        if self.connect_timeout.is_zero() {
            return Err(Error::misconfigured("a connect time-out of zero would never connect"));
        }
        if self.response_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::misconfigured("a response time-out of zero would never get an answer"));
        }
        let clustered = self.is_clustered();
        if clustered && self.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
            return Err(Error::unsupported("one server name can't stand for all nodes of a Redis Cluster"));
        }
        if clustered && self.database.is_some_and(|number| number != 0) {
            return Err(Error::misconfigured("a Redis Cluster has database 0 only"));
        }
        if let Some(confirm) = &self.confirm {
            if clustered {
                return Err(Error::unsupported("waiting for replicas is not to be had on a Redis Cluster")
                    .with_advice("use a primary with replicas, or a quorum of independent nodes"));
            }
            if confirm.within.is_zero() {
                return Err(Error::misconfigured("waiting for replicas for no time would always fail"));
            }
        }
        let unix = |addresses: &[ConnectionAddr]| addresses.iter().any(|at| matches!(at, ConnectionAddr::Unix(_)));
        match &self.topology {
            Topology::Cluster(nodes) if unix(nodes) => {
                Err(Error::misconfigured("a Redis Cluster can't be reached over a Unix socket"))
            }
            Topology::Sentinel { sentinels, .. } if unix(sentinels) => {
                Err(Error::misconfigured("Sentinels can't be reached over a Unix socket"))
            }
            Topology::Endpoints(endpoints) if unix(endpoints) && self.tls.is_some() => {
                Err(Error::misconfigured("a Unix socket has no TLS"))
            }
            Topology::Client(_) | Topology::ClusterClient(_)
                if self.tls.is_some() || self.username.is_some() || self.password.is_some() =>
            {
                Err(Error::misconfigured("a client that is handed in brings its credentials and TLS settings along"))
            }
            _ => Ok(()),
        }
    }

    /// What the node is called in messages: its first address.
    pub(crate) fn label(&self) -> String {
        let first = |addresses: &[ConnectionAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
        match &self.topology {
            Topology::Endpoints(endpoints) => first(endpoints),
            Topology::Sentinel { sentinels, service, .. } => format!("{service} by {}", first(sentinels)),
            Topology::Cluster(nodes) => format!("cluster {}", first(nodes)),
            Topology::Client(client) => client.get_connection_info().addr().to_string(),
            Topology::ClusterClient(_) => "cluster of a client".to_owned(),
        }
    }

    /// Where the node is, the same however its addresses are ordered.
    pub(crate) fn place(&self) -> String {
        let all = |addresses: &[ConnectionAddr]| {
            let mut shown: Vec<_> = addresses.iter().map(|address| address.to_string().to_lowercase()).collect();
            shown.sort();
            shown.join(",")
        };
        match &self.topology {
            Topology::Endpoints(endpoints) => all(endpoints),
            Topology::Sentinel { sentinels, service, .. } => format!("{service}@{}", all(sentinels)),
            Topology::Cluster(nodes) => format!("cluster@{}", all(nodes)),
            Topology::Client(client) => client.get_connection_info().addr().to_string().to_lowercase(),
            // It doesn't tell.
            Topology::ClusterClient(_) => "cluster of a client".to_owned(),
        }
    }

    /// Whether both are the same server, or the same set of servers, for all that can be told from here.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        let tells = |node: &Self| !matches!(node.topology, Topology::ClusterClient(_));
        tells(self) && tells(other) && self.place() == other.place()
    }

    pub(crate) fn is_clustered(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_) | Topology::ClusterClient(_))
    }
}

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisNode");
        match &self.topology {
            Topology::Endpoints(endpoints) => shown.field("endpoints", &shown_all(endpoints)),
            Topology::Sentinel { sentinels, service, .. } => {
                shown.field("sentinels", &shown_all(sentinels)).field("service", service)
            }
            Topology::Cluster(nodes) => shown.field("cluster", &shown_all(nodes)),
            Topology::Client(client) => shown.field("client", &client.get_connection_info().addr().to_string()),
            Topology::ClusterClient(_) => shown.field("cluster", &"the one of a client"),
        };
        shown
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls", &self.tls.is_some())
            .field("database", &self.database)
            .field("key_format", &self.key_format)
            .field("confirm", &self.confirm)
            .finish_non_exhaustive()
    }
}

fn shown_all(addresses: &[ConnectionAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn parse_all(
    addresses: impl IntoIterator<Item = impl AsRef<str>>,
    default_port: u16,
    what: &str,
) -> Result<Vec<ConnectionAddr>> {
    let mut parsed: Vec<ConnectionAddr> = Vec::new();
    for address in addresses {
        let one = parse_address(address.as_ref(), default_port)?;
        if parsed.contains(&one) {
            return Err(Error::misconfigured(format!("the {what} {one} is given twice")));
        }
        parsed.push(one);
    }
    match parsed.is_empty() {
        true => Err(Error::misconfigured(format!("no {what} is given")).with_advice("name one, as in 127.0.0.1:6379")),
        false => Ok(parsed),
    }
}

fn parse_address(text: &str, default_port: u16) -> Result<ConnectionAddr> {
    // What is no address may be a password in the wrong place, so it is not repeated.
    let refuse = |why: &str| {
        Err(Error::misconfigured(format!("this Redis address {why}"))
            .with_advice("write host:port, a host, or the full path of a Unix socket"))
    };
    if text.starts_with('/') {
        return match cfg!(unix) {
            true => Ok(ConnectionAddr::Unix(text.into())),
            false => refuse("is the path of a Unix socket, which this system doesn't have"),
        };
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port.strip_prefix(':')),
            _ => return refuse("has a bracket but no IPv6 address in it"),
        },
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return refuse("has too many colons; put an IPv6 address in brackets");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(fits) {
        return refuse("has no host, or one with characters that no host has");
    }
    match port.map_or(Ok(default_port), str::parse) {
        Ok(port) if port > 0 => Ok(ConnectionAddr::Tcp(host.to_owned(), port)),
        _ => refuse("has a port that is no number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<String> {
        parse_address(text, 6379).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, read) in [
            ("127.0.0.1:6380", "127.0.0.1:6380"),
            ("localhost", "localhost:6379"),
            ("redis-1.example.com:1", "redis-1.example.com:1"),
            ("[::1]:7000", "::1:7000"),
            ("[::1]", "::1:6379"),
            ("/run/redis.sock", "/run/redis.sock"),
        ] {
            assert_eq!(address(text).unwrap(), read);
        }
        for bad in ["", ":6379", "host:", "host:0", "host:70000", "a b", "::1", "[::1", "[x]:1", "user:pass@host:1"] {
            let error = address(bad).unwrap_err().to_string();
            assert!(!error.contains("pass@"), "{error}");
        }
    }

    #[test]
    fn contradictions_are_refused_before_anything_is_connected() {
        let node = || RedisNode::endpoint("h").unwrap();
        assert!(node().connect_timeout(Duration::ZERO).check().is_err());
        assert!(node().response_timeout(Duration::ZERO).check().is_err());
        assert!(node().client_name("a b").is_err());
        assert!(RedisNode::endpoints([""; 0]).is_err());
        assert!(RedisNode::endpoints(["h", "h:6379"]).is_err());
        assert!(RedisNode::sentinel(["h"], "").is_err());
        let cluster = || RedisNode::cluster(["h"]).unwrap();
        assert!(cluster().database(1).check().is_err());
        assert!(cluster().wait_replicas(1, Duration::from_secs(1)).check().is_err());
        assert!(RedisNode::endpoint("/s").unwrap().tls(true).check().is_err());
        let client = redis::Client::open("redis://h").unwrap();
        assert!(RedisNode::client(client).password("x").check().is_err());
        assert!(node().tls(true).database(3).check().is_ok());
    }

    #[test]
    fn no_secret_is_shown() {
        let node = RedisNode::sentinel(["h"], "s").unwrap().password("hunter2").sentinel_credentials(None, "hunter3");
        let shown = format!("{node:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
