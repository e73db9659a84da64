//! Opening a session.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::backend::Environment;
use pilotman_core::clock::{Sleep, Time};
use pilotman_core::{Error, Result};
use zookeeper_client::{Client, Connector, Error as DriverError};

use crate::options::ZooKeeper;
use crate::session::Session;
use crate::{failure, parents, sasl, tasks, tls};

/// The pause before the members are asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// A server that says nothing for this part of the time-out is left for another one.
const SILENCE: u32 = 3;

/// Opens a session within the connect time-out.
pub(crate) async fn open(zookeeper: &ZooKeeper, environment: &Environment) -> Result<Arc<Session>> {
    let limit = zookeeper.connect_timeout;
    let timer = Sleep::new(environment.clock.clone(), limit);
    tokio::select! {
        biased;
        opened = open_unbounded(zookeeper, environment) => opened,
        () = timer => Err(none_within(zookeeper, limit)),
    }
}

fn none_within(zookeeper: &ZooKeeper, limit: Duration) -> Error {
    Error::unavailable(format!("no session was opened within {limit:?} at {}", members(zookeeper)))
        .with_advice("see whether the servers can be reached and a majority of them runs")
        .no_effect(true)
}

fn members(zookeeper: &ZooKeeper) -> String {
    zookeeper.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn open_unbounded(zookeeper: &ZooKeeper, environment: &Environment) -> Result<Arc<Session>> {
    let cluster = zookeeper.cluster();
    loop {
        let opened = environment.clock.now();
        let connector = connector(zookeeper)?;
        let connecting = async {
            match zookeeper.tls.is_some() {
                true => connector.secure_connect(&cluster).await,
                false => connector.connect(&cluster).await,
            }
        };
        match tasks::on_this_runtime(connecting).await {
            Ok(client) => return begin(zookeeper, environment, client, opened).await,
            Err(DriverError::AuthFailed) => {
                return Err(Error::misconfigured("ZooKeeper refuses the authentication")
                    .with_advice("see whether the servers know the scheme and what was shown to them is right")
                    .no_effect(true));
            }
            Err(DriverError::BadArguments(why)) => {
                return Err(Error::misconfigured(format!("ZooKeeper can't be connected to so: {why}")));
            }
            Err(error) => {
                tracing::debug!(%error, "no member of the ensemble opened a session");
                refuse_if_unreachable(zookeeper).await?;
            }
        }
        Sleep::new(environment.clock.clone(), AGAIN).await;
    }
}

fn connector(zookeeper: &ZooKeeper) -> Result<Connector> {
    let timeout = zookeeper.session_timeout;
    let mut connector = Client::connector()
        .with_session_timeout(timeout)
        .with_connection_timeout(timeout / SILENCE)
        .with_fail_eagerly();
    for (scheme, secret) in &zookeeper.auth {
        connector = connector.with_auth(scheme, &secret.0);
    }
    if let Some((user, password)) = &zookeeper.sasl {
        connector = connector.with_sasl(sasl::options(user, password)?);
    }
    if let Some(options) = &zookeeper.tls {
        connector = connector.with_tls(tls::options(options)?);
    }
    Ok(connector)
}

/// Fails if no member can be reached at all: it is then of no use to ask again.
async fn refuse_if_unreachable(zookeeper: &ZooKeeper) -> Result<()> {
    let probes = zookeeper.hosts.iter().map(|host| async move {
        match tokio::net::TcpStream::connect((host.name.as_str(), host.port)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{host}: {error}")),
        }
    });
    let answers = join_all(probes).await;
    if answers.iter().any(std::result::Result::is_ok) {
        return Ok(());
    }
    let why: Vec<String> = answers.into_iter().filter_map(std::result::Result::err).collect();
    Err(Error::unavailable(format!("no member of the ZooKeeper ensemble can be reached ({})", why.join("; ")))
        .with_advice("see whether host and port are right and the servers run")
        .no_effect(true))
}

/// Sees whether the session is what was asked for.
async fn begin(zookeeper: &ZooKeeper, environment: &Environment, client: Client, opened: Time) -> Result<Arc<Session>> {
    let (asked, given) = (zookeeper.session_timeout, client.session_timeout());
    if given < asked {
        return Err(Error::misconfigured(format!(
            "the servers keep a session for {given:?} at most, not for {asked:?}"
        ))
        .with_advice("ask for a shorter session time-out, or raise maxSessionTimeout at the servers")
        .no_effect(true));
    }
    if zookeeper.chroot.is_some() {
        let root = client.check_stat("/").await;
        if root.map_err(|error| failure::of_request(error, "/").no_effect(true))?.is_none() {
            return Err(parents::no_chroot());
        }
    }
    // What the servers keep it for beyond what was asked for is not counted on.
    Ok(Session::new(client, asked, environment.clone(), opened))
}
