//! How soon a loss is told. The page has the times that these print (`--no-capture`).

use std::time::{Duration, Instant};

use pilotman_core::{Guard, LossReason};
use pilotman_mysql::{MySql, SessionOptions, TlsMode};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::mysql::{Flavour, MySql as Server};
use pilotman_testkit::timing::mostly_within;

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, soon, unique};

const SECOND: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long it took to be told since `start`.
async fn told(guard: &Guard, start: Instant) -> Duration {
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    start.elapsed()
}

fn quick(mysql: MySql) -> MySql {
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = HEARTBEAT;
    mysql.sessions(sessions)
}

#[tokio::test]
async fn a_killed_session_is_told_within_a_second() {
    for (flavour, (_server, port)) in [("MariaDB", mariadb()), ("MySQL", mysql())] {
        let (locks, name) = (locks(port), unique("killed"));
        let mut admin = Person::admin(port).await;
        let mut times = Vec::new();
        for _ in 0..5 {
            let guard = locks.mutex(&name).acquire().await.unwrap();
            let start = Instant::now();
            admin.kill_holder(&name).await;
            times.push(told(&guard, start).await);
        }
        mostly_within(&format!("KILL, {flavour}"), SECOND, &times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_told_within_a_second() {
    let mut server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let locks = locks(server.port());
    for (how, end) in [("SIGTERM", Server::terminate as fn(&mut Server) -> _), ("SIGKILL", Server::kill)] {
        let mut times = Vec::new();
        for _ in 0..3 {
            let guard = soon("it is up", locks.mutex("m").acquire()).await.unwrap();
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

#[tokio::test]
async fn a_server_that_is_frozen_is_told_within_two_heartbeats() {
    let mut server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let locks = locks_of(quick(options(server.port())));
    let mut times = Vec::new();
    for _ in 0..3 {
        let guard = soon("it is free", locks.mutex("m").acquire()).await.unwrap();
        let start = Instant::now();
        server.freeze().unwrap();
        times.push(told(&guard, start).await);
        server.thaw().unwrap();
    }
    mostly_within("a frozen server, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}

#[tokio::test]
async fn a_network_without_answers_is_told_within_two_heartbeats() {
    let (_server, port) = mariadb();
    let mut times = Vec::new();
    for (requests, replies) in [(Flow::Drop, Flow::Drop), (Flow::Pass, Flow::Drop), (Flow::Hold, Flow::Pass)] {
        let proxy = Proxy::before(port).unwrap();
        let locks = locks_of(quick(options(proxy.port())).tls(TlsMode::Disable));
        let guard = locks.mutex(unique("cut")).acquire().await.unwrap();
        let start = Instant::now();
        proxy.requests(requests);
        proxy.replies(replies);
        times.push(told(&guard, start).await);
    }
    mostly_within("a network that is cut, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}
