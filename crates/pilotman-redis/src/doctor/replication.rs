//! Replicas: how many there are, how far behind, and what a failover to them loses.

use pilotman_core::backend::Finding;

use super::told::Told;
use super::{Look, Part, count, memory};

/// A replica says where it is every second.
const SILENT_SECONDS: u64 = 5;
const FAR_BEHIND: u64 = 1024 * 1024;

/// One replica, as its primary sees it.
#[derive(Debug, PartialEq, Eq)]
struct Replica {
    server: String,
    online: bool,
    /// Seconds since it was last heard.
    silent: u64,
    /// Bytes that it does not have yet, as far as is known.
    behind: u64,
}

pub(super) fn look(look: Look<'_>, told: &Told) -> Vec<Finding> {
    if told.info("role").is_none() {
        return Vec::new();
    }
    let replicas = replicas(told);
    let online = replicas.iter().filter(|replica| replica.online).count();
    let mut findings = vec![enough(look, online)];
    findings.extend(replicas.iter().filter_map(lagging));
    findings.extend(demanded(look, told, online));
    findings
}

fn replicas(told: &Told) -> Vec<Replica> {
    let written = told.number("master_repl_offset").unwrap_or(0);
    let parse = |text: &str| {
        let field = |name: &str| text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| field(name).and_then(|digits| digits.parse::<u64>().ok());
        Some(Replica {
            server: format!("{}:{}", field("ip")?, field("port")?),
            online: field("state") == Some("online"),
            silent: number("lag").unwrap_or(0),
            behind: number("offset").map_or(0, |offset| written.saturating_sub(offset)),
        })
    };
    (0..).map_while(|nth| told.info(&format!("slave{nth}"))).filter_map(parse).collect()
}

/// Whether there are as many as are waited for, and what a failover loses.
fn enough(look: Look<'_>, online: usize) -> Finding {
    let wanted = usize::try_from(look.replicas()).unwrap_or(usize::MAX);
    let there = count(online, "replica");
    if online < wanted {
        return Finding::problem(
            "replicas",
            format!(
                "each lock waits for {}, and {} connected: no lock is to be had",
                count(wanted, "replica"),
                are(online)
            ),
        )
        .advice("start the missing replicas, or ask for fewer with wait_replicas");
    }
    if wanted > 0 {
        return match online - wanted {
            0 => Finding::note(
                "replicas",
                format!("each lock waits for all {there}: when one of them is away, no lock is to be had"),
            )
            .advice("one more replica than wait_replicas asks for lets one be away"),
            others => Finding::note(
                "replicas",
                format!(
                    "{there} are connected and each lock waits for {wanted}: a failover to {} can lose the last locks",
                    if others == 1 { "the other one".to_owned() } else { format!("one of the {others} others") }
                ),
            )
            .advice("where a lock must not be given twice on any account, compare fencing tokens"),
        };
    }
    if online > 0 {
        let advice = match look.spec.is_clustered() {
            true => "a cluster can't wait for replicas: compare fencing tokens, or use a quorum of independent servers",
            false => "use wait_replicas, or a quorum of independent servers (redlock://)",
        };
        let what = format!("{} connected, and no lock waits for them: a failover can lose the last locks", are(online));
        return match look.part {
            Part::Alone => Finding::note("replicas", what).advice(advice),
            Part::OfQuorum => Finding::note("replicas", format!("{what} of this node's vote")),
        };
    }
    match look.fails_over() {
        true => Finding::warning(
            "replicas",
            "no replica is connected and in step: when this server fails, nothing takes over",
        )
        .advice("start a replica"),
        false => Finding::fine("replicas", "there are no replicas, and no failover that could lose locks"),
    }
}

fn are(number: usize) -> String {
    match number {
        0 => "none is".to_owned(),
        1 => "1 replica is".to_owned(),
        _ => format!("{number} replicas are"),
    }
}

fn lagging(replica: &Replica) -> Option<Finding> {
    let Replica { server, online, silent, behind } = replica;
    let what = match () {
        () if !online => format!("the replica {server} is connected, but not in step yet"),
        () if *silent >= SILENT_SECONDS => format!("the replica {server} was not heard for {silent} s"),
        () if *behind >= FAR_BEHIND => format!("the replica {server} is {} behind", memory::size(*behind)),
        () => return None,
    };
    Some(Finding::warning("replica-lag", what).advice("a failover to it loses locks; look at its log and the network"))
}

/// `min-replicas-to-write`: a primary that is cut off from its replicas stops giving locks.
fn demanded(look: Look<'_>, told: &Told, online: usize) -> Option<Finding> {
    // The count of those that are in step is told only where some are demanded.
    let good = told.number("min_slaves_good_slaves");
    let set = told.setting("min-replicas-to-write").and_then(|number| number.parse::<u64>().ok());
    let max_lag = told.setting("min-replicas-max-lag").unwrap_or("10");
    match (set, good) {
        (Some(set @ 1..), Some(good)) if good < set => Some(
            Finding::problem(
                "min-replicas",
                format!("min-replicas-to-write is {set} and {good} in step, so locks are refused (NOREPLICAS)"),
            )
            .advice("start the missing replicas"),
        ),
        (Some(set @ 1..), _) => Some(Finding::fine(
            "min-replicas",
            format!(
                "once cut off from its replicas, it gives no locks after {max_lag} s (min-replicas-to-write {set})"
            ),
        )),
        (None, Some(_)) => Some(Finding::fine("min-replicas", "once cut off from its replicas, it gives no locks")),
        (Some(0), _) if look.fails_over() && online > 0 => Some(
            Finding::note(
                "min-replicas",
                "min-replicas-to-write is 0: while another server takes over, this one, if cut off from it, goes on to \
                 give the same locks to those on its side",
            )
            .advice("set min-replicas-to-write 1 and a short min-replicas-max-lag"),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotman_core::backend::Severity::{self, Fine, Note, Problem, Warning};

    use super::*;
    use crate::options::RedisNode;

    const ONE: &str = "role:master master_repl_offset:1000 slave0:ip=10.0.0.2,port=6379,state=online,offset=990,lag=1";

    fn found(spec: &RedisNode, info: &str, settings: &[(&str, &str)]) -> Vec<(&'static str, Severity)> {
        let told = Told::of(info, settings);
        look(Look { spec, part: Part::Alone }, &told).iter().map(|found| (found.about, found.severity)).collect()
    }

    #[test]
    fn replicas_must_be_as_many_as_are_waited_for() {
        let alone = RedisNode::endpoint("h").unwrap();
        let list = RedisNode::endpoints(["h", "i"]).unwrap();
        let waits = |replicas| alone.clone().wait_replicas(replicas, Duration::from_secs(1));
        let two = format!("{ONE} slave1:ip=10.0.0.3,port=6379,state=online,offset=1000,lag=0");
        assert_eq!(found(&alone, "role:master", &[]), [("replicas", Fine)]);
        assert_eq!(found(&list, "role:master", &[]), [("replicas", Warning)]);
        assert_eq!(found(&alone, ONE, &[]), [("replicas", Note)]);
        assert_eq!(found(&waits(1), "role:master", &[]), [("replicas", Problem)]);
        assert_eq!(found(&waits(2), ONE, &[]), [("replicas", Problem)]);
        assert_eq!(found(&waits(1), ONE, &[]), [("replicas", Note)]);
        assert_eq!(found(&waits(1), &two, &[]), [("replicas", Note)]);
        assert_eq!(found(&waits(2), &two, &[]), [("replicas", Note)]);
        assert_eq!(found(&alone, "redis_version:7.0.0", &[]), []);
    }

    #[test]
    fn a_replica_that_lags_is_named() {
        let alone = RedisNode::endpoint("h").unwrap();
        for (slave, lags) in [
            ("state=online,offset=1,lag=1", false),
            ("state=online,offset=1,lag=5", true),
            ("state=wait_bgsave,offset=0,lag=0", true),
        ] {
            let info = format!("role:master master_repl_offset:9 slave0:ip=10.0.0.2,port=1,{slave}");
            assert_eq!(found(&alone, &info, &[]).contains(&("replica-lag", Warning)), lags, "{slave}");
        }
        let far = "role:master master_repl_offset:9000000 slave0:ip=::1,port=1,state=online,offset=1,lag=0";
        assert!(found(&alone, far, &[]).contains(&("replica-lag", Warning)));
        assert_eq!(replicas(&Told::of(far, &[]))[0].server, "::1:1");
        assert_eq!(replicas(&Told::of("slave0:nonsense", &[])), []);
    }

    #[test]
    fn a_primary_that_is_cut_off_should_stop() {
        let list = RedisNode::endpoints(["h", "i"]).unwrap();
        let setting = |number| [("min-replicas-to-write", number)];
        assert!(found(&list, ONE, &setting("0")).contains(&("min-replicas", Note)));
        assert!(found(&list, ONE, &setting("1")).contains(&("min-replicas", Fine)));
        let none = "role:master min_slaves_good_slaves:0";
        assert!(found(&list, none, &setting("1")).contains(&("min-replicas", Problem)));
        assert!(found(&list, &format!("{ONE} min_slaves_good_slaves:1"), &[]).contains(&("min-replicas", Fine)));
        assert_eq!(found(&RedisNode::endpoint("h").unwrap(), "role:master", &setting("0")), [("replicas", Fine)]);
    }
}
