//! Asks Sentinels for the primary, and hears from them when it changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connect::{Reached, open, way};
use super::{Node, exchange};
use crate::failure::failed;
use crate::options::Topology;

/// The pause before another Sentinel is listened to.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Asks all Sentinels at once; the first whose primary says that it is one is believed.
pub(super) async fn find(node: &Arc<Node>) -> Result<Reached> {
    let Topology::Sentinel { sentinels, service, .. } = &node.spec.topology else {
        unreachable!("only called for Sentinels")
    };
    let mut asked = JoinSet::new();
    for sentinel in sentinels.clone() {
        let node = node.clone();
        asked.spawn(async move {
            let name = sentinel.to_string();
            let found = async {
                let (connection, _) = listen(&node, sentinel).await?;
                ask(&node, &connection).await
            };
            (name, found.await)
        });
    }
    let mut said = Vec::new();
    let mut tried: Vec<ConnectionAddr> = Vec::new();
    while let Some(answer) = asked.join_next().await {
        let Ok((sentinel, found)) = answer else { continue };
        match found {
            Ok(primary) if tried.contains(&primary) => {}
            Ok(primary) => {
                tried.push(primary.clone());
                let shown = primary.to_string();
                match node.reach(primary).await.and_then(|reached| node.check_role(reached)) {
                    Ok(reached) => {
                        if !node.sentinel_watched.swap(true, Ordering::AcqRel) {
                            watch(node);
                        }
                        return Ok(reached);
                    }
                    Err(error) if error.kind() == pilotman_core::ErrorKind::Misconfigured => return Err(error),
                    Err(error) => said.push(format!("{sentinel} names {shown}, but {error}")),
                }
            }
            Err(error) if error.kind() == pilotman_core::ErrorKind::Misconfigured && sentinels.len() == 1 => {
                return Err(error);
            }
            Err(error) => said.push(format!("{sentinel}: {error}")),
        }
    }
    Err(Error::unavailable(format!("no Sentinel knows a working primary of '{service}': {}", said.join("; ")))
        .with_advice("a failover takes a few seconds; look at the Sentinels if it goes on")
        .no_effect(true))
}

/// Connects to a Sentinel.
pub(super) async fn listen(
    node: &Arc<Node>,
    sentinel: ConnectionAddr,
) -> Result<(MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>)> {
    let Topology::Sentinel { username, password, .. } = &node.spec.topology else {
        unreachable!("only called for Sentinels")
    };
    let (sender, pushes) = mpsc::unbounded_channel();
    let way = way(sentinel, &node.spec, username.as_deref(), password.as_deref())?;
    let connection = open(&way, move |push| {
        // Who no longer listens doesn't want to know.
        let _ = sender.send(push);
        Ok(())
    })
    .await?;
    Ok((connection, pushes))
}

/// Asks a Sentinel for the address of the primary.
async fn ask(node: &Node, connection: &MultiplexedConnection) -> Result<ConnectionAddr> {
    let Topology::Sentinel { service, .. } = &node.spec.topology else { unreachable!("only called for Sentinels") };
    let mut cmd = redis::cmd("SENTINEL");
    cmd.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let answer = exchange(connection, &cmd).await.map_err(failed)?;
    let unknown = || {
        Error::misconfigured(format!("the Sentinel knows no service '{service}'"))
            .with_advice("check the name after the hosts; SENTINEL MASTERS lists what there is")
    };
    let Value::Array(parts) = answer else { return Err(unknown()) };
    let text = |at: usize| match parts.get(at) {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    match (text(0), text(1).and_then(|port| port.parse().ok())) {
        (Some(host), Some(port)) => Ok(ConnectionAddr::Tcp(host, port)),
        _ => Err(unknown()),
    }
}

/// Listens to one Sentinel after the other for as long as the node is in use, and gives up a connection to what is no
/// longer the primary: a primary that hangs or is cut off would keep it otherwise.
fn watch(node: &Arc<Node>) {
    let mut closed = node.closed.subscribe();
    let node = Arc::downgrade(node);
    tokio::spawn(async move {
        let mut pause = PAUSE;
        for turn in 0.. {
            if *closed.borrow() {
                return;
            }
            let Some(strong) = node.upgrade() else { return };
            let Topology::Sentinel { sentinels, .. } = &strong.spec.topology else { return };
            let sentinel = sentinels[turn % sentinels.len()].clone();
            let limit = strong.spec.connect_timeout;
            let listening = tokio::time::timeout(limit, async {
                let (connection, pushes) = listen(&strong, sentinel).await?;
                connection.clone().subscribe("+switch-master").await.map_err(failed)?;
                let primary = ask(&strong, &connection).await?;
                Ok::<_, Error>((connection, pushes, primary))
            });
            match listening.await {
                Ok(Ok((connection, mut pushes, primary))) => {
                    pause = PAUSE;
                    strong.follow(&primary.to_string());
                    drop(strong);
                    loop {
                        let push = tokio::select! {
                            push = pushes.recv() => push,
                            _ = closed.changed() => return,
                        };
                        let Some(strong) = node.upgrade() else { return };
                        match push {
                            None => break,
                            Some(push) if push.kind == PushKind::Disconnection => break,
                            Some(push) => {
                                if let Some(primary) = strong.switched(&push) {
                                    strong.follow(&primary);
                                }
                            }
                        }
                    }
                    drop(connection);
                }
                Ok(Err(error)) => tracing::debug!(%error, "a Sentinel can't be listened to"),
                Err(_) => tracing::debug!("a Sentinel gives no answer"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                _ = closed.changed() => return,
            }
        }
    });
}

impl Node {
    /// The new primary, if this tells of one: `<service> <old host> <old port> <new host> <new port>`.
    fn switched(&self, push: &PushInfo) -> Option<String> {
        let Topology::Sentinel { service, .. } = &self.spec.topology else { return None };
        let Some(Value::BulkString(text)) = push.data.last() else { return None };
        let words: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
        match words[..] {
            [name, _, _, host, port] if name == service => Some(format!("{host}:{port}")),
            _ => None,
        }
    }

    /// Gives up the connection unless it leads to this primary.
    fn follow(&self, primary: &str) {
        if let Some(live) = self.current()
            && live.server != primary
        {
            tracing::info!(old = live.server, new = primary, "the primary has changed");
            self.invalidate(live.generation);
        }
    }
}
