//! Looks whether a Redis is set up safely for locks, and changes nothing there.
//!
//! What a user may not ask, or a server doesn't tell, is a note: clouds forbid `CONFIG`, and some of them `INFO`.

use std::sync::Arc;

use futures_util::future::join_all;
use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::node::{Node, Primary};
use crate::options::{RedisNode, Topology};
use crate::waiting::asked;

mod access;
mod across;
mod clock;
mod cluster;
mod memory;
mod persistence;
mod replication;
mod rights;
mod sentinels;
mod told;
mod version;

use across::{Facts, Server, across};

/// What the locks of a node depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// On this node alone.
    Alone,
    /// It has one vote among several, and its votes are set aside after it restarted.
    OfQuorum,
}

/// What was found at one node.
struct Examination {
    findings: Vec<Finding>,
    /// What is to be compared with other nodes.
    facts: Facts,
}

/// What all parts of a look go by.
#[derive(Clone, Copy)]
struct Look<'a> {
    spec: &'a RedisNode,
    part: Part,
}

impl Look<'_> {
    /// Whether another server takes over when the primary fails.
    fn fails_over(&self) -> bool {
        match &self.spec.topology {
            Topology::Endpoints(endpoints) => endpoints.len() > 1,
            Topology::Client(_) => false,
            Topology::Sentinel { .. } | Topology::Cluster(_) | Topology::ClusterClient(_) => true,
        }
    }

    fn on_disk(&self) -> bool {
        self.spec.confirm.is_some_and(|confirm| confirm.on_disk)
    }

    /// How many replicas must acknowledge.
    fn replicas(&self) -> u32 {
        self.spec.confirm.map_or(0, |confirm| confirm.replicas)
    }
}

/// Looks at a node that stands alone.
pub(crate) async fn diagnose(node: &Arc<Node>) -> Result<Vec<Finding>> {
    Ok(examine(node, Part::Alone).await?.findings)
}

/// Looks at the nodes of a quorum, each with the name that people know it by, and at all of them together. An error:
/// none can be looked at.
pub(crate) async fn diagnose_quorum(nodes: &[(String, Arc<Node>)]) -> Result<Vec<Finding>> {
    let examined = join_all(nodes.iter().map(|(_, node)| examine(node, Part::OfQuorum))).await;
    if let Some(Err(error)) = examined.first()
        && examined.iter().all(|examined| examined.is_err())
    {
        return Err(error.clone());
    }
    let reached = examined.iter().filter(|examined| examined.is_ok()).count();
    let (mut findings, mut facts) = (Vec::new(), Vec::new());
    for ((name, _), examined) in nodes.iter().zip(examined) {
        match examined {
            Ok(examined) => {
                let named = |finding: Finding| if finding.node.is_some() { finding } else { finding.at(name) };
                findings.extend(examined.findings.into_iter().map(named));
                facts.push((name.clone(), examined.facts));
            }
            Err(error) => {
                let what = format!("this node could not be asked: {error}");
                findings.push(Finding::problem("answer", what).advice("it has no vote until it is back").at(name));
            }
        }
    }
    findings.extend(across(&facts));
    findings.push(majority(nodes.len(), reached));
    Ok(findings)
}

/// Whether enough nodes answer, and how many more may be lost.
fn majority(nodes: usize, reached: usize) -> Finding {
    let needed = nodes / 2 + 1;
    let what = format!("{reached} of {} answer, and {needed} are needed", count(nodes, "node"));
    match nodes {
        _ if reached < needed => Finding::problem("quorum", format!("{what}: no lock is to be had"))
            .advice("start the nodes that are missing"),
        1 => Finding::warning("quorum", "one node is no quorum: when it is away, so are the locks")
            .advice("use three or five independent nodes"),
        _ if reached == needed => Finding::warning("quorum", format!("{what}: one more that is lost is one too many"))
            .advice(if reached < nodes { "start the nodes that are missing" } else { "use three or five nodes" }),
        _ if nodes.is_multiple_of(2) => {
            Finding::note("quorum", format!("{what}: as many may be lost as with {} nodes", nodes - 1))
                .advice("an odd number of nodes")
        }
        _ => Finding::fine("quorum", what),
    }
}

/// Looks at a node. An error: it can't be looked at, at all.
async fn examine(node: &Arc<Node>, part: Part) -> Result<Examination> {
    let look = Look { spec: &node.spec, part };
    let primaries = node.primaries().await?;
    let of_set = async {
        let mut findings = listed(node).await;
        findings.extend(sentinels::look(node).await);
        findings.extend(cluster::look(node, &primaries).await);
        findings
    };
    let each = join_all(primaries.iter().map(|primary| async move {
        let looked = asked(node, look_at(look, primary)).await;
        (primary.line.server.as_str(), looked)
    }));
    let (mut findings, each) = tokio::join!(of_set, each);
    let mut facts = Facts::default();
    for (server, looked) in each {
        match looked {
            Ok((found, seen)) => {
                findings.extend(found.into_iter().map(|finding| finding.at(server)));
                facts.servers.push(seen);
            }
            // The others of a cluster have been looked at.
            Err(error) if node.spec.is_clustered() => {
                let found = Finding::problem("answer", format!("this primary could not be asked: {error}"));
                findings.push(found.at(server).advice("look whether it runs; its slots can't be locked in"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Examination { findings, facts })
}

async fn look_at(look: Look<'_>, primary: &Primary) -> Result<(Vec<Finding>, Server)> {
    let line = &primary.line;
    let (told, clock, rights, default_user, ips) = tokio::join!(
        told::ask(line),
        clock::measure(line),
        rights::look(look.spec, primary),
        access::default_user(line),
        across::addresses(&line.server),
    );
    let (told, clock, default_user) = (told?, clock?, default_user?);
    let mut findings = told.untold();
    findings.extend(version::look(look, &told));
    findings.extend(rights?);
    findings.extend(memory::look(&told));
    findings.extend(persistence::look(look, &told));
    findings.extend(replication::look(look, &told));
    findings.extend(clock.map(clock::against_ours));
    findings.extend(access::look(primary.tls, primary.login.as_ref(), &told, default_user, &ips));
    let seen = Server { ips, run_id: told.info("run_id").map(str::to_owned), version: version::shown(&told), clock };
    Ok((findings, seen))
}

/// The servers of a list, of which one is the primary.
async fn listed(node: &Arc<Node>) -> Vec<Finding> {
    let told = node.listed().await;
    told.into_iter()
        .filter_map(|(server, told)| match told {
            // It is looked at more closely.
            Ok(true) => None,
            Ok(false) => Some(Finding::fine("role", "a replica, which is used when it was promoted").at(server)),
            Err(error) => Some(
                Finding::warning("answer", format!("this server of the list could not be asked: {error}"))
                    .advice("start it, or take it off the list if it is gone for good")
                    .at(server),
            ),
        })
        .collect()
}

/// `1 replica`, `2 replicas`.
fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{Fine, Note, Problem, Warning};

    use super::*;

    #[test]
    fn a_quorum_should_bear_the_loss_of_a_node() {
        for (nodes, reached, severity) in [
            (1, 1, Warning),
            (2, 2, Warning),
            (3, 3, Fine),
            (3, 2, Warning),
            (3, 1, Problem),
            (4, 4, Note),
            (4, 3, Warning),
            (5, 4, Fine),
            (5, 3, Warning),
            (5, 2, Problem),
        ] {
            assert_eq!(majority(nodes, reached).severity, severity, "{reached} of {nodes}");
        }
        assert!(majority(4, 4).what.contains("as with 3 nodes"));
    }
}
