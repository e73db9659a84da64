//! MariaDB and MySQL come up, and can be broken and mended as the fault tests do.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use pilotman_testkit::servers::mysql::{Encryption, Flavour, MySql};
use pilotman_testkit::servers::{is_skipped, shared};

/// Those that are here.
fn flavours() -> Vec<Flavour> {
    let all = [("mariadb", Flavour::MariaDb), ("mysql", Flavour::MySql)];
    all.into_iter().filter(|(name, _)| !is_skipped(name)).map(|(_, flavour)| flavour).collect()
}

/// The first packet of a connection: the server's version is in it.
fn greeting(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = [0; 64];
    let count = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn shared_servers_answer_at_their_urls() {
    for name in ["mariadb", "mysql"] {
        if is_skipped(name) {
            continue;
        }
        let server = shared(name).unwrap();
        assert_eq!(server.url(), format!("mysql://locker:pw-locker@127.0.0.1:{}/locks", server.ports()[0]));
        assert_eq!(greeting(server.ports()[0]).contains("MariaDB"), name == "mariadb");
    }
}

/// What the locker may do, asked for by the client of the server itself.
fn as_locker(server: &MySql, arguments: &[&str], text: &str) -> Result<String, String> {
    let mut command = server.client();
    command.args(["--host=127.0.0.1", "--protocol=tcp", &format!("--port={}", server.port())]);
    command.args(["--user=locker", "--password=pw-locker", "--batch", "--skip-column-names", "--execute", text]);
    let output = command.args(arguments).arg("locks").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn the_locker_may_lock_and_no_more_with_or_without_tls() {
    for flavour in flavours() {
        let server = MySql::start(flavour, &["--wait-timeout=77"]).unwrap();
        let ask = |text| as_locker(&server, &["--ssl"][..usize::from(flavour == Flavour::MariaDb)], text);
        assert_eq!(ask("SELECT GET_LOCK('a', 0), DATABASE(), @@global.wait_timeout").unwrap(), "1\tlocks\t77");
        ask("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1); DROP TABLE t").unwrap();
        assert!(ask("SELECT * FROM mysql.user").unwrap_err().contains("denied"));
        let killed = ask("KILL QUERY CONNECTION_ID()").unwrap_err();
        assert!(killed.contains("interrupted"), "it may, and the query that says so ends: {killed}");
        let locks = "SELECT GET_LOCK('seen', 0); SELECT object_name, lock_status FROM performance_schema.metadata_locks \
                     WHERE object_type = 'USER LEVEL LOCK'";
        assert_eq!(server.sql(locks).unwrap(), "1\nseen\tGRANTED");
        assert!(server.sql("SELECT nonsense").unwrap_err().to_string().contains("nonsense"));
        assert_eq!(
            server.sql("SELECT @@max_connections, @@log_bin, CURRENT_USER()").unwrap(),
            "400\t0\troot@localhost"
        );
    }
}

#[test]
fn it_is_frozen_killed_restarted_and_stopped() {
    for flavour in flavours() {
        let mut server = MySql::start(flavour, &[]).unwrap();
        let port = server.port();
        server.sql("CREATE TABLE locks.kept (a INT PRIMARY KEY); INSERT INTO locks.kept VALUES (7)").unwrap();
        server.freeze().unwrap();
        // The kernel still takes connections for it.
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "nobody greets");
        server.thaw().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.read_exact(&mut [0]).unwrap();

        server.kill().unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        for _ in 0..2 {
            server.restart().unwrap();
            assert_eq!((server.port(), &server.sql("SELECT a FROM locks.kept").unwrap()[..]), (port, "7"));
        }
        server.terminate().unwrap();
        assert!(fs::read_to_string(server.log()).unwrap().contains("Shutdown complete"));
        server.restart().unwrap();
        let (pid, directory) = (server.process().id(), server.directory().to_owned());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists() && !directory.exists());
    }
}

/// Whether clients with and without TLS come in as they should.
fn check_tls(server: &MySql, encryption: Encryption) {
    let ca = server.certificates().map_or_else(|| "/nowhere".into(), |certificates| certificates.ca);
    let ca = format!("--ssl-ca={}", ca.display());
    let (with, without): (&[&str], &[&str]) = match server.flavour() {
        Flavour::MariaDb => (&[&ca, "--ssl-verify-server-cert"], &["--skip-ssl"]),
        Flavour::MySql => (&[&ca, "--ssl-mode=VERIFY_CA"], &["--ssl-mode=DISABLED", "--get-server-public-key"]),
    };
    let cipher =
        "SELECT variable_value <> '' FROM performance_schema.session_status WHERE variable_name = 'Ssl_cipher'";
    let (with, without) = (as_locker(server, with, cipher), as_locker(server, without, cipher));
    let case = format!("{:?} {encryption:?}: {with:?} {without:?}", server.flavour());
    assert_eq!(with.is_ok(), encryption != Encryption::Off, "{case}");
    assert_eq!(without.is_ok(), encryption != Encryption::Demanded, "{case}");
    assert!(with.is_err() || with == Ok("1".to_owned()), "{case}");
    assert!(without.is_err() || without == Ok("0".to_owned()), "{case}");
    assert_eq!(server.sql("SELECT 1").unwrap(), "1", "administration goes past that");
}

#[test]
fn tls_is_off_or_demanded() {
    for flavour in flavours() {
        for encryption in [Encryption::Off, Encryption::Demanded] {
            check_tls(&MySql::start_with(flavour, encryption, &[]).unwrap(), encryption);
        }
    }
}
