//! How soon a loss is told. The page has the times that these print (`--no-capture`).

use std::time::{Duration, Instant};

use pilotman_core::{Guard, LossReason};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::postgres::Postgres as Cluster;
use pilotman_testkit::timing::mostly_within;

use crate::common::{LONG, Server, at, kill, locks, sessions, unique, within};

const SECOND: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long it took to be told since `start`.
async fn told(guard: &Guard, start: Instant) -> Duration {
    assert_eq!(within("it is told", LONG, guard.lost()).await, LossReason::SessionEnded);
    start.elapsed()
}

fn quick(postgres: pilotman_postgres::Postgres) -> pilotman_postgres::Postgres {
    postgres.sessions(sessions(|options| options.heartbeat = HEARTBEAT))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_session_is_told_within_a_second() {
    let (server, name) = (Server::get(), unique("terminated"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let mut times = Vec::new();
    for _ in 0..5 {
        let guard = locks.mutex(&name).acquire().await.unwrap();
        let start = Instant::now();
        kill(&admin, &name).await;
        times.push(told(&guard, start).await);
    }
    mostly_within("pg_terminate_backend", SECOND, &times);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_told_within_a_second() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(at(server.port()));
    for (how, end) in
        [("SIGINT, a fast shutdown", Cluster::terminate as fn(&mut Cluster) -> _), ("SIGKILL", Cluster::kill)]
    {
        let mut times = Vec::new();
        for _ in 0..3 {
            let guard = within("it is up", LONG, locks.mutex("m").acquire()).await.unwrap();
            let start = Instant::now();
            let told = tokio::spawn(async move { told(&guard, start).await });
            // It returns when the server has ended, which may take longer.
            tokio::task::block_in_place(|| end(&mut server)).unwrap();
            times.push(told.await.unwrap());
            server.restart().unwrap();
        }
        mostly_within(how, SECOND, &times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_is_told_within_two_heartbeats() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(quick(at(server.port())));
    let mut times = Vec::new();
    for _ in 0..3 {
        let guard = within("it is free", LONG, locks.mutex("m").acquire()).await.unwrap();
        let start = Instant::now();
        server.freeze().unwrap();
        times.push(told(&guard, start).await);
        server.thaw().unwrap();
    }
    mostly_within("a frozen server, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_answers_is_told_within_two_heartbeats() {
    let server = Server::get();
    let mut times = Vec::new();
    for (requests, replies) in [(Flow::Drop, Flow::Drop), (Flow::Pass, Flow::Drop), (Flow::Hold, Flow::Pass)] {
        let proxy = Proxy::before(server.port()).unwrap();
        let locks = locks(quick(at(proxy.port())));
        let guard = locks.mutex(unique("cut")).acquire().await.unwrap();
        let start = Instant::now();
        proxy.requests(requests);
        proxy.replies(replies);
        times.push(told(&guard, start).await);
    }
    mostly_within("a network that is cut, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}
