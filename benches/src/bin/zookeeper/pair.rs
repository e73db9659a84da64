//! Acquire and release of a free lock, against create, children and delete, one after the other.

use std::time::{Duration, Instant};

use pilotman_bench::{Failure, figure, median};
use pilotman_core::{Locks, Release};
use pilotman_zookeeper::zookeeper_client::{Acls, Client, CreateMode};
use pilotman_zookeeper::{ZooKeeper, ZooKeeperBackend};

/// Both sides run in turns.
const TURNS: usize = 5;
const SESSION: Duration = Duration::from_secs(30);
const BARE: &str = "/bare";

pub(crate) async fn measure(address: &str, pairs: usize) -> Result<(), Failure> {
    let client = connect(address).await?;
    client.create(BARE, b"", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await?;
    let locks = locks(address)?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // The first of each makes what is missing.
    bare_pair(&client).await?;
    our_pair(&locks).await?;
    for _ in 0..TURNS {
        for _ in 0..pairs {
            let start = Instant::now();
            bare_pair(&client).await?;
            bare.push(micros(start));
        }
        for _ in 0..pairs {
            let start = Instant::now();
            our_pair(&locks).await?;
            ours.push(micros(start));
        }
    }
    locks.close().await;
    figure("pair", median(&ours) / median(&bare), "×");
    figure("pair-pilotman", median(&ours), "µs");
    figure("pair-bare", median(&bare), "µs");
    Ok(())
}

pub(crate) async fn connect(address: &str) -> Result<Client, Failure> {
    Ok(Client::connector().with_session_timeout(SESSION).connect(address).await?)
}

pub(crate) fn locks(address: &str) -> Result<Locks, Failure> {
    Ok(Locks::new(ZooKeeperBackend::new(ZooKeeper::host(address)?.session_timeout(SESSION))?))
}

async fn bare_pair(client: &Client) -> Result<(), Failure> {
    let prefix = format!("{BARE}/lock-");
    let (_, number) =
        client.create(&prefix, b"", &CreateMode::EphemeralSequential.with_acls(Acls::anyone_all())).await?;
    let children = client.list_children(BARE).await?;
    if children.len() != 1 {
        return Err("somebody else uses the node of the bare requests".into());
    }
    Ok(client.delete(&format!("{prefix}{number}"), None).await?)
}

async fn our_pair(locks: &Locks) -> Result<(), Failure> {
    match locks.mutex("ours").acquire().await?.release().await? {
        Release::Released => Ok(()),
        Release::AlreadyLost(reason) => Err(format!("the lock was lost: {reason:?}").into()),
    }
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}
