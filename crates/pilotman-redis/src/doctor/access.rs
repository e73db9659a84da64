//! Who else can get at the locks: over the network, and as the default user.

use std::net::IpAddr;

use pilotman_core::Result;
use pilotman_core::backend::Finding;
use redis::Value;

use super::told::{Told, answer, text};
use crate::node::{Line, Login};

/// Whether whoever connects may do something at once; `None`: that is not told.
pub(super) async fn default_user(line: &Line) -> Result<Option<bool>> {
    let mut cmd = redis::cmd("ACL");
    cmd.arg("GETUSER").arg("default");
    Ok(answer(line.ask(&cmd).await)?.and_then(|user| is_open(&user)))
}

/// Reads the answer of `ACL GETUSER`. It has hashes of passwords, too, which are left alone.
fn is_open(user: &Value) -> Option<bool> {
    let field = |name: &str| {
        let is = |key: &Value| text(key).as_deref() == Some(name);
        match user {
            Value::Map(fields) => fields.iter().find(|(key, _)| is(key)).map(|(_, value)| value),
            Value::Array(flat) => flat.chunks_exact(2).find(|two| is(&two[0])).map(|two| &two[1]),
            _ => None,
        }
    };
    let flags = match field("flags")? {
        Value::Array(flags) | Value::Set(flags) => flags.iter().filter_map(text).collect::<Vec<_>>(),
        _ => return None,
    };
    let has = |flag: &str| flags.iter().any(|set| set == flag);
    let nothing = field("commands").and_then(text).is_some_and(|commands| commands == "-@all");
    Some(has("on") && has("nopass") && !nothing)
}

pub(super) fn look(
    tls: Option<bool>,
    login: Option<&Login>,
    told: &Told,
    default_open: Option<bool>,
    ips: &[IpAddr],
) -> Vec<Finding> {
    let local = ips.iter().all(IpAddr::is_loopback) && !ips.is_empty();
    let mut findings = Vec::new();
    if !local && tls == Some(false) {
        findings.push(
            Finding::note("tls", "the connection is not encrypted: who sees it sees passwords and can alter locks")
                .advice("use rediss://, unless the network is trusted"),
        );
    }
    // Who came in without a password knows that others can.
    let anonymous = login.map(|login| !login.password && login.user.as_deref().is_none_or(|user| user == "default"));
    let open = default_open.or(anonymous.filter(|anonymous| *anonymous));
    if open == Some(true) && (!local || is_reachable(told)) {
        findings.push(
            Finding::warning(
                "default-user",
                "whoever can connect can take and break locks: the user 'default' needs no password",
            )
            .advice("give it one (requirepass), or switch it off and use users of their own"),
        );
    }
    findings
}

/// Whether a server that we reach locally takes connections from elsewhere.
fn is_reachable(told: &Told) -> bool {
    // Protected mode keeps others out as long as there is no password.
    let (Some(bind), Some("no")) = (told.setting("bind"), told.setting("protected-mode")) else { return false };
    let local = |address: &str| address.trim_start_matches('-').parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !bind.split_whitespace().all(local) || bind.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_user_is_open_if_it_needs_no_password_and_may_do_something() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let user = |flags: &[&str], commands: &str| {
            let flags = Value::Array(flags.iter().copied().map(bulk).collect());
            [
                Value::Map(vec![(bulk("flags"), flags.clone()), (bulk("commands"), bulk(commands))]),
                Value::Array(vec![bulk("flags"), flags, bulk("commands"), bulk(commands)]),
            ]
        };
        for (flags, commands, open) in [
            (&["on", "nopass"][..], "+@all", true),
            (&["on"], "+@all", false),
            (&["off", "nopass"], "+@all", false),
            (&["on", "nopass"], "-@all", false),
        ] {
            for value in user(flags, commands) {
                assert_eq!(is_open(&value), Some(open), "{value:?}");
            }
        }
        assert_eq!(is_open(&Value::Nil), None);
    }

    #[test]
    fn a_local_server_may_be_open_to_others() {
        for (bind, protected, reachable) in [
            ("127.0.0.1 -::1", "no", false),
            ("* -::*", "no", true),
            ("* -::*", "yes", false),
            ("", "no", true),
            ("127.0.0.1 10.0.0.1", "no", true),
        ] {
            let told = Told::of("", &[("bind", bind), ("protected-mode", protected)]);
            assert_eq!(is_reachable(&told), reachable, "{bind} {protected}");
        }
        assert!(!is_reachable(&Told::default()));
    }

    #[test]
    fn what_others_can_see_and_do_is_told() {
        let (here, there) = (["127.0.0.1".parse().unwrap()], ["10.0.0.1".parse().unwrap()]);
        let login = |user: Option<&str>, password| Login { user: user.map(str::to_owned), password };
        let found = |tls: bool, login: &Login, open, ips: &[IpAddr]| -> Vec<&'static str> {
            look(Some(tls), Some(login), &Told::default(), open, ips).iter().map(|found| found.about).collect()
        };
        let nobody = login(None, false);
        assert_eq!(found(false, &nobody, Some(true), &here), [""; 0]);
        assert_eq!(found(false, &nobody, Some(true), &there), ["tls", "default-user"]);
        // Where the name leads is not known.
        assert_eq!(found(false, &nobody, Some(true), &[]), ["tls", "default-user"]);
        assert_eq!(found(true, &nobody, None, &there), ["default-user"], "we came in like that");
        assert_eq!(found(true, &login(None, true), None, &there), [""; 0]);
        assert_eq!(found(true, &login(Some("job"), true), Some(true), &there), ["default-user"]);
        assert_eq!(found(true, &login(Some("job"), false), None, &there), [""; 0]);
        let nothing = look(None, None, &Told::default(), None, &there);
        assert_eq!(nothing, []);
        let open = Told::of("", &[("bind", "*"), ("protected-mode", "no")]);
        assert_eq!(look(Some(false), Some(&nobody), &open, Some(true), &here)[0].about, "default-user");
    }
}
