//! Whether the Sentinels can bring about a failover.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use pilotman_core::backend::Finding;
use pilotman_core::{Error, Result};
use redis::RedisError;

use super::count;
use super::told::{answer, pairs};
use crate::failure::{code, failed};
use crate::node::{Line, Node};
use crate::options::Topology;
use crate::waiting::asked;

/// Fewer can't outvote one that is lost.
const ENOUGH: usize = 3;

/// What one Sentinel says.
#[derive(Debug, Default)]
struct Said {
    /// Why there is no quorum, if there is none; outer `None`: it may not be asked.
    quorum: Option<Result<(), String>>,
    primary: Option<String>,
    /// Sentinels in all, itself included.
    known: Option<usize>,
    /// So many must find that the primary is down.
    agree: Option<usize>,
    /// It takes the primary for down.
    down: bool,
}

/// Looks at the Sentinels, where there are any.
pub(super) async fn look(node: &Arc<Node>) -> Vec<Finding> {
    let Topology::Sentinel { service, .. } = &node.spec.topology else { return Vec::new() };
    let asking = node.sentinels().await.into_iter().map(|(server, line)| async move {
        let said = match line {
            Ok(line) => asked(node, ask(&line, service)).await,
            Err(error) => Err(error),
        };
        (server, said)
    });
    report(&join_all(asking).await)
}

async fn ask(line: &Line, service: &str) -> Result<Said> {
    let question = |what: &str| {
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg(what).arg(service);
        cmd
    };
    let (check, primary) = (question("CKQUORUM"), question("MASTER"));
    let (check, primary) = tokio::join!(line.ask(&check), line.ask(&primary));
    let mut said = Said { quorum: quorum(check.map(drop))?, ..Said::default() };
    let fields = answer(primary)?.as_ref().map(pairs).unwrap_or_default();
    let number = |name: &str| fields.get(name).and_then(|digits| digits.parse::<usize>().ok());
    said.known = number("num-other-sentinels").map(|others| others + 1);
    said.agree = number("quorum");
    said.primary = fields.get("ip").zip(fields.get("port")).map(|(ip, port)| format!("{ip}:{port}"));
    said.down = fields.get("flags").is_some_and(|flags| flags.contains("down"));
    Ok(said)
}

fn quorum(checked: Result<(), RedisError>) -> Result<Option<Result<(), String>>> {
    match checked {
        Ok(()) => Ok(Some(Ok(()))),
        Err(error) => match code(&error) {
            Some("NOQUORUM" | "NOGOODSLAVE") => Ok(Some(Err(error.detail().unwrap_or("no quorum").to_owned()))),
            Some(_) => Ok(None),
            None => Err(failed(error)),
        },
    }
}

fn report(all: &[(String, Result<Said, Error>)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut primaries = BTreeSet::new();
    let (mut known, mut agree, mut reached) = (0, None, 0);
    for (server, said) in all {
        let said = match said {
            Ok(said) => said,
            Err(error) => {
                let what = format!("this Sentinel could not be asked: {error}");
                findings.push(Finding::warning("sentinel", what).advice("start it, or correct its address").at(server));
                continue;
            }
        };
        reached += 1;
        match &said.quorum {
            Some(Ok(())) => {}
            Some(Err(why)) => findings.push(
                Finding::problem("sentinel-quorum", format!("there would be no failover: {}", why.trim()))
                    .advice("start those that are missing, or take off those that are gone for good (SENTINEL RESET)")
                    .at(server),
            ),
            None => findings.push(
                Finding::note("sentinel-quorum", "this Sentinel may not be asked whether there is a quorum").at(server),
            ),
        }
        if said.down {
            let what = "this Sentinel takes the primary for down, which answers us";
            findings.push(Finding::warning("sentinel", what).advice("look at the network between them").at(server));
        }
        primaries.extend(said.primary.clone());
        known = known.max(said.known.unwrap_or(0));
        agree = agree.or(said.agree);
    }
    if primaries.len() > 1 {
        let names: Vec<_> = primaries.into_iter().collect();
        findings.push(
            Finding::warning("sentinel", format!("the Sentinels name different primaries: {}", names.join(", ")))
                .advice("look again in half a minute; if it stays so, look at the Sentinels' logs"),
        );
    }
    if known > 0 {
        let agreeing = agree.map_or_else(String::new, |agree| format!(", of which {agree} must find the primary down"));
        let what = format!("{}{agreeing}", count(known, "Sentinel"));
        findings.push(match known < ENOUGH {
            true => Finding::warning("sentinels", format!("{what}: when one is lost, there is no failover any more"))
                .advice("run three, on different machines"),
            false => Finding::fine("sentinels", what),
        });
        if all.len() < known {
            let what =
                format!("{} of {known} Sentinels are named: when they are away, the primary is not found", all.len());
            findings.push(Finding::note("sentinels", what).advice("name all of them"));
        }
    }
    if reached == 0 {
        findings.push(Finding::problem("sentinel", "no Sentinel could be asked").advice("look whether they run"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{self, Fine, Note, Problem, Warning};

    use super::*;

    fn said(known: usize) -> Said {
        Said {
            quorum: Some(Ok(())),
            primary: Some("10.0.0.1:6379".into()),
            known: Some(known),
            agree: Some(2),
            down: false,
        }
    }

    fn found(all: Vec<Result<Said>>) -> Vec<(&'static str, Severity)> {
        let all: Vec<_> = all.into_iter().enumerate().map(|(nth, said)| (format!("s{nth}"), said)).collect();
        report(&all).iter().map(|found| (found.about, found.severity)).collect()
    }

    #[test]
    fn three_that_agree_are_fine() {
        assert_eq!(found(vec![Ok(said(3)), Ok(said(3)), Ok(said(3))]), [("sentinels", Fine)]);
        assert_eq!(found(vec![Ok(said(3))]), [("sentinels", Fine), ("sentinels", Note)]);
        assert_eq!(found(vec![Ok(said(1))]), [("sentinels", Warning)]);
    }

    #[test]
    fn what_keeps_a_failover_from_happening_is_told() {
        let away = || Err(Error::unavailable("away"));
        assert_eq!(found(vec![Ok(said(3)), away(), Ok(said(3))]), [("sentinel", Warning), ("sentinels", Fine)]);
        assert_eq!(found(vec![away()]), [("sentinel", Warning), ("sentinel", Problem)]);
        let no_quorum = Said { quorum: Some(Err("1 usable Sentinels".into())), ..said(3) };
        let unasked = Said { quorum: None, ..said(3) };
        let other = Said { primary: Some("10.0.0.2:6379".into()), down: true, ..said(3) };
        assert_eq!(
            found(vec![Ok(no_quorum), Ok(unasked), Ok(other)]),
            [
                ("sentinel-quorum", Problem),
                ("sentinel-quorum", Note),
                ("sentinel", Warning),
                ("sentinel", Warning),
                ("sentinels", Fine)
            ]
        );
    }
}
