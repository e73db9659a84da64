//! Whether a cluster serves all of its slots, and goes on when one of its servers fails.

use std::collections::HashMap;
use std::sync::Arc;

use pilotman_core::backend::Finding;

use super::count;
use super::told::{answer, lines, text};
use crate::node::{Node, Primary};
use crate::slots::SLOTS;
use crate::waiting::asked;

/// Fewer can't outvote one that is lost.
const ENOUGH: usize = 3;

/// Looks at the cluster as a whole, where there is one.
pub(super) async fn look(node: &Arc<Node>, primaries: &[Primary]) -> Vec<Finding> {
    if !node.spec.is_clustered() {
        return Vec::new();
    }
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("INFO");
    for primary in primaries {
        let asking = async { answer(primary.line.ask(&cmd).await) };
        match asked(node, asking).await {
            Ok(Some(info)) => {
                return report(&text(&info).map(|text| lines(&text)).unwrap_or_default(), primaries.len());
            }
            Ok(None) => {
                let what = "CLUSTER INFO is not allowed, so the cluster's state could not be looked at";
                return vec![Finding::note("cluster", what).advice("allow this user +cluster|info")];
            }
            // The next one may answer.
            Err(error) => tracing::debug!(%error, server = primary.line.server, "no word of the cluster's state"),
        }
    }
    vec![
        Finding::problem("cluster", "no primary of the cluster could be asked for its state")
            .advice("look whether the cluster's servers run"),
    ]
}

fn report(info: &HashMap<String, String>, primaries: usize) -> Vec<Finding> {
    let number = |name: &str| info.get(name).and_then(|digits| digits.parse::<usize>().ok());
    let state = info.get("cluster_state").map_or("not told", String::as_str);
    let assigned = number("cluster_slots_assigned").unwrap_or(0);
    let failing = number("cluster_slots_pfail").unwrap_or(0) + number("cluster_slots_fail").unwrap_or(0);
    let mut findings = Vec::new();
    if assigned < SLOTS {
        let what = format!("{assigned} of {SLOTS} slots have a server: the names of the others can't be locked");
        findings.push(Finding::problem("cluster-slots", what).advice("give them to one: redis-cli --cluster fix"));
    }
    if failing > 0 {
        let what = format!("{failing} slots are on servers that don't answer the others");
        findings.push(Finding::problem("cluster-slots", what).advice("look at CLUSTER NODES"));
    }
    if state != "ok" {
        let what = format!("the cluster's state is {state}: locks are refused (CLUSTERDOWN)");
        findings.push(Finding::problem("cluster", what).advice("see CLUSTER INFO and CLUSTER NODES"));
    }
    if findings.is_empty() {
        let what = format!("the cluster serves all slots, on {}", count(primaries, "server"));
        findings.push(Finding::fine("cluster", what));
    }
    if primaries < ENOUGH {
        let what = "with fewer than three primaries there is no majority for a failover when one is lost";
        findings.push(Finding::warning("cluster", what).advice("run three primaries at least"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{self, Fine, Problem, Warning};

    use super::*;

    fn found(info: &str, primaries: usize) -> Vec<(&'static str, Severity)> {
        let info = lines(&info.replace(' ', "\n"));
        report(&info, primaries).iter().map(|found| (found.about, found.severity)).collect()
    }

    #[test]
    fn a_cluster_must_serve_all_slots() {
        let all = "cluster_state:ok cluster_slots_assigned:16384 cluster_slots_pfail:0 cluster_slots_fail:0";
        assert_eq!(found(all, 3), [("cluster", Fine)]);
        assert_eq!(found(all, 1), [("cluster", Fine), ("cluster", Warning)]);
        let missing = "cluster_state:fail cluster_slots_assigned:16000 cluster_slots_pfail:5 cluster_slots_fail:0";
        assert_eq!(found(missing, 3), [("cluster-slots", Problem), ("cluster-slots", Problem), ("cluster", Problem)]);
        assert_eq!(found("", 3), [("cluster-slots", Problem), ("cluster", Problem)]);
    }
}
