//! Ways to ask each server of a node something, for who looks at its set-up. They are apart from the connection that
//! the locks have: what is tried out there must not disturb them, and a user who may not lock can be told why.

use std::sync::Arc;

use pilotman_core::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ConnectionAddr, RedisResult, Value};
use tokio::task::JoinSet;

use super::{Conn, Node, exchange, sentinel};
use crate::failure::{failed, nonsense};
use crate::options::Topology;

/// A way to ask one server.
pub(crate) struct Line {
    /// The server, for people: `host:port`, or the path of a socket.
    pub(crate) server: String,
    talk: Talk,
}

enum Talk {
    One(MultiplexedConnection),
    /// The primary of this slot. The connection is that of the locks.
    Slot(ClusterConnection, u16),
}

/// A server that takes writes.
pub(crate) struct Primary {
    pub(crate) line: Line,
    /// Whether the connection is encrypted; `None`: only the client knows that was handed in.
    pub(crate) tls: Option<bool>,
    /// Who we are there; `None` as above.
    pub(crate) login: Option<Login>,
}

/// As whom a connection is made.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    /// Whether there is one.
    pub(crate) password: bool,
}

impl Line {
    /// One command and its answer.
    pub(crate) async fn ask(&self, cmd: &Cmd) -> RedisResult<Value> {
        match &self.talk {
            Talk::One(connection) => exchange(connection, cmd).await,
            Talk::Slot(connection, slot) => {
                let route = SingleNodeRoutingInfo::SpecificNode(Route::new(*slot, SlotAddr::Master));
                let mut connection = connection.clone();
                connection.route_command(cmd.clone(), RoutingInfo::SingleNode(route)).await?.extract_error()
            }
        }
    }
}

impl Node {
    /// The primary; in a cluster every one that has slots.
    pub(crate) async fn primaries(self: &Arc<Self>) -> Result<Vec<Primary>> {
        if self.spec.is_clustered() {
            return self.primaries_of_cluster().await;
        }
        let reached = self.in_time(self.spec.connect_timeout, self.find()).await?;
        let info = &reached.way.info;
        let settings = info.redis_settings();
        let primary = Primary {
            tls: Some(matches!(info.addr(), ConnectionAddr::TcpTls { .. })),
            login: Some(Login {
                user: settings.username().map(str::to_owned),
                password: settings.password().is_some(),
            }),
            line: Line { server: reached.server, talk: Talk::One(reached.connection) },
        };
        Ok(vec![primary])
    }

    async fn primaries_of_cluster(self: &Arc<Self>) -> Result<Vec<Primary>> {
        let live = self.live().await?;
        let Conn::Cluster { commands, .. } = &live.conn else {
            return Err(Error::unavailable("the connection to the cluster has ended"));
        };
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let answer = live.send(0, &cmd).await.map_err(failed)?;
        let found = parse_slots(&answer).ok_or_else(|| nonsense("CLUSTER SLOTS", &answer))?;
        let given = matches!(self.spec.topology, Topology::ClusterClient(_));
        let login = Login { user: self.spec.username.clone(), password: self.spec.password.is_some() };
        Ok(found
            .into_iter()
            .map(|(server, slot)| Primary {
                line: Line { server, talk: Talk::Slot(commands.clone(), slot) },
                tls: (!given).then_some(self.spec.tls.is_some()),
                login: (!given).then(|| login.clone()),
            })
            .collect())
    }

    /// What each server of a list says: whether it is the primary. Empty without a list.
    pub(crate) async fn listed(self: &Arc<Self>) -> Vec<(String, Result<bool>)> {
        let Topology::Endpoints(endpoints) = &self.spec.topology else { return Vec::new() };
        if endpoints.len() < 2 {
            return Vec::new();
        }
        let node = self.clone();
        each(endpoints, move |endpoint| {
            let node = node.clone();
            async move {
                let reached = node.in_time(node.spec.connect_timeout, node.reach(endpoint)).await?;
                Ok(reached.seen.is_none_or(|seen| seen.primary))
            }
        })
        .await
    }

    /// A way to ask each Sentinel. Empty without Sentinels.
    pub(crate) async fn sentinels(self: &Arc<Self>) -> Vec<(String, Result<Line>)> {
        let Topology::Sentinel { sentinels, .. } = &self.spec.topology else { return Vec::new() };
        let node = self.clone();
        each(sentinels, move |address| {
            let node = node.clone();
            async move {
                let server = address.to_string();
                let connecting = async { Ok(sentinel::listen(&node, address).await?.0) };
                let connection = node.in_time(node.spec.connect_timeout, connecting).await?;
                Ok(Line { server, talk: Talk::One(connection) })
            }
        })
        .await
    }
}

/// Asks all of these at once; the answers are in their order.
async fn each<T, F>(addresses: &[ConnectionAddr], ask: impl Fn(ConnectionAddr) -> F) -> Vec<(String, Result<T>)>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for (nth, address) in addresses.iter().enumerate() {
        let (server, asking) = (address.to_string(), ask(address.clone()));
        asked.spawn(async move { (nth, server, asking.await) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        // A question that panicked has been told of; there is no answer then.
        answers.extend(answer);
    }
    answers.sort_by_key(|(nth, ..)| *nth);
    answers.into_iter().map(|(_, server, answer)| (server, answer)).collect()
}

/// The primaries of a cluster, each with one of its slots.
fn parse_slots(answer: &Value) -> Option<Vec<(String, u16)>> {
    let Value::Array(ranges) = answer else { return None };
    let mut found: Vec<(String, u16)> = Vec::new();
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(_), Value::Array(primary), ..] = &parts[..] else { return None };
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
            // The one that answered, whichever that was.
            _ => "this cluster".to_owned(),
        };
        let server = format!("{host}:{port}");
        if !found.iter().any(|(known, _)| *known == server) {
            found.push((server, u16::try_from(*first).ok()?));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_primary_is_found_once() {
        let server = |port: i64| Value::Array(vec![Value::BulkString(b"10.0.0.1".to_vec()), Value::Int(port)]);
        let range = |first: i64, last: i64, port: i64| {
            Value::Array(vec![Value::Int(first), Value::Int(last), server(port), server(port + 100)])
        };
        let slots = Value::Array(vec![range(0, 99, 1), range(100, 200, 2), range(300, 400, 1)]);
        assert_eq!(parse_slots(&slots), Some(vec![("10.0.0.1:1".to_owned(), 0), ("10.0.0.1:2".to_owned(), 100)]));
        assert_eq!(parse_slots(&Value::Array(vec![])), Some(vec![]));
        for bad in [Value::Nil, Value::Array(vec![Value::Nil]), Value::Array(vec![Value::Array(vec![Value::Int(1)])])] {
            assert_eq!(parse_slots(&bad), None);
        }
    }
}
