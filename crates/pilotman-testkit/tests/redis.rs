//! The Redis servers come up in all their arrangements, and can be broken and mended as the fault tests do.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilotman_testkit::certificates::Certificates;
use pilotman_testkit::servers::redis::{
    ADMIN_PASSWORD, ADMIN_SOCKET, Client, Cluster, LOCKER, LOCKER_PASSWORD, Node, Replicated, Reply, Sentinels, Tls,
};
use pilotman_testkit::servers::{self, shared};

const LONG: Duration = Duration::from_secs(30);

fn text(reply: &str) -> Reply {
    Reply::Text(reply.to_owned())
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_shared_node_answers_at_its_url() {
    let server = shared("redis").unwrap();
    let mut client = Client::connect(server.ports()[0]).unwrap();
    let key = format!("answers-{}", std::process::id());
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.ports()[0]));
    assert_eq!(client.call(&["SET", &key, "1", "NX", "PX", "60000"]).unwrap(), text("OK"));
    assert_eq!(client.call(&["SET", &key, "2", "NX"]).unwrap(), Reply::Nil);
    assert_eq!(client.call(&["INCR", &key]).unwrap(), Reply::Integer(2));
    assert_eq!(client.call(&["MGET", &key, "none"]).unwrap(), Reply::Array(vec![text("2"), Reply::Nil]));
    assert_eq!(client.call(&["DEL", &key]).unwrap(), Reply::Integer(1));
    let refusal = client.call(&["NO-SUCH-COMMAND"]).unwrap_err().to_string();
    assert!(refusal.contains("unknown command"), "{refusal}");
    assert_eq!(client.call(&["PING"]).unwrap(), text("PONG"), "a refusal leaves the connection in order");
}

#[test]
fn a_node_survives_a_kill_on_the_same_port_without_its_data() {
    let mut node = Node::start(&[]).unwrap();
    let port = node.port();
    node.cli(&["SET", "key", "value"]).unwrap();
    node.kill().unwrap();
    assert!(node.cli(&["PING"]).is_err());
    node.restart().unwrap();
    assert_eq!(node.port(), port);
    assert_eq!(node.cli(&["GET", "key"]).unwrap(), Reply::Nil);
    node.restart().unwrap();
    assert_eq!(node.cli(&["PING"]).unwrap(), text("PONG"), "also while it ran");
}

#[test]
fn further_arguments_count_also_after_a_restart() {
    let mut node = Node::start(&["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    node.cli(&["SET", "key", "value"]).unwrap();
    node.restart().unwrap();
    assert_eq!(node.cli(&["GET", "key"]).unwrap(), text("value"));
}

#[test]
fn a_frozen_node_goes_on_where_it_was() {
    let mut node = Node::start(&[]).unwrap();
    let mut client = node.connect().unwrap();
    node.freeze().unwrap();
    let pid = node.process().id();
    let answer = std::thread::spawn(move || client.call(&["PING"]));
    eventually("stopped", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
    });
    assert!(!answer.is_finished());
    node.thaw().unwrap();
    assert_eq!(answer.join().unwrap().unwrap(), text("PONG"));
}

fn redis_cli(port: u16, certificates: &Certificates, user: &str, password: &str, command: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--tls", "--no-auth-warning", "--cacert"])
        .arg(&certificates.ca)
        .args(["--user", user, "--pass", password])
        .args(command)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_locker_may_lock_over_tls_and_nothing_else() {
    let server = Tls::start(&[]).unwrap();
    let ask = |command: &[&str]| {
        redis_cli(server.node.port(), &server.certificates, LOCKER, LOCKER_PASSWORD, command).trim().to_owned()
    };
    assert_eq!(ask(&["SET", "lock:a", "1", "NX", "PX", "60000"]), "OK");
    let script = "redis.call('TIME') redis.call('PUBLISH', 'lock:push:a', 'x') return redis.call('GET', KEYS[1])";
    assert_eq!(ask(&["EVAL", script, "1", "lock:a"]), "1");
    assert_eq!(ask(&["WAIT", "0", "10"]), "0");
    assert!(ask(&["ROLE"]).starts_with("master"), "{}", ask(&["ROLE"]));
    assert!(ask(&["INFO", "server"]).contains("redis_version:"));
    assert!(ask(&["-3", "HELLO", "3"]).contains("proto"));
    for refused in [&["GET", "other"][..], &["FLUSHALL"], &["KEYS", "*"], &["PUBLISH", "other", "x"], &["SHUTDOWN"]] {
        assert!(ask(refused).starts_with("NOPERM"), "{refused:?}: {}", ask(refused));
    }
    let wrong = redis_cli(server.node.port(), &server.certificates, LOCKER, "guess", &["PING"]);
    assert!(wrong.contains("WRONGPASS"), "{wrong}");
}

#[test]
fn tls_is_the_only_way_in_from_outside() {
    let server = Tls::start(&[]).unwrap();
    let plain = Client::connect(server.node.port()).unwrap().call(&["PING"]);
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(server.node.cli(&["PING"]).unwrap(), text("PONG"), "administration goes through the socket");

    let strangers = tempfile::tempdir().unwrap();
    let strangers = Certificates::make(strangers.path()).unwrap();
    let answer = redis_cli(server.node.port(), &strangers, LOCKER, LOCKER_PASSWORD, &["PING"]);
    assert!(!answer.contains("PONG"), "{answer}");
}

#[test]
fn a_shared_tls_server_has_its_certificates_in_its_directory() {
    let server = shared("redis-tls").unwrap();
    let certificates = Certificates::of(server.directory());
    let answer = redis_cli(server.ports()[0], &certificates, LOCKER, LOCKER_PASSWORD, &["PING"]);
    assert_eq!(answer.trim(), "PONG");
    assert!(Path::new(&certificates.client_key).exists());
    let mut admin = Client::connect_unix(&server.directory().join(ADMIN_SOCKET)).unwrap();
    assert!(admin.call(&["PING"]).is_err());
    assert_eq!(admin.call(&["AUTH", ADMIN_PASSWORD]).unwrap(), text("OK"));
}

#[test]
fn replicas_copy_their_primary_and_take_its_place() {
    let mut servers = Replicated::start(2, &[]).unwrap();
    let mut client = servers.primary.connect().unwrap();
    client.call(&["SET", "key", "value"]).unwrap();
    assert_eq!(client.call(&["WAIT", "2", "10000"]).unwrap(), Reply::Integer(2));
    servers.primary.kill().unwrap();
    servers.promote(1).unwrap();
    assert_eq!(servers.primary.cli(&["GET", "key"]).unwrap(), text("value"));
    servers.primary.cli(&["SET", "key", "new"]).unwrap();
    // The dead primary took the place of the one that was promoted.
    servers.replicas[1].restart().unwrap();
    servers.replicas[1].cli(&["REPLICAOF", "127.0.0.1", &servers.primary.port().to_string()]).unwrap();
    servers.wait_synced().unwrap();
    for replica in &servers.replicas {
        assert_eq!(replica.cli(&["GET", "key"]).unwrap(), text("new"));
    }
}

#[test]
fn sentinels_fail_over_when_asked_and_when_the_primary_dies() {
    let mut servers = Sentinels::start(&[]).unwrap();
    let first = servers.primary_port().unwrap();
    let mut client = servers.primary().unwrap().connect().unwrap();
    client.call(&["SET", "key", "value"]).unwrap();
    assert_eq!(client.call(&["WAIT", "1", "10000"]).unwrap(), Reply::Integer(1));

    servers.failover().unwrap();
    let second = servers.primary_port().unwrap();
    assert_ne!(first, second);
    servers.wait_ready().unwrap();
    assert_eq!(servers.replica().unwrap().port(), first);
    assert_eq!(servers.primary().unwrap().cli(&["GET", "key"]).unwrap(), text("value"));

    servers.primary().unwrap().kill().unwrap();
    servers.wait_failed_over(second).unwrap();
    assert_eq!(servers.primary_port().unwrap(), first);
    assert_eq!(servers.primary().unwrap().cli(&["GET", "key"]).unwrap(), text("value"));
}

#[test]
fn slots_move_with_their_keys() {
    let cluster = Cluster::start(&[]).unwrap();
    let slot = cluster.slot("key").unwrap();
    let from = cluster.owner(slot).unwrap();
    let to = (from + 1) % 3;
    cluster.nodes[from].cli(&["SET", "key", "value"]).unwrap();

    cluster.begin_move(slot, from, to).unwrap();
    assert_eq!(cluster.nodes[from].cli(&["GET", "key"]).unwrap(), text("value"), "it is still there");
    cluster.move_keys(slot, from, to).unwrap();
    let ask = cluster.nodes[from].cli(&["GET", "key"]).unwrap_err().to_string();
    assert!(ask.starts_with("ASK"), "{ask}");
    cluster.finish_move(slot, from, to).unwrap();
    let moved = cluster.nodes[from].cli(&["GET", "key"]).unwrap_err().to_string();
    assert!(moved.starts_with("MOVED"), "{moved}");
    assert_eq!(cluster.nodes[to].cli(&["GET", "key"]).unwrap(), text("value"));
    assert_eq!(cluster.owner(slot).unwrap(), to);

    cluster.reshard(slot..slot + 1, to, from).unwrap();
    assert_eq!(cluster.nodes[from].cli(&["GET", "key"]).unwrap(), text("value"));
}

#[test]
fn a_cluster_grows_and_a_replica_takes_over() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let slot = cluster.slot("key").unwrap();
    let owner = cluster.owner(slot).unwrap();
    let replica = cluster.add_replica(owner).unwrap();
    let mut client = cluster.nodes[owner].connect().unwrap();
    client.call(&["SET", "key", "value"]).unwrap();
    assert_eq!(client.call(&["WAIT", "1", "10000"]).unwrap(), Reply::Integer(1));

    cluster.nodes[owner].kill().unwrap();
    eventually("the replica has the slot", || cluster.owner(slot).is_ok_and(|owner| owner == replica));
    cluster.wait_ok().unwrap();
    assert_eq!(cluster.nodes[replica].cli(&["GET", "key"]).unwrap(), text("value"));

    cluster.nodes[owner].restart().unwrap();
    eventually("the old owner copies the new one", || {
        cluster.nodes[owner].info("master_link_status").is_ok_and(|status| status == "up")
    });
    cluster.failover(owner).unwrap();
    assert_eq!(cluster.nodes[owner].info("role").unwrap(), "master");
}

#[test]
fn a_clock_is_set_while_the_server_runs() {
    let mut node = Node::start_with_clock(&[]).unwrap();
    let seconds = |node: &Node| node.cli(&["TIME"]).unwrap().items()[0].integer().unwrap();
    let ours = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    assert!((seconds(&node) - ours()).abs() <= 2);
    node.cli(&["SET", "key", "value", "PX", "60000"]).unwrap();
    let up = node.info("uptime_in_seconds").unwrap();
    node.step_clock(120).unwrap();
    assert!((seconds(&node) - ours() - 120).abs() <= 2);
    assert_eq!(node.cli(&["GET", "key"]).unwrap(), Reply::Nil, "its time is over");
    assert!(node.info("uptime_in_seconds").unwrap() >= up);
    node.cli(&["SET", "key", "value", "PX", "60000"]).unwrap();
    node.step_clock(-240).unwrap();
    assert!((seconds(&node) - ours() + 120).abs() <= 2);
    assert!(node.cli(&["PTTL", "key"]).unwrap().integer().unwrap() > 200_000);
    node.restart().unwrap();
    assert!((seconds(&node) - ours() + 120).abs() <= 2, "it stays as it is");
    assert!(Node::start(&[]).unwrap().step_clock(1).is_err());
}

#[test]
fn the_newest_servers_are_newer() {
    for (name, field, oldest) in [("redis-newest", "redis_version:", 8), ("valkey-newest", "valkey_version:", 8)] {
        if servers::is_skipped(name) {
            continue;
        }
        let server = shared(name).unwrap();
        let info = Client::connect(server.ports()[0]).unwrap().call(&["INFO", "server"]).unwrap().to_string();
        let version = info.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let major: u32 = version.split('.').next().unwrap().parse().unwrap();
        assert!(major >= oldest, "{name}: {version}");
    }
}

#[test]
fn shared_sentinels_and_cluster_answer() {
    let sentinels = shared("redis-sentinel").unwrap();
    assert_eq!(sentinels.ports().len(), 3);
    for port in sentinels.ports() {
        let quorum = Client::connect(port).unwrap().call(&["SENTINEL", "CKQUORUM", "mymaster"]).unwrap().to_string();
        assert!(quorum.starts_with("OK 3"), "{quorum}");
    }
    let cluster = shared("redis-cluster").unwrap();
    assert_eq!(cluster.ports().len(), 3);
    for port in cluster.ports() {
        let info = Client::connect(port).unwrap().call(&["CLUSTER", "INFO"]).unwrap().to_string();
        assert!(info.contains("cluster_state:ok"), "{info}");
    }
}
