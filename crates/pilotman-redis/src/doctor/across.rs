//! What concerns several nodes of a quorum together: they fail together when they are one machine, or one server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use pilotman_core::backend::Finding;

use super::clock::{self, DIFFERENT, FAR_APART, Offset};

/// Finding the address of a host may take this long.
const LOOKUP: Duration = Duration::from_secs(2);

/// What is to be compared of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Its primary; the primaries of a cluster.
    pub(super) servers: Vec<Server>,
}

/// What is to be compared of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// The machine. Empty if that is not known.
    pub(super) ips: Vec<IpAddr>,
    pub(super) run_id: Option<String>,
    pub(super) version: Option<String>,
    pub(super) clock: Option<Offset>,
}

/// The host of `host:port`; `None` for the path of a socket, which is on this machine.
pub(super) fn host(server: &str) -> Option<&str> {
    if server.starts_with('/') { None } else { server.rsplit_once(':').map(|(host, _)| host) }
}

/// Where a server is.
pub(super) async fn addresses(server: &str) -> Vec<IpAddr> {
    let Some(host) = host(server) else { return vec![IpAddr::from([127, 0, 0, 1])] };
    if let Ok(ip) = host.parse() {
        return vec![ip];
    }
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        // Then it is not known to be the machine of another.
        _ => Vec::new(),
    }
}

/// Compares the nodes of a quorum, each with the name that people know it by.
pub(super) fn across(nodes: &[(String, Facts)]) -> Vec<Finding> {
    let mut findings = same_servers(nodes);
    findings.extend(same_machines(nodes));
    findings.extend(clocks(nodes));
    findings.extend(versions(nodes));
    findings
}

/// The nodes by something that their servers have. Only what several nodes have is told.
fn shared<K: Ord>(nodes: &[(String, Facts)], of: impl Fn(&Server) -> Vec<K>) -> Vec<(K, Vec<&str>)> {
    let mut by: BTreeMap<K, BTreeSet<usize>> = BTreeMap::new();
    for (nth, (_, facts)) in nodes.iter().enumerate() {
        for key in facts.servers.iter().flat_map(&of) {
            by.entry(key).or_default().insert(nth);
        }
    }
    let several = by.into_iter().filter(|(_, which)| which.len() > 1);
    several.map(|(key, which)| (key, which.into_iter().map(|nth| nodes[nth].0.as_str()).collect())).collect()
}

fn same_servers(nodes: &[(String, Facts)]) -> Vec<Finding> {
    let several = shared(nodes, |server| server.run_id.iter().filter(|id| !id.is_empty()).cloned().collect());
    let found = several.into_iter().map(|(_, which)| {
        Finding::problem(
            "same-server",
            format!("{} are one and the same server, which votes twice", which.join(" and ")),
        )
        .advice("name each server once")
    });
    found.collect()
}

fn same_machines(nodes: &[(String, Facts)]) -> Vec<Finding> {
    let machine = |ip: &IpAddr| match ip.to_canonical() {
        ip if ip.is_loopback() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    let several = shared(nodes, |server| server.ips.iter().map(machine).collect());
    // A machine with two addresses is told once.
    let mut told = BTreeSet::new();
    let found = several.into_iter().filter(|(_, which)| told.insert(which.clone())).map(|(ip, which)| {
        let machine = if ip.is_loopback() { "this machine".to_owned() } else { format!("one machine ({ip})") };
        Finding::warning("same-machine", format!("{} are on {machine}, and fail with it together", which.join(", ")))
            .advice("run each node on a machine of its own")
    });
    found.collect()
}

fn clocks(nodes: &[(String, Facts)]) -> Option<Finding> {
    let read: Vec<(&str, Offset)> = nodes
        .iter()
        .flat_map(|(name, facts)| facts.servers.iter().filter_map(|server| Some((name.as_str(), server.clock?))))
        .collect();
    let mut most: Option<(i64, &str, &str)> = None;
    for (at, (name, one)) in read.iter().enumerate() {
        for (other_name, other) in read[at + 1..].iter().filter(|(other_name, _)| other_name != name) {
            let apart = one.ahead.saturating_sub(other.ahead).saturating_abs();
            let sure = apart.saturating_sub(one.margin.saturating_add(other.margin)).max(0);
            let (ahead, behind) = if one.ahead >= other.ahead { (*name, *other_name) } else { (*other_name, *name) };
            if most.is_none_or(|(most, ..)| sure > most) {
                most = Some((sure, ahead, behind));
            }
        }
    }
    let (apart, ahead, behind) = most?;
    let what = format!("the clock of {ahead} is {} or more ahead of that of {behind}", clock::shown(apart));
    let advice = "have all clocks kept in step (NTP), by slewing: a step forward ends leases early, and tokens are \
                  made of the time";
    Some(match apart {
        apart if apart > FAR_APART => Finding::problem("clock-difference", what).advice(advice),
        apart if apart > DIFFERENT => Finding::warning("clock-difference", what).advice(advice),
        _ => Finding::fine("clock-difference", "the nodes' clocks agree to within a tenth of a second"),
    })
}

fn versions(nodes: &[(String, Facts)]) -> Option<Finding> {
    let mut by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, facts) in nodes {
        for version in facts.servers.iter().filter_map(|server| server.version.as_deref()) {
            by.entry(version).or_default().insert(name);
        }
    }
    if by.len() < 2 {
        return None;
    }
    let each: Vec<String> = by
        .iter()
        .map(|(version, names)| format!("{version} at {}", names.iter().copied().collect::<Vec<_>>().join(", ")))
        .collect();
    Some(Finding::note("versions", format!("the nodes differ in version: {}", each.join("; "))))
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{self, Fine, Note, Problem, Warning};

    use super::*;

    fn node(name: &str, ip: &str, run_id: &str, version: &str, ahead: i64) -> (String, Facts) {
        let server = Server {
            ips: vec![ip.parse().unwrap()],
            run_id: Some(run_id.to_owned()),
            version: Some(version.to_owned()),
            clock: Some(Offset { ahead, margin: 1_000 }),
        };
        (name.to_owned(), Facts { servers: vec![server] })
    }

    fn found(nodes: &[(String, Facts)]) -> Vec<(&'static str, Severity)> {
        across(nodes).iter().map(|found| (found.about, found.severity)).collect()
    }

    #[test]
    fn nodes_that_differ_in_everything_but_the_time_are_fine() {
        let nodes = [node("a", "10.0.0.1", "1", "7", 0), node("b", "10.0.0.2", "2", "7", 50_000)];
        assert_eq!(found(&nodes), [("clock-difference", Fine)]);
        assert_eq!(found(&nodes[..1]), []);
        assert_eq!(found(&[]), []);
        // Nothing is known of this one.
        let unknown = [nodes[0].clone(), ("b".to_owned(), Facts::default())];
        assert_eq!(found(&unknown), []);
    }

    #[test]
    fn one_server_or_machine_under_two_names_is_told() {
        let twice = [node("a", "10.0.0.1", "1", "7", 0), node("b", "10.0.0.2", "1", "7", 0)];
        assert_eq!(found(&twice), [("same-server", Problem), ("clock-difference", Fine)]);
        let here = [
            node("a", "127.0.0.1", "1", "7", 0),
            node("b", "::1", "2", "7", 0),
            node("c", "::ffff:127.0.0.2", "3", "7", 0),
        ];
        assert_eq!(found(&here), [("same-machine", Warning), ("clock-difference", Fine)]);
        assert!(across(&here)[0].what.contains("a, b, c are on this machine"), "{:?}", across(&here));
        let mut both = [node("a", "10.0.0.1", "1", "7", 0), node("b", "10.0.0.1", "2", "7", 0)];
        for (_, facts) in &mut both {
            facts.servers[0].ips.push("fd00::1".parse().unwrap());
        }
        assert_eq!(found(&both), [("same-machine", Warning), ("clock-difference", Fine)]);
        // The primaries of one cluster may share a machine; that is no matter of the quorum.
        let mut cluster = node("a", "10.0.0.1", "1", "7", 0);
        cluster.1.servers.extend(node("", "10.0.0.1", "2", "7", 0).1.servers);
        assert_eq!(found(&[cluster]), []);
    }

    #[test]
    fn clocks_and_versions_are_compared() {
        for (ahead, severity) in
            [(102_000, Fine), (103_000, Warning), (-103_000, Warning), (1_003_000, Problem), (i64::MIN, Problem)]
        {
            let nodes = [node("a", "10.0.0.1", "1", "7", 0), node("b", "10.0.0.2", "2", "7", ahead)];
            assert_eq!(found(&nodes), [("clock-difference", severity)], "{ahead}");
        }
        let nodes = [
            node("a", "10.0.0.1", "1", "Redis 7.0.15", 0),
            node("b", "10.0.0.2", "2", "Redis 7.0.15", -5_000_000),
            node("c", "10.0.0.3", "3", "Valkey 8.1.1", 0),
        ];
        assert_eq!(found(&nodes), [("clock-difference", Problem), ("versions", Note)]);
        let told = across(&nodes);
        assert!(told[0].what.contains("a is 4 s or more ahead of that of b"), "{told:?}");
        assert!(told[1].what.ends_with("Redis 7.0.15 at a, b; Valkey 8.1.1 at c"), "{told:?}");
    }

    #[tokio::test]
    async fn the_machine_of_a_server_is_found() {
        assert_eq!(addresses("10.0.0.1:6379").await, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("::1:6379").await, ["::1".parse::<IpAddr>().unwrap()]);
        assert!(addresses("/run/redis.sock").await[0].is_loopback());
        assert!(addresses("no-such-host.invalid:1").await.is_empty());
    }
}
