//! Finds the primary and makes a connection to it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pilotman_core::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClientBuilder, ClusterConfig};
use redis::io::AsyncDNSResolver;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates, TlsMode,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::confirm::Confirmer;
use super::health::{self, Seen};
use super::{CONCURRENT, Conn, Live, Node, exchange, lock, sentinel};
use crate::failure::{failed, unconnected};
use crate::incident::IncidentKind;
use crate::options::{RedisNode, Tls, Topology};

/// Once one primary was found among several servers, the others have this long to say that they are one too.
const SECOND_OPINION: Duration = Duration::from_millis(500);
/// A peer that is cut off is given up after this long; a frozen one still acknowledges what it gets, and is kept.
const CUT_OFF: Duration = Duration::from_secs(4);
/// Commands that may wait to be written.
const BUFFER: usize = 4096;

/// A connection to one server, and what it said about itself.
pub(super) struct Reached {
    pub(super) connection: MultiplexedConnection,
    pub(super) server: String,
    pub(super) seen: Option<Seen>,
    pub(super) generation: u64,
    pub(super) way: Way,
}

/// How a server is connected to.
pub(super) struct Way {
    pub(super) info: ConnectionInfo,
    resolver: Option<Resolver>,
    /// The server, for people.
    pub(super) server: String,
}

impl Node {
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Arc<Live>> {
        let limit = self.spec.connect_timeout;
        let work = async {
            match &self.spec.topology {
                Topology::Cluster(_) | Topology::ClusterClient(_) => self.connect_cluster().await,
                _ => self.set_up(self.find().await?).await,
            }
        };
        self.in_time(limit, work).await
    }

    /// Finds the primary, and connects to it.
    pub(super) async fn find(self: &Arc<Self>) -> Result<Reached> {
        match &self.spec.topology {
            Topology::Sentinel { .. } => sentinel::find(self).await,
            Topology::Endpoints(endpoints) => self.find_primary(endpoints.clone()).await,
            Topology::Client(client) => {
                let info = client.get_connection_info().clone();
                let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                if is_tls(&info) {
                    install_tls();
                }
                let server = info.addr().to_string();
                let way = Way { info: info.set_redis_settings(settings), resolver: None, server };
                self.check_role(self.reach_by(way).await?)
            }
            Topology::Cluster(_) | Topology::ClusterClient(_) => unreachable!("a cluster has many primaries"),
        }
    }

    /// Bounds what it takes to connect.
    pub(super) async fn in_time<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::unavailable(format!("no connection to the Redis within {limit:?}"))
                .with_advice(match self.spec.tls {
                    // A server that waits for the rest of what it takes for a command says nothing.
                    Some(_) => {
                        "look whether the server runs and can be reached from here, and whether its port speaks TLS"
                    }
                    None => "look whether the server runs and can be reached from here",
                })
                .no_effect(true)),
        }
    }

    /// Connects to all of these at once and keeps the primary.
    async fn find_primary(self: &Arc<Self>, endpoints: Vec<ConnectionAddr>) -> Result<Reached> {
        if let [only] = &endpoints[..] {
            return self.check_role(self.reach(only.clone()).await?);
        }
        let mut attempts = JoinSet::new();
        for endpoint in endpoints {
            let node = self.clone();
            attempts.spawn(async move {
                let server = endpoint.to_string();
                (server, node.reach(endpoint).await)
            });
        }
        let mut primary: Option<Reached> = None;
        let mut others = Vec::new();
        loop {
            let next = match &primary {
                None => attempts.join_next().await,
                Some(_) => tokio::time::timeout(SECOND_OPINION, attempts.join_next()).await.unwrap_or_default(),
            };
            match next {
                None => break,
                Some(Err(_)) => {}
                Some(Ok((server, Err(error)))) => others.push(format!("{server}: {error}")),
                Some(Ok((server, Ok(reached)))) => match (&primary, &reached.seen) {
                    (_, Some(seen)) if !seen.primary => others.push(format!("{server}: a replica")),
                    (None, _) => primary = Some(reached),
                    (Some(first), _) => {
                        return Err(Error::unavailable(format!(
                            "both {} and {server} say that they are the primary",
                            first.server
                        ))
                        .with_advice("locks would be given twice; make one of them a replica of the other")
                        .no_effect(true));
                    }
                },
            }
        }
        primary.ok_or_else(|| {
            Error::unavailable(format!("none of these Redis servers is a primary: {}", others.join("; ")))
                .with_advice("promote one of them, or start the primary")
                .no_effect(true)
        })
    }

    pub(super) fn check_role(&self, reached: Reached) -> Result<Reached> {
        match &reached.seen {
            Some(seen) if !seen.primary => {
                Err(Error::unavailable(format!("the Redis at {} is a read-only replica", reached.server))
                    .with_advice("connect to the primary, or name all servers of the set so that the primary is found")
                    .no_effect(true))
            }
            _ => Ok(reached),
        }
    }

    pub(super) async fn reach(self: &Arc<Self>, address: ConnectionAddr) -> Result<Reached> {
        let spec = &self.spec;
        let mut way = way(address, spec, spec.username.as_deref(), spec.password.as_deref())?;
        if let Some(number) = spec.database {
            let settings = way.info.redis_settings().clone().set_db(number);
            way.info = way.info.set_redis_settings(settings);
        }
        self.reach_by(way).await
    }

    async fn reach_by(self: &Arc<Self>, way: Way) -> Result<Reached> {
        let server = way.server.clone();
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let (node, pushing) = (Arc::downgrade(self), server.clone());
        let connection = open(&way, move |push: PushInfo| deliver(&node, &pushing, generation, &push)).await?;
        let seen = health::look(&connection).await.map_err(|error| unconnected(error, &server, is_tls(&way.info)))?;
        Ok(Reached { connection, server, seen, generation, way })
    }

    /// Makes a connection to the primary ready for use.
    async fn set_up(self: &Arc<Self>, reached: Reached) -> Result<Arc<Live>> {
        let Reached { connection, server, seen, generation, way } = reached;
        let name = self.spec.client_name.as_deref().unwrap_or("pilotman");
        let channel = format!("{}push:{}", self.spec.key_format.own(), self.process);
        let mut subscribing = connection.clone();
        let mut set_name = redis::cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        let load = async {
            for script in &self.scripts {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&script.body);
                // It is loaded with its first use otherwise.
                if let Err(error) = exchange(&connection, &load).await {
                    tracing::debug!(%error, script = script.name, "a script could not be loaded beforehand");
                    break;
                }
            }
        };
        let (named, subscribed, ()) =
            tokio::join!(exchange(&connection, &set_name), subscribing.subscribe(&channel), load);
        if let Err(error) = named {
            tracing::debug!(%error, "this connection has no name");
        }
        subscribed.map_err(|error| failed(error).no_effect(true))?;
        let confirmer = match self.spec.confirm {
            Some(confirm) => {
                let second = open(&way, |_: PushInfo| Ok::<_, Infallible>(())).await?;
                Some(Confirmer::start(second, confirm))
            }
            None => None,
        };
        self.noticed(&server, seen.as_ref());
        self.mark(&connection).await;
        tracing::debug!(server, "connected");
        Ok(Arc::new(Live {
            conn: Conn::One(connection),
            server,
            run_id: seen.map(|seen| seen.run_id).unwrap_or_default(),
            generation,
            channels: Mutex::default(),
            confirmer,
            looked: AtomicU64::new(self.now().as_nanos()),
        }))
    }

    async fn connect_cluster(self: &Arc<Self>) -> Result<Arc<Live>> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let node = Arc::downgrade(self);
        let sender = move |push: PushInfo| {
            if let Some(node) = Weak::upgrade(&node) {
                match push.kind {
                    // Also when the slot of a channel has moved to another node.
                    PushKind::Disconnection | PushKind::SUnsubscribe => node.listen_again(),
                    _ => node.pushes.take(&push),
                }
            }
            Ok::<_, Infallible>(())
        };
        let spec = &self.spec;
        let about = |error| unconnected(error, "the cluster", spec.tls.is_some());
        let client = match &spec.topology {
            Topology::ClusterClient(client) => (**client).clone(),
            Topology::Cluster(nodes) => {
                let mut infos = Vec::new();
                for node in nodes {
                    infos.push(way(node.clone(), spec, None, None)?.info);
                }
                let mut builder = ClusterClientBuilder::new(infos)
                    .use_protocol(ProtocolVersion::RESP3)
                    .connection_timeout(spec.connect_timeout)
                    // The engine ends what takes too long; this only keeps lost commands from piling up.
                    .response_timeout(spec.connect_timeout)
                    .retries(4)
                    .min_retry_wait(5)
                    .max_retry_wait(100)
                    .tcp_settings(tcp_settings());
                if let Some(tls) = &spec.tls {
                    install_tls();
                    builder = builder.tls(TlsMode::Secure).certs(certificates(tls));
                }
                if let Some(password) = &spec.password {
                    builder = builder.password(password);
                }
                if let Some(username) = &spec.username {
                    builder = builder.username(username);
                }
                builder.build().map_err(about)?
            }
            _ => unreachable!("only called for clusters"),
        };
        let pushing = ClusterConfig::new().set_push_sender(sender);
        let channels = client.get_async_connection_with_config(pushing);
        let (commands, channels) = tokio::try_join!(client.get_async_connection(), channels).map_err(about)?;
        Ok(Arc::new(Live {
            conn: Conn::Cluster { commands, channels, turns: Semaphore::new(CONCURRENT) },
            server: "the cluster".to_owned(),
            run_id: String::new(),
            generation,
            channels: Mutex::new(HashSet::new()),
            confirmer: None,
            looked: AtomicU64::new(self.now().as_nanos()),
        }))
    }
}

/// Takes what a connection to one server brings.
fn deliver(node: &Weak<Node>, server: &str, generation: u64, push: &PushInfo) -> Result<(), Infallible> {
    if let Some(node) = node.upgrade() {
        match push.kind {
            PushKind::Disconnection => {
                let current = lock(&node.live).as_ref().is_some_and(|live| live.generation == generation);
                node.invalidate(generation);
                if current {
                    node.report(server, IncidentKind::Disconnected);
                }
            }
            // A server that was given up may still speak.
            _ if lock(&node.live).as_ref().is_some_and(|live| live.generation != generation) => {}
            _ => node.pushes.take(push),
        }
    }
    Ok(())
}

/// Makes a connection and has its pushes taken by `push`.
pub(super) async fn open<F>(way: &Way, push: F) -> Result<MultiplexedConnection>
where
    F: Fn(PushInfo) -> std::result::Result<(), Infallible> + Send + Sync + 'static,
{
    let about = |error| unconnected(error, &way.server, is_tls(&way.info));
    let client = redis::Client::open(way.info.clone()).map_err(about)?;
    let config = config(way.resolver.clone()).set_push_sender(push);
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(about)
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

/// How connections are made. Their time-outs are ours.
fn config(resolver: Option<Resolver>) -> AsyncConnectionConfig {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(BUFFER);
    match resolver {
        Some(resolver) => config.set_dns_resolver(resolver),
        None => config,
    }
}

/// Finds the address of a host whose certificate has another name: the driver is told that name instead of the host's.
#[derive(Clone)]
pub(super) struct Resolver {
    host: String,
}

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// How an address of this node is connected to.
pub(super) fn way(
    address: ConnectionAddr,
    spec: &RedisNode,
    username: Option<&str>,
    password: Option<&str>,
) -> Result<Way> {
    let server = address.to_string();
    let mut resolver = None;
    let address = match (address, &spec.tls) {
        (ConnectionAddr::Tcp(host, port), Some(tls)) => {
            install_tls();
            let host = match tls.server_name.clone() {
                Some(name) => {
                    resolver = Some(Resolver { host });
                    name
                }
                None => host,
            };
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        }
        (address, _) => address,
    };
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let about = |error: RedisError| {
        Error::misconfigured("these certificates or keys can't be used")
            .with_advice("give them in PEM")
            .with_source(error)
    };
    let info = address.into_connection_info().map_err(about)?;
    let mut info = info.set_redis_settings(settings).set_tcp_settings(tcp_settings());
    if let Some(tls) = &spec.tls
        && is_tls(&info)
    {
        let client = redis::Client::build_with_tls(info, certificates(tls)).map_err(about)?;
        info = client.get_connection_info().clone();
    }
    Ok(Way { info, resolver, server })
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let client_tls =
        tls.certificate.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    TlsCertificates { client_tls, root_cert: tls.ca.clone() }
}

/// The driver uses the provider of the process; we set one only if nobody has.
fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else was faster: as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

fn tcp_settings() -> TcpSettings {
    let settings =
        TcpSettings::default().set_nodelay(true).set_keepalive(socket2::TcpKeepalive::new().with_time(CUT_OFF));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(CUT_OFF);
    settings
}
