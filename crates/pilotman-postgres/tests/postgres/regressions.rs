//! What a review found: each of these broke a guarantee once.

use std::process::Command;
use std::time::Duration;

use pilotman_core::{HoldState, Locks, Primitive};
use pilotman_postgres::{PostgresBackend, PostgresKey, Scope};
use pilotman_testkit::servers::postgres::{PgBouncer, Pooling, Postgres as Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{LONG, Server, at, client, eventually, locked, locks, ms, sessions, unique, value, within};

/// Attempts that are under way count like holds: the server gives a session what it has already.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_the_same_moment_never_both_have_it() {
    let server = Server::get();
    for round in 0..20 {
        let name = unique(&format!("moment{round}"));
        let locks = locks(server.options("moment"));
        locks.check().await.unwrap();
        let rw = locks.rw_lock(&name);
        let (read, write) = tokio::join!(rw.try_read(), rw.try_write());
        assert!(!(read.unwrap().is_some() && write.unwrap().is_some()), "a reader beside a writer");
        // Of two options, so of two places in the local queue.
        let (plain, fenced) = (locks.mutex(&name), locks.mutex(&name).fenced().unwrap());
        let (one, two) = tokio::join!(plain.try_acquire(), fenced.try_acquire());
        assert!(!(one.unwrap().is_some() && two.unwrap().is_some()), "two holders");
    }
    let (name, locks) = (unique("waits"), locks(server.options("moment")));
    locks.check().await.unwrap();
    let (plain, fenced) = (locks.mutex(&name), locks.mutex(&name).fenced().unwrap());
    let both = tokio::time::timeout(ms(1000), async { tokio::join!(plain.acquire(), fenced.acquire()) }).await;
    assert!(both.is_err(), "both waits were granted");
}

/// A look at other locks that fails must not cost a hold, which it would in the same transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_costs_no_hold() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    admin.batch_execute("create role plain login password 'x'").await.unwrap();
    let options = || at(server.port()).user("plain").password("x").scope(Scope::Transaction);
    let (one, two) = (locks(options()), locks(options()));
    let guard = one.mutex("mine").acquire().await.unwrap();
    let PostgresKey::Pair(first, second) = PostgresKey::of_name("other") else { panic!("a short name") };
    value(&admin, &format!("select pg_advisory_lock({first},{second})")).await;
    let error = one.force_release("other", Primitive::Mutex).await.unwrap_err();
    assert!(error.to_string().contains("pg_signal_backend"), "{error}");
    tokio::time::sleep(ms(200)).await;
    assert!(
        two.mutex("mine").try_acquire().await.unwrap().is_none(),
        "it is free, and its guard is {:?}",
        guard.state()
    );
    assert_eq!(guard.state(), HoldState::Held);
}

#[test]
fn a_runtime_that_is_shut_down_is_a_loss() {
    let (server, name) = (Server::get(), unique("runtime"));
    let (outer, inner) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let backend = PostgresBackend::new(server.options(&name)).unwrap();
    let first = Locks::builder(backend).runtime(inner.handle().clone()).build();
    let guard = outer.block_on(first.mutex(&name).acquire()).unwrap();
    inner.shutdown_timeout(Duration::from_secs(2));
    outer.block_on(async {
        let second = locks(server.options("second"));
        let second = within("it is free", LONG, second.mutex(&name).acquire()).await.unwrap();
        assert_eq!(guard.state(), HoldState::Lost, "another one has it");
        second.release().await.unwrap();
    });
}

/// A way to the server that gives the answer to an attempt and the end of the connection in one.
async fn grants_and_closes(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(pass_until_granted(client, upstream));
        }
    });
    port
}

async fn pass_until_granted(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            count = client.read(&mut up) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                server.write_all(&up[..count]).await?;
                if String::from_utf8_lossy(&up[..count]).contains("pg_try_advisory_lock") {
                    tokio::time::sleep(ms(100)).await;
                    let count = server.read(&mut down).await?;
                    client.write_all(&down[..count]).await?;
                    return client.shutdown().await;
                }
            }
            count = server.read(&mut down) => {
                let count = count?;
                if count == 0 {
                    return Ok(());
                }
                client.write_all(&down[..count]).await?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_right_after_the_grant_is_told() {
    let (server, name) = (Server::get(), unique("right-after"));
    let port = grants_and_closes(server.port()).await;
    let mut seen = 0;
    for round in 0..20 {
        let locks = locks(at(port).application_name(&name));
        // Or the end comes first, which is an error.
        let Ok(Some(guard)) = locks.mutex(format!("{name}{round}")).try_acquire().await else { continue };
        seen += 1;
        within("it is told", ms(3000), guard.lost()).await;
    }
    assert!(seen > 0, "the end always came first");
}

/// Stops a process of the server's without its knowledge, until this is dropped.
struct Stopped(String);

impl Stopped {
    fn new(process: String) -> Self {
        assert!(Command::new("kill").args(["-STOP", &process]).status().unwrap().success());
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}

/// Behind a pooler, the process that served a session at first may serve somebody else later.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_given_up_behind_a_pooler_ends_nobody_elses() {
    let server = Cluster::start(&[]).unwrap();
    let pool = PgBouncer::start(Pooling::Transaction, &server).unwrap();
    let (admin, innocent) = (client(server.port()).await, client(pool.port()).await);
    let options = at(pool.port()).scope(Scope::Transaction).sessions(sessions(|options| options.heartbeat = ms(1000)));
    let locks = locks(options);
    locks.check().await.unwrap();
    innocent.batch_execute("begin").await.unwrap();
    let guard = locks.mutex("m").acquire().await.unwrap();
    let holder = value(&admin, "select pid from pg_locks where locktype='advisory'").await.unwrap();
    let stopped = Stopped::new(holder);
    within("it is told", LONG, guard.lost()).await;
    tokio::time::sleep(ms(3000)).await;
    let alive = innocent.simple_query("select 1").await;
    drop(stopped);
    assert!(alive.is_ok(), "another application's transaction was ended");
    let none = || async { value(&admin, "select 1 from pg_locks where locktype='advisory'").await.is_none() };
    eventually("the pooler has ended ours", none).await;
}

/// A farewell stands behind the statement that has no answer, for ever if need be.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_given_up_closes_its_connection() {
    let server = Cluster::start(&[]).unwrap();
    let (admin, name) = (client(server.port()).await, unique("given-up"));
    let options = at(server.port()).application_name(&name).sessions(sessions(|options| options.heartbeat = ms(500)));
    let locks = locks(options);
    let guard = locks.mutex("m").acquire().await.unwrap();
    let holder = value(&admin, "select pid from pg_locks where locktype='advisory'").await.unwrap();
    let port = value(&admin, &format!("select client_port from pg_stat_activity where pid={holder}")).await.unwrap();
    let _stopped = Stopped::new(holder);
    within("it is told", LONG, guard.lost()).await;
    // In the kernel's table, addresses end with the port in hexadecimal digits; 01 is a connection that is open. Another
    // connection may have the same local port, to another server.
    let hexadecimal = |port: u16| format!(":{port:04X}");
    let (ours, theirs) = (hexadecimal(port.parse().unwrap()), hexadecimal(server.port()));
    let is_open = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_it =
            |row: Vec<String>| row.len() > 3 && row[1].ends_with(&ours) && row[2].ends_with(&theirs) && row[3] == "01";
        table.lines().map(fields).any(is_it)
    };
    eventually("it is closed", || async { !is_open() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_gives_no_tokens_is_refused_and_nothing_is_left() {
    let (server, name) = (Server::get(), unique("sequence"));
    let admin = server.admin().await;
    for (nth, how) in
        ["minvalue -10 start -10", "increment -1 minvalue 0 maxvalue 9 start 9", "cache 20", "maxvalue 9 cycle"]
            .iter()
            .enumerate()
    {
        let sequence = format!("public.s{}_{nth}", std::process::id());
        admin.batch_execute(&format!("create sequence {sequence} {how}")).await.unwrap();
        let locks = locks(server.options(&name).token_sequence(&sequence).unwrap());
        let error = locks.mutex(&name).fenced().unwrap().try_acquire().await.unwrap_err();
        assert!(error.to_string().contains("cache of 1"), "{how}: {error}");
        eventually("nothing is left", || async { locked(&admin, &name).await == 0 }).await;
        admin.batch_execute(&format!("drop sequence {sequence}")).await.unwrap();
    }
}

/// Between the look for a session and its use, another thread may have used it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holds_never_share_a_transaction_on_a_runtime_with_threads() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    let options = at(server.port()).scope(Scope::Transaction).sessions(sessions(|options| options.warm = 64));
    let backend = PostgresBackend::new(options).unwrap();
    let locks = Locks::builder(backend).runtime(tokio::runtime::Handle::current()).build();
    for round in 0..150 {
        let tries = (0..8)
            .map(|nth| locks.mutex(format!("r{nth}")))
            .map(|lock| tokio::spawn(async move { lock.try_acquire().await }));
        let mut guards = Vec::new();
        for one in tries.collect::<Vec<_>>() {
            guards.extend(one.await.unwrap().unwrap());
        }
        let processes = value(&admin, "select count(distinct pid) from pg_locks where locktype='advisory'").await;
        assert_eq!(processes, Some(guards.len().to_string()), "round {round}");
        for guard in guards {
            guard.release().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_without_idle_time_do_not_spin() {
    let server = Cluster::start(&[]).unwrap();
    let admin = client(server.port()).await;
    let locks = locks(at(server.port()).sessions(sessions(|options| options.idle = Duration::ZERO)));
    locks.check().await.unwrap();
    let count = || async {
        value(&admin, "select pg_stat_clear_snapshot()").await;
        let sql = "select xact_commit from pg_stat_database where datname=current_database()";
        value(&admin, sql).await.unwrap().parse::<i64>().unwrap()
    };
    let before = count().await;
    tokio::time::sleep(ms(3000)).await;
    let passed = count().await - before;
    assert!(passed < 100, "{passed} transactions in 3 s of doing nothing");
}
