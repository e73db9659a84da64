//! What a look at the set-up of real servers finds, in each arrangement; and that it changes nothing there.

use pilotman_core::ErrorKind;
use pilotman_core::backend::{Finding, Severity};
use pilotman_redis::RedisNode;
use pilotman_testkit::servers::redis::{
    Cluster, LOCKER, LOCKER_PASSWORD, Node, Replicated, Reply, SERVICE, Sentinels, Tls,
};

use crate::common::{LONG, among, assert_says, at, eventually, locks, ms};

use Severity::{Fine, Note, Problem, Warning};

async fn diagnosed(node: RedisNode) -> Vec<Finding> {
    let findings = locks(node).diagnose().await.unwrap();
    for finding in &findings {
        println!("{finding}");
        let shown = format!("{finding} {finding:?}");
        assert!(!shown.contains("secret") && !finding.what.is_empty(), "{shown}");
        assert!(finding.severity < Warning || finding.advice.is_some(), "no advice: {finding}");
    }
    assert!(findings.is_sorted_by(|a, b| a.severity >= b.severity), "the worst comes first: {findings:?}");
    findings
}

/// The one finding about this.
#[track_caller]
fn about<'a>(findings: &'a [Finding], about: &str) -> &'a Finding {
    let found: Vec<_> = findings.iter().filter(|finding| finding.about == about).collect();
    assert_eq!(found.len(), 1, "{about}: {findings:?}");
    found[0]
}

fn problems(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.severity == Problem).map(|finding| finding.about).collect()
}

/// All that a look could change.
fn state(node: &Node) -> Vec<String> {
    let mut client = node.connect().unwrap();
    let config = client.call(&["CONFIG", "GET", "*"]).unwrap().to_string();
    let keys = client.call(&["KEYS", "*"]).unwrap().to_string();
    let scripts = node.info("number_of_cached_scripts").unwrap();
    let users = client.call(&["ACL", "LIST"]).unwrap().to_string();
    let written = node.info("rdb_changes_since_last_save").unwrap();
    vec![config, keys, users, scripts, written]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_a_problem_and_one_that_forgets_is_a_warning() {
    let node = Node::start(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]).unwrap();
    let before = state(&node);
    let findings = diagnosed(at(node.port())).await;
    assert_eq!(problems(&findings), ["eviction"]);
    let eviction = about(&findings, "eviction");
    assert!(eviction.what.contains("volatile-lru") && eviction.what.contains("100 MiB"), "{eviction}");
    assert!(eviction.advice.as_ref().unwrap().contains("noeviction"), "{eviction}");
    assert_eq!(eviction.node.as_deref(), Some(format!("127.0.0.1:{}", node.port()).as_str()));
    let persistence = about(&findings, "persistence");
    assert_eq!(persistence.severity, Warning, "{persistence}");
    assert!(persistence.what.contains("all locks") && persistence.advice.as_ref().unwrap().contains("wait_on_disk"));
    for (fine, severity) in [("version", Fine), ("rights", Fine), ("memory", Fine), ("replicas", Fine), ("clock", Fine)]
    {
        assert_eq!(about(&findings, fine).severity, severity);
    }
    // What a script is evaluated for, the server remembers; a look needs two.
    let mut after = state(&node);
    let scripts: Vec<u32> = [&before, &after].map(|state| state[3].parse().unwrap()).to_vec();
    assert!(scripts[1] - scripts[0] <= 2, "{scripts:?}");
    after[3].clone_from(&before[3]);
    assert_eq!(after, before, "it has changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_everything_has_no_warning() {
    let node = Node::start(&["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    let findings = diagnosed(at(node.port())).await;
    assert!(findings.iter().all(|finding| finding.severity <= Note), "{findings:?}");
    assert_eq!(about(&findings, "persistence").severity, Fine);
    // WAITAOF is of 7.2.
    let findings = diagnosed(at(node.port()).wait_on_disk(0, ms(1000))).await;
    assert_eq!(about(&findings, "persistence").severity, Fine);
    let old = node.info("redis_version").unwrap().starts_with("7.0");
    assert_eq!(problems(&findings), if old { &["version", "commands"][..] } else { &[] });
}

/// Waits until the primary has heard that its replica is in step, which it hears later than the replica knows.
async fn in_step(primary: &Node) {
    let online = || primary.info("slave0").unwrap().contains("state=online");
    eventually("the replica is in step", LONG, online).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_locks_wait_for_must_be_there() {
    let mut set = Replicated::start(1, &[]).unwrap();
    in_step(&set.primary).await;
    let ports = [set.primary.port(), set.replicas[0].port()];
    let findings = diagnosed(among(&ports)).await;
    assert_eq!(problems(&findings), [""; 0]);
    assert_eq!((about(&findings, "replicas").severity, about(&findings, "role").severity), (Note, Fine));
    assert_eq!(about(&findings, "min-replicas").severity, Note);
    assert_eq!(problems(&diagnosed(among(&ports).wait_replicas(1, ms(1000))).await), [""; 0]);

    let findings = diagnosed(at(ports[0]).wait_replicas(2, ms(1000))).await;
    assert_eq!(problems(&findings), ["replicas"]);
    let replicas = about(&findings, "replicas");
    assert!(replicas.what.contains("2 replicas, and 1 replica is connected"), "{replicas}");

    set.replicas[0].kill().unwrap();
    eventually("the primary notices", LONG, || set.primary.info("connected_slaves").unwrap() == "0").await;
    let findings = diagnosed(among(&ports).wait_replicas(1, ms(1000))).await;
    assert_eq!(problems(&findings), ["replicas"]);
    let answer = about(&findings, "answer");
    assert_eq!((answer.severity, answer.node.as_deref()), (Warning, Some(&*format!("127.0.0.1:{}", ports[1]))));
    let findings = diagnosed(among(&ports)).await;
    assert_eq!(about(&findings, "replicas").severity, Warning);
}

fn user(node: &Node, rules: &[&str]) -> RedisNode {
    let all = [&["ACL", "SETUSER", "job", "reset", "on", ">job-secret"], rules].concat();
    node.cli(&all).unwrap();
    at(node.port()).username("job").password("job-secret").key_format("app:{}").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named_exactly() {
    let node = Node::start(&[]).unwrap();
    let enough = ["~app:*", "&app:*", "+@all"];
    let with = |rules: &[&'static str]| user(&node, &[&enough[..], rules].concat());
    let rights = |findings: &[Finding]| {
        let found = findings.iter().find(|finding| finding.about == "rights" && finding.severity == Problem);
        found.map(|finding| (finding.what.clone(), finding.advice.clone().unwrap()))
    };
    assert_eq!(rights(&diagnosed(with(&[])).await), None);
    for (rules, lacks, advice) in [
        (&["-zadd", "-pubsub|numsub"][..], "run ZADD, PUBSUB NUMSUB", "+zadd +pubsub|numsub"),
        (&["-getset"], "run GETSET", "+getset"),
        (&["-evalsha"], "run EVALSHA", "+evalsha"),
        // Without scripts the server can't tell, so the commands are tried.
        (&["-eval", "-hset", "-time"], "run EVAL, TIME, HSET", "+eval +time +hset"),
        (&["-subscribe", "-publish"], "run SUBSCRIBE, PUBLISH", "+subscribe +publish"),
        (&["resetkeys", "~other:*"], "read and write keys that begin with 'app:'", "~app:*"),
        (&["resetchannels"], "use channels that begin with 'app:pilotman:'", "&app:pilotman:*"),
        (
            &["-get", "resetkeys", "resetchannels"],
            "run GET; nor read and write keys that begin with 'app:'; nor use channels that begin with 'app:pilotman:'",
            "+get ~app:* &app:pilotman:*",
        ),
    ] {
        let found = rights(&diagnosed(with(rules)).await);
        let expected = (format!("the user 'job' may not {lacks}"), format!("ACL SETUSER job {advice}"));
        assert_eq!(found, Some(expected), "{rules:?}");
    }
    let replicated = with(&["-wait"]).wait_replicas(1, ms(1000));
    let (what, _) = rights(&diagnosed(replicated).await).unwrap();
    assert!(what.ends_with("may not run WAIT"), "{what}");
    // What only some things need is no problem.
    let findings = diagnosed(with(&["-scan", "-client|setname", "-script|load"])).await;
    let note = about(&findings, "rights");
    assert_eq!(note.severity, Note);
    for name in ["SCAN", "CLIENT SETNAME", "SCRIPT LOAD"] {
        assert!(note.what.contains(name), "{note}");
    }
    assert_eq!(node.cli(&["DBSIZE"]).unwrap(), Reply::Integer(0), "trying has left something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_renamed_is_missed() {
    let node = Node::start(&["--rename-command", "ZREM", "", "--rename-command", "CONFIG", ""]).unwrap();
    let findings = diagnosed(at(node.port())).await;
    assert_eq!(problems(&findings), ["commands"]);
    assert!(about(&findings, "commands").what.contains("has no ZREM, or"), "{findings:?}");
    assert_eq!(about(&findings, "config").severity, Note);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_is_a_note() {
    let node = Node::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).unwrap();
    let enough = ["~app:*", "&app:*", "+@all"];
    let findings = diagnosed(user(&node, &[&enough[..], &["-config"]].concat())).await;
    assert_eq!(problems(&findings), ["eviction"], "INFO tells that, too");
    assert_eq!(about(&findings, "config").severity, Note);
    assert_eq!(about(&findings, "persistence").severity, Warning);
    let findings = diagnosed(user(&node, &[&enough[..], &["-config", "-info", "-acl"]].concat())).await;
    assert_eq!(problems(&findings), [""; 0]);
    let info = about(&findings, "info");
    assert!(info.severity == Note && info.what.contains("eviction"), "{info}");
    assert_eq!(about(&findings, "rights").severity, Fine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_and_users_is_looked_at_as_the_user_who_locks() {
    let tls = Tls::start(&[]).unwrap();
    let ca = std::fs::read(&tls.certificates.ca).unwrap();
    let locker = at(tls.node.port()).ca(ca).username(LOCKER).password(LOCKER_PASSWORD).key_format("lock:{}").unwrap();
    let findings = diagnosed(locker).await;
    assert_eq!(problems(&findings), [""; 0]);
    assert_eq!(about(&findings, "config").severity, Note);
    assert!(findings.iter().all(|finding| !["tls", "default-user"].contains(&finding.about)), "{findings:?}");
    let open = Node::start(&["--bind", "127.0.0.1", "--protected-mode", "no"]).unwrap();
    let findings = diagnosed(at(open.port())).await;
    assert!(findings.iter().all(|finding| finding.about != "default-user"), "nobody else gets there: {findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_must_have_a_quorum() {
    let mut set = Sentinels::start(&[]).unwrap();
    let named = |sentinels: &[Node]| {
        RedisNode::sentinel(sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port())), SERVICE).unwrap()
    };
    in_step(set.primary().unwrap()).await;
    let findings = diagnosed(named(&set.sentinels)).await;
    assert_eq!(problems(&findings), [""; 0]);
    let sentinels = about(&findings, "sentinels");
    assert!(sentinels.severity == Fine && sentinels.what.contains("3 Sentinels, of which 2"), "{sentinels}");
    assert_eq!(about(&findings, "replicas").severity, Note);
    let few = diagnosed(named(&set.sentinels[..1])).await;
    assert!(few.iter().any(|finding| finding.what.contains("1 of 3 Sentinels")), "{few:?}");

    for sentinel in &mut set.sentinels[1..] {
        sentinel.kill().unwrap();
    }
    let check = ["SENTINEL", "CKQUORUM", SERVICE];
    let lost = || set.sentinels[0].cli(&check).is_err();
    eventually("the quorum is lost", LONG, lost).await;
    let findings = diagnosed(named(&set.sentinels)).await;
    assert_eq!(problems(&findings), ["sentinel-quorum"]);
    let away = findings.iter().filter(|finding| (finding.about, finding.severity) == ("sentinel", Warning));
    assert_eq!(away.count(), 2, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_primary_of_a_cluster_is_looked_at() {
    let mut cluster = Cluster::start(&[]).unwrap();
    cluster.add_replica(0).unwrap();
    in_step(&cluster.nodes[0]).await;
    let named = |cluster: &Cluster| {
        RedisNode::cluster(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()))).unwrap()
    };
    let evicting = &cluster.nodes[1];
    for setting in [["maxmemory", "50mb"], ["maxmemory-policy", "allkeys-lru"]] {
        evicting.cli(&[&["CONFIG", "SET"], &setting[..]].concat()).unwrap();
    }
    let findings = diagnosed(named(&cluster)).await;
    let evicts: Vec<_> = findings.iter().filter(|finding| finding.severity == Problem).collect();
    assert_eq!((evicts.len(), evicts[0].about), (1, "eviction"), "{findings:?}");
    assert_eq!(evicts[0].node.as_deref(), Some(&*format!("127.0.0.1:{}", evicting.port())));
    assert_eq!(about(&findings, "cluster").severity, Fine);
    for about in ["rights", "version", "clock"] {
        let fine = findings.iter().filter(|finding| (finding.about, finding.severity) == (about, Fine));
        assert_eq!(fine.count(), 3, "{about}: {findings:?}");
    }
    let replicas = |severity| {
        findings.iter().filter(|finding| (finding.about, finding.severity) == ("replicas", severity)).count()
    };
    assert_eq!((replicas(Note), replicas(Warning)), (1, 2), "one has a replica, two have none");

    cluster.nodes[2].cli(&["CLUSTER", "DELSLOTS", "16383"]).unwrap();
    let seed = RedisNode::cluster([format!("127.0.0.1:{}", cluster.nodes[2].port())]).unwrap();
    let down = || cluster.nodes[2].cli(&["CLUSTER", "INFO"]).unwrap().to_string().contains("cluster_state:fail");
    eventually("the slot is missed", LONG, down).await;
    // Whichever primary is asked hears of it by and by.
    cluster.nodes[0].cli(&["CLUSTER", "DELSLOTS", "16383"]).unwrap();
    cluster.nodes[1].cli(&["CLUSTER", "DELSLOTS", "16383"]).unwrap();
    let findings = diagnosed(seed).await;
    assert!(problems(&findings).contains(&"cluster-slots"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_handed_in_are_looked_at() {
    let node = Node::start(&[]).unwrap();
    let client = redis_client(&node);
    let findings = diagnosed(RedisNode::client(client)).await;
    assert_eq!(problems(&findings), [""; 0]);
    assert_eq!(about(&findings, "rights").severity, Fine);
    let cluster = Cluster::start(&[]).unwrap();
    let urls = cluster.nodes.iter().map(Node::url);
    let client = pilotman_redis::redis::cluster::ClusterClient::new(urls.collect::<Vec<_>>()).unwrap();
    let findings = diagnosed(RedisNode::cluster_client(client)).await;
    assert_eq!(about(&findings, "cluster").severity, Fine);
    assert_eq!(problems(&findings), [""; 0]);
}

fn redis_client(node: &Node) -> pilotman_redis::redis::Client {
    pilotman_redis::redis::Client::open(node.url()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_looked_at_is_an_error() {
    let mut node = Node::start(&[]).unwrap();
    node.cli(&["ACL", "SETUSER", "job", "on", ">right-secret", "~*", "&*", "+@all"]).unwrap();
    let wrong = locks(at(node.port()).username("job").password("wrong-secret")).diagnose().await.unwrap_err();
    assert_says(&wrong, ErrorKind::Misconfigured, &["user name or password"]);
    node.freeze().unwrap();
    let hung = locks(at(node.port()).connect_timeout(ms(300))).diagnose().await.unwrap_err();
    assert_says(&hung, ErrorKind::Unavailable, &["within 300ms"]);
    node.thaw().unwrap();
    let closed = locks(at(node.port()));
    closed.close().await;
    assert_eq!(closed.diagnose().await.unwrap_err().kind(), ErrorKind::Closed);
    node.kill().unwrap();
    let gone = locks(at(node.port())).diagnose().await.unwrap_err();
    assert_says(&gone, ErrorKind::Unavailable, &[&node.port().to_string()]);
}
