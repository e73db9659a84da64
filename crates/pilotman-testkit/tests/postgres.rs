//! PostgreSQL and PgBouncer come up in all their arrangements, and can be broken and mended as the fault tests do.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pilotman_testkit::certificates::Certificates;
use pilotman_testkit::servers::postgres::{Encryption, PgBouncer, Pooling, Postgres};
use pilotman_testkit::servers::{is_skipped, shared};

const LONG: Duration = Duration::from_secs(30);

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A client from outside, as an application would connect.
fn client(url: &str) -> Command {
    let direct = Path::new("/usr/lib/postgresql/15/bin/psql");
    let mut command = Command::new(if direct.exists() { direct } else { Path::new("psql") });
    command.args(["-X", "-A", "-t", "-q", url]).env("PGCONNECT_TIMEOUT", "20");
    command
}

fn ask(url: &str, text: &str) -> Result<String, String> {
    outcome(client(url).args(["-c", text]).output().unwrap())
}

fn outcome(output: Output) -> Result<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// A client whose connection stays, told one statement at a time.
struct Session(Child);

impl Session {
    fn open(url: &str) -> Self {
        Self(client(url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// The only value of the result. Hangs when there is none, which the time limit of the tests ends.
    fn ask(&mut self, text: &str) -> String {
        writeln!(self.0.stdin.as_mut().unwrap(), "{text};").unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        while self.0.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The states of a server and the processes below it: all connections are among them.
fn states(server: &mut Postgres) -> Vec<char> {
    let pid = server.process().id().to_string();
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("stat"));
    let fields = entries.filter_map(|stat: PathBuf| {
        let text = fs::read_to_string(stat).ok()?;
        let own = text.starts_with(&format!("{pid} "));
        let rest: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        (own || rest[1] == pid).then(|| rest[0].chars().next())?
    });
    fields.collect()
}

#[test]
fn shared_servers_answer_at_their_urls() {
    for (name, version) in [("postgres", ""), ("postgres-newest", "18")] {
        if is_skipped(name) {
            continue;
        }
        let server = shared(name).unwrap();
        assert_eq!(server.url(), format!("postgres://locker:pw-locker@127.0.0.1:{}/postgres", server.ports()[0]));
        let answer = ask(server.url(), "SELECT current_user, current_setting('server_version')").unwrap();
        assert!(answer.starts_with(&format!("locker|{version}")), "{name}: {answer}");
        let refusal = ask(&server.url().replace("pw-locker", "wrong"), "SELECT 1").unwrap_err();
        assert!(refusal.contains("password authentication failed"), "{refusal}");
    }
}

#[test]
fn a_pool_in_transaction_mode_gives_one_lock_to_two_clients() {
    let server = shared("pgbouncer").unwrap();
    let [pooled, direct] = server.urls() else { panic!("{server:?}") };
    let key = std::process::id();
    let attempt = format!("SELECT pg_try_advisory_lock({key})");
    {
        let (mut first, mut second) = (Session::open(direct), Session::open(direct));
        assert_eq!((&first.ask(&attempt)[..], &second.ask(&attempt)[..]), ("t", "f"), "the server itself excludes");
        assert_eq!(first.ask(&format!("SELECT pg_advisory_unlock({key})")), "t");
    }
    let (mut first, mut second) = (Session::open(pooled), Session::open(pooled));
    assert_eq!(first.ask(&attempt), "t");
    assert_eq!(second.ask(&attempt), "t", "both had the same connection to the server, one after the other");
    for _ in 0..2 {
        assert_eq!(first.ask(&format!("SELECT pg_advisory_unlock({key})")), "t");
    }
}

#[test]
fn a_pool_in_session_mode_excludes_and_can_be_broken() {
    let server = Postgres::start(&[]).unwrap();
    let mut pool = PgBouncer::start(Pooling::Session, &server).unwrap();
    let url = pool.url();
    {
        let (mut first, mut second) = (Session::open(&url), Session::open(&url));
        let attempt = "SELECT pg_try_advisory_lock(1)";
        assert_eq!((&first.ask(attempt)[..], &second.ask(attempt)[..]), ("t", "f"));
        pool.freeze().unwrap();
        pool.thaw().unwrap();
        assert_eq!(first.ask("SELECT 5"), "5");
    }
    pool.kill().unwrap();
    assert!(ask(&url, "SELECT 1").is_err());
    pool.restart().unwrap();
    assert_eq!(ask(&url, "SELECT 2").unwrap(), "2");
    assert!(fs::read_to_string(pool.log()).unwrap().contains("process up"));
}

#[test]
fn settings_and_data_survive_a_kill_on_the_same_port() {
    let mut server = Postgres::start(&["deadlock_timeout=123ms"]).unwrap();
    let port = server.port();
    server.sql("CREATE TABLE kept AS SELECT 7 AS value").unwrap();
    assert!(server.sql("SELECT nonsense").unwrap_err().to_string().contains("nonsense"));
    let mut session = Session::open(&server.url());
    assert_eq!(session.ask("SELECT 1"), "1");
    server.kill().unwrap();
    assert_eq!(session.ask("SELECT 1"), "", "its connection is gone");
    assert!(server.sql("SELECT 1").is_err());
    for _ in 0..2 {
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        assert_eq!(
            ask(&server.url(), "SELECT value, current_setting('deadlock_timeout') FROM kept").unwrap(),
            "7|123ms"
        );
    }
    server.terminate().unwrap();
    assert!(fs::read_to_string(server.log()).unwrap().contains("database system is shut down"));
    server.restart().unwrap();
    assert_eq!(server.sql("SELECT value FROM kept").unwrap(), "7");
}

#[test]
fn freezing_reaches_all_connections() {
    let mut server = Postgres::start(&[]).unwrap();
    let mut session = Session::open(&server.url());
    assert_eq!(session.ask("SELECT 1"), "1");
    assert!(states(&mut server).len() > 2);
    server.freeze().unwrap();
    assert!(states(&mut server).iter().all(|state| *state == 'T'), "{:?}", states(&mut server));
    // The kernel still takes connections for it.
    TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    server.freeze().unwrap();
    server.thaw().unwrap();
    eventually("all go on", || states(&mut server).iter().all(|state| *state != 'T'));
    assert_eq!(session.ask("SELECT 2"), "2");

    server.freeze().unwrap();
    server.restart().unwrap();
    assert_eq!(session.ask("SELECT 3"), "", "the frozen connection was killed");
    server.freeze().unwrap();
    let (pid, directory) = (server.process().id(), server.directory().to_owned());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && !directory.exists());
}

/// What the server with these files keeps a second one from them with.
fn memory_id(directory: &Path) -> String {
    let file = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_killed_server_leaves_no_shared_memory() {
    let mut server = Postgres::start(&[]).unwrap();
    let id = memory_id(server.directory());
    let is_there = || {
        let text = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        text.lines().any(|line| line.split_whitespace().nth(1) == Some(&id[..]))
    };
    assert!(is_there());
    server.kill().unwrap();
    assert!(!is_there());
}

#[test]
fn the_newest_server_can_be_broken_too() {
    if is_skipped("postgres-newest") {
        return;
    }
    let mut server = Postgres::start_newest(&["log_connections=on"]).unwrap();
    assert!(server.sql("SHOW server_version").unwrap().starts_with("18"));
    server.freeze().unwrap();
    server.thaw().unwrap();
    server.restart().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");
}

#[test]
fn tls_is_demanded_offered_or_refused() {
    let servers = [Encryption::Off, Encryption::Offered, Encryption::Demanded, Encryption::Refused]
        .map(|encryption| (encryption, Postgres::start_with(encryption, &[]).unwrap()));
    for (encryption, server) in &servers {
        let ca = server.certificates().map(|certificates: Certificates| certificates.ca);
        assert_eq!(ca.is_some(), *encryption != Encryption::Off);
        let plain = ask(&format!("{}?sslmode=disable", server.url()), "SELECT 1");
        let speaks_plain = !matches!(encryption, Encryption::Demanded);
        assert_eq!(plain.is_ok(), speaks_plain, "{encryption:?}: {plain:?}");
        let ca = ca.unwrap_or_else(|| "/nowhere".into());
        let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url_by_name(), ca.display());
        let secret = ask(&url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        if matches!(encryption, Encryption::Offered | Encryption::Demanded) {
            assert_eq!(secret.unwrap(), "t", "{encryption:?}");
        } else {
            secret.unwrap_err();
        }
        assert_eq!(server.sql("SELECT 1").unwrap(), "1", "administration goes past that");
    }
    let [_, (_, offered), (_, demanded), _] = &servers;
    let foreign = offered.certificates().unwrap().ca;
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", demanded.url_by_name(), foreign.display());
    let refusal = ask(&url, "SELECT 1").unwrap_err();
    assert!(refusal.contains("SSL error"), "{refusal}");
}

#[test]
fn a_standby_copies_and_is_read_only() {
    let mut primary = Postgres::start_with(Encryption::Offered, &[]).unwrap();
    primary.sql("CREATE TABLE copied AS SELECT 1 AS value").unwrap();
    let mut standby = primary.standby(&["max_standby_streaming_delay=1s"]).unwrap();
    assert_eq!(standby.sql("SELECT pg_is_in_recovery()").unwrap(), "t");
    assert_eq!(primary.sql("SELECT pg_is_in_recovery()").unwrap(), "f");
    primary.sql("INSERT INTO copied VALUES (2)").unwrap();
    eventually("the copy is complete", || standby.sql("SELECT count(*) FROM copied").unwrap() == "2");
    let refusal = ask(&standby.url(), "INSERT INTO copied VALUES (3)").unwrap_err();
    assert!(refusal.contains("read-only transaction"), "{refusal}");
    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        standby.url_by_name(),
        standby.certificates().unwrap().ca.display()
    );
    assert_eq!(ask(&url, "SELECT 1").unwrap(), "1");
    primary.kill().unwrap();
    standby.restart().unwrap();
    assert_eq!(standby.sql("SELECT count(*) FROM copied").unwrap(), "2");
    standby.sql("SELECT pg_promote()").unwrap();
    assert_eq!(ask(&standby.url(), "INSERT INTO copied VALUES (3) RETURNING value").unwrap(), "3");
}

#[test]
fn a_killed_test_takes_frozen_connections_with_it() {
    const CHILD: &str = "PILOTMAN_TESTKIT_CHILD_PIDS";
    // This test again, in a process of its own that can be killed.
    if let Some(file) = std::env::var_os(CHILD) {
        let mut server = Postgres::start(&[]).unwrap();
        let mut session = Session::open(&server.url());
        let backend = session.ask("SELECT pg_backend_pid()");
        server.freeze().unwrap();
        fs::write(file, format!("{} {backend} {} .", server.process().id(), server.directory().display())).unwrap();
        std::thread::sleep(LONG);
        panic!("it was not killed");
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, mut command) = (directory.path().join("pids"), Command::new(std::env::current_exe().unwrap()));
    command.args(["--exact", "a_killed_test_takes_frozen_connections_with_it"]).env(CHILD, &file);
    let mut test = pilotman_testkit::Process::spawn("test", command, &directory.path().join("log")).unwrap();
    eventually("the other test has its server", || fs::read_to_string(&file).unwrap_or_default().ends_with('.'));
    let text = fs::read_to_string(&file).unwrap();
    let fields: Vec<&str> = text.split(' ').collect();
    test.kill().unwrap();
    for pid in &fields[..2] {
        eventually("it is gone", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
    // Nobody was left to do so.
    let shared_memory = memory_id(Path::new(fields[2]));
    assert!(Command::new("ipcrm").args(["-m", &shared_memory]).status().unwrap().success());
    fs::remove_dir_all(fields[2]).unwrap();
}
