//! Hostile review.
use std::time::Duration;
use pilotman_core::{HoldState, Locks, Primitive};
use pilotman_postgres::{PostgresBackend, Scope};
use pilotman_testkit::servers::postgres::{PgBouncer, Pooling, Postgres as Cluster, DATABASE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_reader_and_a_writer_at_once() {
    let (server, name) = (Server::get(), unique("r1"));
    let locks = locks(server.options(&name));
    locks.check().await.unwrap();
    let lock = locks.rw_lock(&name);
    let (read, write) = tokio::join!(lock.try_read(), lock.try_write());
    let (read, write) = (read.unwrap(), write.unwrap());
    assert!(!(read.is_some() && write.is_some()), "a reader and a writer hold the lock at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn r1b_two_mutex_holders() {
    let (server, name) = (Server::get(), unique("r1b"));
    let locks = locks(server.options(&name));
    locks.check().await.unwrap();
    let (a, b) = (locks.mutex(&name), locks.mutex(&name).fenced().unwrap());
    let (a, b) = tokio::join!(a.try_acquire(), b.try_acquire());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(!(a.is_some() && b.is_some()), "two holders of one mutex");
}

#[tokio::test(flavor = "multi_thread")]
async fn r1c_two_waiting_mutex_holders() {
    let (server, name) = (Server::get(), unique("r1c"));
    let locks = locks(server.options(&name));
    locks.check().await.unwrap();
    let (a, b) = (locks.mutex(&name), locks.mutex(&name).fenced().unwrap());
    let got = tokio::time::timeout(ms(1500), async { tokio::join!(a.acquire(), b.acquire()) }).await;
    assert!(got.is_err(), "both acquires were granted: {got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_failed_visit_frees_a_transaction_hold() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    admin.batch_execute("create role plain login password 'x'").await.unwrap();
    let options = || at(server.port()).user("plain").password("x").scope(Scope::Transaction);
    let (a, b) = (locks(options()), locks(options()));
    let guard = a.mutex("mine").acquire().await.unwrap();
    let other = a.physical_name("other", Primitive::Mutex).unwrap();
    let (x, y) = other.split_once(',').unwrap();
    let n = |t: &str| u32::from_str_radix(t, 16).unwrap().cast_signed();
    value(&admin, &format!("select pg_advisory_lock({},{})", n(x), n(y))).await;
    let error = a.force_release("other", Primitive::Mutex).await.unwrap_err();
    eprintln!("force_release: {error}");
    tokio::time::sleep(ms(200)).await;
    let second = b.mutex("mine").try_acquire().await.unwrap();
    assert!(second.is_none() || guard.state() == HoldState::Lost, "two holders; the first is {:?}", guard.state());
}

#[test]
fn r3_a_dropped_runtime_is_a_loss() {
    let (server, name) = (Server::get(), unique("r3"));
    let outer = tokio::runtime::Runtime::new().unwrap();
    let inner = tokio::runtime::Runtime::new().unwrap();
    let first = Locks::builder(PostgresBackend::new(server.options(&name)).unwrap()).runtime(inner.handle().clone()).build();
    let guard = outer.block_on(first.mutex(&name).acquire()).unwrap();
    inner.shutdown_timeout(Duration::from_secs(2));
    outer.block_on(async {
        let second = within("free", LONG, locks(server.options("second")).mutex(&name).acquire()).await.unwrap();
        assert_eq!(guard.state(), HoldState::Lost, "another one has it");
        drop(second);
    });
}

/// Gives the client the server's answer to the attempt and the end of the connection in one.
async fn grant_and_close(server: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut upstream = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    tokio::select! {
                        n = client.read(&mut up) => {
                            let Ok(n) = n else { return };
                            if n == 0 { return; }
                            upstream.write_all(&up[..n]).await.unwrap();
                            if up[..n].windows(17).any(|w| w == b"pg_try_advisory_l") {
                                tokio::time::sleep(ms(100)).await;
                                let n = upstream.read(&mut down).await.unwrap();
                                client.write_all(&down[..n]).await.unwrap();
                                client.shutdown().await.unwrap();
                                return;
                            }
                        }
                        n = upstream.read(&mut down) => {
                            let Ok(n) = n else { return };
                            if n == 0 || client.write_all(&down[..n]).await.is_err() { return; }
                        }
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_a_loss_right_after_the_grant_is_told() {
    let (server, name) = (Server::get(), unique("r4"));
    let port = grant_and_close(server.port()).await;
    let (mut seen, mut untold) = (0, 0);
    for round in 0..30 {
        let locks = locks(at(port).application_name(&name));
        let guard = match locks.mutex(format!("{name}{round}")).try_acquire().await {
            Ok(Some(guard)) => guard,
            other => { eprintln!("{round}: {:?}", other.map(drop)); continue }
        };
        seen += 1;
        if tokio::time::timeout(ms(300), guard.lost()).await.is_err() {
            untold += 1;
            if untold == 1 {
                // More than 2 heartbeats would make no difference.
                assert!(tokio::time::timeout(ms(12000), guard.lost()).await.is_err());
                eprintln!("state() says {:?}", guard.state());
            }
        }
    }
    assert_eq!(untold, 0, "of {seen} losses, so many were never told");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_an_innocent_session_is_ended_behind_a_pooler() {
    let server = Cluster::start(&[]).unwrap();
    let pool = PgBouncer::start(Pooling::Transaction, &server).unwrap();
    let admin = client(server.port()).await;
    let innocent = client(pool.port()).await;
    let options = at(pool.port()).scope(Scope::Transaction).sessions(sessions(|options| options.heartbeat = ms(1000)));
    let locks = locks(options);
    locks.check().await.unwrap();
    innocent.batch_execute("begin").await.unwrap();
    let pid = value(&innocent, "select pg_backend_pid()").await.unwrap();
    let guard = locks.mutex("m").acquire().await.unwrap();
    let mine = value(&admin, "select pid from pg_locks where locktype='advisory'").await.unwrap();
    eprintln!("innocent {pid}, holder {mine}");
    std::process::Command::new("kill").args(["-STOP", &mine]).status().unwrap();
    let reason = within("told", LONG, guard.lost()).await;
    eprintln!("{reason:?}");
    tokio::time::sleep(ms(4000)).await;
    let alive = innocent.simple_query("select 1").await;
    let held = value(&admin, "select count(*) from pg_locks where locktype='advisory'").await;
    eprintln!("innocent server processes left: {:?}", value(&admin, &format!("select count(*) from pg_stat_activity where pid={pid}")).await);
    std::process::Command::new("kill").args(["-CONT", &mine]).status().unwrap();
    eprintln!("locks left on the server: {held:?}");
    assert!(alive.is_ok(), "another application's transaction was ended: {}", alive.unwrap_err().as_db_error().map_or("closed".into(), ToString::to_string));
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_a_token_that_is_no_number_leaves_no_lock() {
    let (server, name) = (Server::get(), unique("r6"));
    let admin = server.admin().await;
    let sequence = format!("s{}", std::process::id());
    admin.batch_execute(&format!("create sequence {sequence} minvalue -10 start -10")).await.unwrap();
    let locks = locks(server.options(&name).token_sequence(&sequence).unwrap());
    eprintln!("{:?}", locks.mutex(&name).fenced().unwrap().try_acquire().await.map(drop));
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(locked(&admin, &name).await, 0, "a lock is left behind on a session that is used on");
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_tokens_of_transactions_increase_over_a_crash() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(at(server.port()).scope(Scope::Transaction));
    let admin = client(server.port()).await;
    admin.batch_execute("create sequence pilotman_fencing_token; checkpoint").await.unwrap();
    let guard = locks.mutex("m").fenced().unwrap().acquire().await.unwrap();
    let before = guard.token();
    server.kill().unwrap();
    server.restart().unwrap();
    let guard = within("back", LONG, async { loop {
        match locks.mutex("m").fenced().unwrap().acquire().await { Ok(g) => break g, Err(_) => tokio::time::sleep(ms(100)).await }
    }}).await;
    assert!(guard.token() > before, "{} after {before}", guard.token());
    let _ = DATABASE;
}

#[tokio::test(flavor = "multi_thread")]
async fn r8_a_given_up_session_closes_its_socket() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    let locks = locks(at(server.port()).application_name("r8").sessions(sessions(|options| options.heartbeat = ms(500))));
    let guard = locks.mutex("m").acquire().await.unwrap();
    let mine = value(&admin, "select pid from pg_locks where locktype='advisory'").await.unwrap();
    std::process::Command::new("kill").args(["-STOP", &mine]).status().unwrap();
    within("told", LONG, guard.lost()).await;
    drop(guard);
    locks.close().await;
    tokio::time::sleep(ms(3000)).await;
    let out = std::process::Command::new("ss").args(["-tnp", "state", "established", "dport", "=", &format!(":{}", server.port())]).output();
    let me = format!("pid={},", std::process::id());
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let open = text.lines().filter(|l| l.contains(&me)).count();
    std::process::Command::new("kill").args(["-CONT", &mine]).status().unwrap();
    assert!(open <= 1, "besides the test's own: \n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r9_two_holds_never_share_a_transaction_on_a_runtime_with_threads() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    let options = at(server.port()).scope(Scope::Transaction).sessions(sessions(|options| options.warm = 64));
    let locks = Locks::builder(PostgresBackend::new(options).unwrap()).runtime(tokio::runtime::Handle::current()).build();
    for round in 0..300 {
        let tasks: Vec<_> = (0..8).map(|n| locks.mutex(format!("r{n}"))).map(|lock| tokio::spawn(async move { lock.try_acquire().await })).collect();
        let mut guards = Vec::new();
        for task in tasks { if let Ok(Some(guard)) = task.await.unwrap() { guards.push(guard) } }
        let pids: usize = value(&admin, "select count(distinct pid) from pg_locks where locktype='advisory'").await.unwrap().parse().unwrap();
        assert_eq!(pids, guards.len(), "round {round}: holds share a transaction, or are none");
        for guard in guards { guard.release().await.unwrap(); }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_listen_before_look() {
    let server = Server::get();
    let mut config = pilotman_postgres::tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user("locker").password(pilotman_testkit::servers::postgres::PASSWORD).dbname(DATABASE);
    let (client, mut connection) = config.connect(pilotman_postgres::tokio_postgres::NoTls).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while let Some(Ok(m)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        if matches!(m, pilotman_postgres::tokio_postgres::AsyncMessage::Notification(_)) { let _ = tell.send(()); } } });
    let admin = server.admin().await;
    // The look finds nothing (here it takes 1 s after that); the release comes before the implicit commit.
    let look = async { client.simple_query("listen \"r10\";select pg_sleep(1)").await.unwrap(); };
    let release = async { tokio::time::sleep(ms(500)).await; admin.simple_query("select pg_notify('r10','')").await.unwrap(); };
    tokio::join!(look, release);
    assert!(tokio::time::timeout(ms(3000), told.recv()).await.is_ok(), "the release between the look and the commit is not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_idle_zero_does_not_spin() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    let locks = locks(at(server.port()).application_name("r11").sessions(sessions(|options| options.idle = Duration::ZERO)));
    locks.check().await.unwrap();
    let sql = "select pg_stat_clear_snapshot(), xact_commit from pg_stat_database where datname=current_database()";
    let read = || async { let m = admin.simple_query(sql).await.unwrap(); m.into_iter().find_map(|m| match m { pilotman_postgres::tokio_postgres::SimpleQueryMessage::Row(r) => r.get(1).map(|t| t.parse::<i64>().unwrap()), _ => None }).unwrap() };
    let before = read().await;
    tokio::time::sleep(ms(4000)).await;
    let after = read().await;
    assert!(after - before < 100, "{} transactions in 4 s of doing nothing", after - before);
}
