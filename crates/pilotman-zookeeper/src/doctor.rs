//! Whether it is set up safely. Nothing is changed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::Result;
use pilotman_core::backend::Finding;
use pilotman_core::clock::Clock;
use zookeeper_client::{Acl, Client, Error as DriverError, Permission};

use crate::acl::AccessControl;
use crate::bounds::{self, Bounds};
use crate::failure;
use crate::host::Host;
use crate::link::Link;
use crate::options::ZooKeeper;
use crate::pulse::Pulse;
use crate::session::Session;
use crate::{path, words};

/// How long one member may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(crate) async fn diagnose(link: &Arc<Link>) -> Result<Vec<Finding>> {
    let session = link.session().await?;
    session.ask_leader().await.map_err(|error| failure::of_request(error, "/").no_effect(true))?;
    let zookeeper = &link.zookeeper;
    let mut findings = vec![Finding::fine("use", "it can be reached, and a leader with its quorum takes writes")];
    if zookeeper.tls.is_some() {
        findings.push(Finding::note("members", "how each member is can't be asked on its port for TLS"));
    } else {
        members(&zookeeper.hosts, session.clock(), &mut findings).await;
    }
    bounds(zookeeper, &session, &mut findings).await;
    rights(zookeeper, &session.client, &mut findings).await;
    findings.push(openness(zookeeper));
    if !zookeeper.auth.is_empty() && zookeeper.tls.is_none() {
        findings.push(
            Finding::warning("secrets", "what authenticates this client goes over the wire unencrypted")
                .advice("use TLS"),
        );
    } else if zookeeper.sasl.is_some() && zookeeper.tls.is_none() {
        findings.push(
            Finding::note("secrets", "who listens to DIGEST-MD5 can try to guess the password").advice("use TLS"),
        );
    }
    Ok(findings)
}

async fn members(hosts: &[Host], clock: &Arc<dyn Clock>, findings: &mut Vec<Finding>) {
    let answers = join_all(hosts.iter().map(|host| words::ask(clock, host, "srvr", PATIENCE))).await;
    let mut modes = Vec::new();
    for (host, answer) in hosts.iter().zip(&answers) {
        let mode = answer.as_deref().and_then(|answer| words::value(answer, "Mode"));
        let version = answer.as_deref().and_then(|answer| words::value(answer, "Zookeeper version"));
        findings.push(
            match mode {
                Some(mode) => {
                    modes.push(mode.to_owned());
                    let version = version.and_then(|version| version.split(['-', ',']).next()).unwrap_or("unknown");
                    Finding::fine("members", format!("it is {mode}, version {}", shown(version)))
                }
                None => Finding::warning("members", "it serves nobody, or does not tell how it is (srvr)")
                    .advice("see whether it runs, belongs to the ensemble, and allows the word srvr"),
            }
            .at(host.to_string()),
        );
    }
    if modes.iter().any(|mode| mode == "standalone") {
        findings.push(match modes.len() {
            1 => Finding::note("ensemble", "a single server: while it is away nobody gets or keeps a lock")
                .advice("run three or five where locks must outlive a server"),
            _ => Finding::problem(
                "ensemble",
                "servers that are alone are named as one ensemble: their locks exclude nobody",
            )
            .advice("name the members of one ensemble only"),
        });
    } else if hosts.len() > 1 && modes.iter().filter(|mode| *mode == "leader").count() > 1 {
        findings.push(
            Finding::problem("ensemble", "more than one leader was seen: these are several ensembles")
                .advice("name the members of one ensemble only"),
        );
    } else if hosts.len() == 1 {
        findings.push(
            Finding::note("ensemble", "only one member is named: when it is away, the others are not found")
                .advice("name all members"),
        );
    }
}

/// What the servers say about the time-outs of sessions.
async fn bounds(zookeeper: &ZooKeeper, session: &Session, findings: &mut Vec<Finding>) {
    let (asked, given) = (zookeeper.session_timeout, session.client.session_timeout());
    findings.push(match given > asked {
        true => Finding::warning(
            "session time-out",
            format!("the servers keep a session for {given:?} at least, not for {asked:?}: so long are a dead holder's locks taken"),
        )
        .advice("ask for a session time-out within the servers' bounds, or lower minSessionTimeout there"),
        false => Finding::fine("session time-out", format!("the servers agree to {asked:?}")),
    });
    let told = match zookeeper.tls {
        Some(_) => Vec::new(),
        None => bounds::ask(&zookeeper.hosts, session.clock()).await,
    };
    if told.iter().all(Option::is_none) {
        findings.push(Finding::note("bounds", "no server tells the bounds of sessions (conf is not among its words)"));
        return;
    }
    for (host, told) in zookeeper.hosts.iter().zip(told) {
        findings.extend(of_member(asked, told).into_iter().map(|finding| finding.at(host.to_string())));
    }
}

/// What one member says about the time-outs of sessions.
fn of_member(asked: Duration, told: Option<Bounds>) -> Vec<Finding> {
    let Some(Bounds { least, most, tick }) = told else {
        return vec![Finding::note("bounds", "it does not tell the bounds of sessions (conf)")];
    };
    let mut findings = vec![match most < asked {
        true => Finding::problem(
            "bounds",
            format!("it keeps a session for {most:?} at most, not for {asked:?}: one that moves there ends earlier"),
        )
        .advice("raise maxSessionTimeout there, or ask for a shorter session time-out"),
        false => Finding::fine("bounds", format!("sessions last from {least:?} to {most:?}")),
    }];
    if let Some(tick) = tick {
        let gap = Pulse::gap(asked);
        findings.push(match tick / 2 > gap {
            true => Finding::problem(
                "tick",
                format!("with a tick of {tick:?} the leader may not hear within {gap:?} that a session is alive"),
            )
            .advice("ask for a session time-out of two ticks at least"),
            false => Finding::fine("tick", format!("a tick is {tick:?}")),
        });
    }
    findings
}

/// What we may do with the directory, by its access control list.
async fn rights(zookeeper: &ZooKeeper, client: &Client, findings: &mut Vec<Finding>) {
    let mut at = zookeeper.directory.as_str();
    let (acl, is_there) = loop {
        match client.get_acl(at).await {
            Ok((acl, _)) => break (acl, at == zookeeper.directory),
            Err(DriverError::NoNode) => match path::parent(at) {
                Some(parent) => at = parent,
                None => break (Vec::new(), false),
            },
            Err(DriverError::NoAuth) => {
                findings.push(
                    Finding::problem("rights", format!("nothing may be read at {}", failure::shown(at)))
                        .advice("authenticate as somebody who may create, read and delete there"),
                );
                return;
            }
            Err(error) => {
                findings.push(Finding::note("rights", format!("they could not be read: {error}")));
                return;
            }
        }
    };
    let users = client.list_auth_users().await.ok();
    let may = |permission: Permission| {
        acl.iter().any(|entry| entry.permission().has(permission) && is_us(entry, users.as_deref()))
    };
    let needed = [("create", Permission::CREATE), ("delete", Permission::DELETE), ("read", Permission::READ)];
    let asked = if is_there { &needed[..] } else { &needed[..1] };
    let missing: Vec<&str> = asked.iter().filter(|(_, permission)| !may(*permission)).map(|(what, _)| *what).collect();
    let at = failure::shown(at);
    findings.push(match (missing.is_empty(), users.is_some()) {
        (true, _) => Finding::fine("rights", format!("what locks need is allowed at {at}")),
        (false, true) => Finding::problem("rights", format!("at {at} this client may not {}", missing.join(", ")))
            .advice("change the access control list of that node, or authenticate as somebody else"),
        (false, false) => Finding::note(
            "rights",
            format!("at {at} not everybody may {}, and the server doesn't tell who we are", missing.join(", ")),
        ),
    });
}

/// Whether an entry is about this client.
fn is_us(entry: &Acl, users: Option<&[zookeeper_client::AuthUser]>) -> bool {
    if entry.scheme() == "world" {
        return true;
    }
    let name = entry.id().split(':').next().unwrap_or_default();
    users.is_some_and(|users| users.iter().any(|user| user.scheme() == entry.scheme() && user.user() == name))
}

/// Who may meddle with our nodes.
fn openness(zookeeper: &ZooKeeper) -> Finding {
    match zookeeper.acl.contains(&AccessControl::everybody()) {
        true => Finding::note("access", "everybody who reaches the servers may remove the nodes of our locks")
            .advice("authenticate, and give locks an access control list (auth::cdrwa) that their users share"),
        false => Finding::fine("access", "the nodes of our locks have an access control list of their own"),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
