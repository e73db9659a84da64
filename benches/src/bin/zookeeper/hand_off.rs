//! One lock that several sessions want all the time, against the lock of the same client.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::try_join_all;
use pilotman_bench::{Failure, figure, median, quantile};
use pilotman_core::{Locks, Release};
use pilotman_zookeeper::zookeeper_client::{Acls, Client, CreateMode, LockOptions, LockPrefix};

use crate::pair::{connect, locks};

const SESSIONS: usize = 8;
/// Both sides run in turns.
const TURNS: usize = 3;
const THEIRS: &str = "/theirs";

/// From when a release started to when the lock was somebody else's.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<(Option<Instant>, Vec<f64>)>>);

impl Times {
    fn got(&self) {
        let mut times = self.0.lock().expect("nobody panics");
        if let Some(start) = times.0.take() {
            times.1.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }

    fn releases(&self) {
        self.0.lock().expect("nobody panics").0 = Some(Instant::now());
    }

    /// Those of one turn; the first may be from the time when not all were there.
    fn take(&self) -> Vec<f64> {
        let mut times = self.0.lock().expect("nobody panics");
        times.0 = None;
        std::mem::take(&mut times.1)
    }
}

pub(crate) async fn measure(address: &str, each: usize) -> Result<(), Failure> {
    let maker = connect(address).await?;
    maker.create(THEIRS, b"", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await?;
    let clients: Vec<Client> = try_join_all((0..SESSIONS).map(|_| connect(address))).await?;
    let everybody: Vec<Locks> = (0..SESSIONS).map(|_| locks(address)).collect::<Result<_, _>>()?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let times = Times::default();
    for _ in 0..TURNS {
        try_join_all(clients.iter().map(|client| tokio::spawn(of_client(client.clone(), times.clone(), each)))).await?;
        theirs.extend(times.take());
        try_join_all(everybody.iter().map(|locks| tokio::spawn(of_ours(locks.clone(), times.clone(), each)))).await?;
        ours.extend(times.take());
    }
    figure("hand-off", median(&ours) / median(&theirs), "×");
    figure("hand-off-pilotman-p50", median(&ours), "ms");
    figure("hand-off-pilotman-p99", quantile(&ours, 0.99), "ms");
    figure("hand-off-client-p50", median(&theirs), "ms");
    figure("hand-off-client-p99", quantile(&theirs, 0.99), "ms");
    Ok(())
}

async fn of_client(client: Client, times: Times, count: usize) {
    for _ in 0..count {
        let prefix = LockPrefix::new_curator(THEIRS, "lock-").expect("it is a path");
        let options = LockOptions::new(Acls::anyone_all());
        let lock = client.lock(prefix, b"", options).await.expect("the lock is given in the end");
        times.got();
        times.releases();
        client.delete(lock.lock_path(), None).await.expect("it is held");
    }
}

async fn of_ours(locks: Locks, times: Times, count: usize) {
    let mutex = locks.mutex("ours");
    for _ in 0..count {
        let guard = mutex.acquire().await.expect("the lock is given in the end");
        times.got();
        times.releases();
        assert_eq!(guard.release().await.expect("it is given back"), Release::Released);
    }
}
