//! Which rights this user lacks.
//!
//! Redis 7 tells it itself, by a function that scripts have. Where that is not to be had, each command is tried in a
//! form that changes nothing, on a key that does not exist.

use pilotman_core::Result;
use pilotman_core::backend::Finding;
use redis::{Cmd, RedisError, Value};

use crate::failure::{code, failed};
use crate::node::Primary;
use crate::options::RedisNode;

/// Stand for a key and a channel of our own.
const KEY: &str = "\0key";
const CHANNEL: &str = "\0channel";

/// For each command, given as the number of its words and these: whether it is allowed (1), not (0), or not there (2).
const CHECK: &str = "
if not redis.acl_check_cmd then return {} end
local answers, at = {}, 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local known, allowed = pcall(redis.acl_check_cmd, unpack(ARGV, at + 1, at + count))
  answers[#answers + 1] = known and (allowed and 1 or 0) or 2
  at = at + count + 1
end
return answers";

/// A command that is needed.
#[derive(Debug, Clone, Copy)]
struct Need {
    words: &'static [&'static str],
    /// What does not work without it; `None`: locks.
    only_for: Option<&'static str>,
    /// As it stands here it changes nothing, so that it can be tried out.
    harmless: bool,
}

const fn lock(words: &'static [&'static str]) -> Need {
    Need { words, only_for: None, harmless: true }
}

const fn only_for(what: &'static str, words: &'static [&'static str]) -> Need {
    Need { words, only_for: Some(what), harmless: true }
}

const fn not_to_be_tried(need: Need) -> Need {
    Need { harmless: false, ..need }
}

/// What every lock takes, most of it within scripts.
const LOCK: &[Need] = &[
    lock(&["EVAL", "return 1", "1", KEY]),
    lock(&["EVALSHA", "0000000000000000000000000000000000000000", "1", KEY]),
    lock(&["TIME"]),
    lock(&["GET", KEY]),
    // There is nothing that could be replaced.
    lock(&["SET", KEY, "1", "XX", "PX", "1"]),
    not_to_be_tried(lock(&["GETSET", KEY, "1"])),
    lock(&["DEL", KEY]),
    lock(&["EXISTS", KEY]),
    lock(&["PTTL", KEY]),
    lock(&["PEXPIRE", KEY, "1"]),
    lock(&["HGET", KEY, "f"]),
    // A field without a value, which is found out only after the rights were looked at.
    lock(&["HSET", KEY, "f", "v", "f"]),
    lock(&["HDEL", KEY, "f"]),
    lock(&["HVALS", KEY]),
    lock(&["ZADD", KEY, "XX", "1", "m"]),
    lock(&["ZCARD", KEY]),
    lock(&["ZRANGE", KEY, "0", "0"]),
    lock(&["ZRANGEBYSCORE", KEY, "0", "0"]),
    lock(&["ZRANK", KEY, "m"]),
    lock(&["ZREM", KEY, "m"]),
    lock(&["ZSCORE", KEY, "m"]),
    only_for("asking whether it can be used", &["PING"]),
    // It would stay in the server's cache.
    not_to_be_tried(only_for("loading scripts beforehand", &["SCRIPT", "LOAD", "return 1"])),
];

const ON_ONE: &[Need] = &[
    lock(&["SUBSCRIBE", CHANNEL]),
    lock(&["PUBLISH", CHANNEL, ""]),
    lock(&["PUBSUB", "NUMSUB", CHANNEL]),
    only_for("naming our connections", &["CLIENT", "SETNAME", "pilotman-doctor"]),
    only_for("listing locks", &["SCAN", "0", "COUNT", "1"]),
    only_for("listing locks", &["TYPE", KEY]),
    only_for("listing locks", &["GETRANGE", KEY, "0", "0"]),
];

const IN_CLUSTER: &[Need] = &[
    lock(&["CLUSTER", "SLOTS"]),
    // The connection is that of the locks.
    not_to_be_tried(lock(&["SSUBSCRIBE", CHANNEL])),
    lock(&["SPUBLISH", CHANNEL, ""]),
    lock(&["PUBSUB", "SHARDNUMSUB", CHANNEL]),
];

/// Commands whose first word stands for several.
const FAMILIES: [&str; 4] = ["CLIENT", "CLUSTER", "PUBSUB", "SCRIPT"];

fn needs(spec: &RedisNode) -> Vec<Need> {
    let mut needs = LOCK.to_vec();
    needs.extend(if spec.is_clustered() { IN_CLUSTER } else { ON_ONE });
    match spec.confirm {
        Some(confirm) if confirm.on_disk => needs.push(lock(&["WAITAOF", "0", "0", "1"])),
        Some(_) => needs.push(lock(&["WAIT", "0", "1"])),
        None => {}
    }
    needs
}

impl Need {
    fn name(self) -> String {
        let own = if FAMILIES.contains(&self.words[0]) { 2 } else { 1 };
        self.words[..own].join(" ")
    }

    /// How an access-control list allows it.
    fn rule(self) -> String {
        format!("+{}", self.name().to_lowercase().replace(' ', "|"))
    }
}

/// What is known of a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Yes,
    /// The command is not allowed.
    NotRun,
    /// The command is, the key isn't.
    NotKey,
    NotChannel,
    /// The server doesn't know it, or not by this name.
    NotThere,
    /// There is no way to find out that changes nothing.
    Unknown,
}

/// Looks at all of them.
pub(super) async fn look(spec: &RedisNode, primary: &Primary) -> Result<Vec<Finding>> {
    let needs = needs(spec);
    let (key, channel) = own(spec);
    let words = |need: Need| -> Vec<&str> {
        let real = |word: &&'static str| match *word {
            KEY => key.as_str(),
            CHANNEL => channel.as_str(),
            word => word,
        };
        need.words.iter().map(real).collect()
    };
    let mut check = redis::cmd("EVAL");
    check.arg(CHECK).arg(0);
    for need in &needs {
        check.arg(need.words.len()).arg(words(*need));
    }
    let told: Vec<Option<i64>> = match primary.line.ask(&check).await {
        Ok(Value::Array(answers)) if answers.len() == needs.len() => {
            answers.iter().map(|answer| if let Value::Int(answer) = answer { Some(*answer) } else { None }).collect()
        }
        Ok(_) => vec![None; needs.len()],
        Err(error) if code(&error).is_some() => vec![None; needs.len()],
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for (need, told) in needs.iter().zip(told) {
        let may = match told {
            Some(1) => May::Yes,
            Some(2) => May::NotThere,
            // What is refused for certain can be tried, to hear why.
            Some(0) => try_out(primary, &words(*need)).await?,
            _ if need.harmless => try_out(primary, &words(*need)).await?,
            _ => May::Unknown,
        };
        found.push((*need, may));
    }
    let user = primary.login.as_ref().and_then(|login| login.user.as_deref()).unwrap_or("default");
    Ok(report(&found, spec.key_format.own().trim_end_matches("pilotman:"), user))
}

/// A key and a channel that nobody has.
fn own(spec: &RedisNode) -> (String, String) {
    let own = spec.key_format.own();
    (format!("{own}doctor"), format!("{own}push:doctor"))
}

async fn try_out(primary: &Primary, words: &[&str]) -> Result<May> {
    let mut cmd = Cmd::new();
    cmd.arg(words);
    match primary.line.ask(&cmd).await {
        Ok(_) => Ok(May::Yes),
        Err(error) => refusal(error),
    }
}

/// Why a command was refused; other errors than of rights are none of those.
fn refusal(error: RedisError) -> Result<May> {
    let Some(code) = code(&error) else { return Err(failed(error)) };
    let detail = error.detail().unwrap_or_default();
    Ok(match code {
        "NOPERM" if detail.contains("to run") => May::NotRun,
        "NOPERM" if detail.contains("channel") => May::NotChannel,
        "NOPERM" if detail.contains("key") => May::NotKey,
        "NOPERM" => May::NotRun,
        _ if detail.contains("unknown command") || detail.contains("unknown subcommand") => May::NotThere,
        _ => May::Yes,
    })
}

fn report(found: &[(Need, May)], prefix: &str, user: &str) -> Vec<Finding> {
    let of = |wanted: May, needed: bool| {
        found
            .iter()
            .filter(move |(need, may)| *may == wanted && need.only_for.is_none() == needed)
            .map(|(need, _)| *need)
    };
    let names = |needs: &[Need]| needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(", ");
    let mut findings = Vec::new();

    let forbidden: Vec<Need> = of(May::NotRun, true).collect();
    let (mut lacks, mut rules): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    if !forbidden.is_empty() {
        lacks.push(format!("run {}", names(&forbidden)));
        rules.extend(forbidden.iter().map(|need| need.rule()));
    }
    let shown = if prefix.is_empty() { "all keys".to_owned() } else { format!("keys that begin with '{prefix}'") };
    if found.iter().any(|(_, may)| *may == May::NotKey) {
        lacks.push(format!("read and write {shown}"));
        rules.push(format!("~{prefix}*"));
    }
    if found.iter().any(|(_, may)| *may == May::NotChannel) {
        lacks.push(format!("use channels that begin with '{prefix}pilotman:'"));
        rules.push(format!("&{prefix}pilotman:*"));
    }
    if !lacks.is_empty() {
        findings.push(
            Finding::problem("rights", format!("the user '{user}' may not {}", lacks.join("; nor ")))
                .advice(format!("ACL SETUSER {user} {}", rules.join(" "))),
        );
    }
    let missing: Vec<Need> = of(May::NotThere, true).collect();
    if !missing.is_empty() {
        let what = format!("the server has no {}, or has renamed it", names(&missing));
        findings.push(Finding::problem("commands", what).advice("don't rename them, or use a newer server"));
    }
    let optional: Vec<Need> =
        of(May::NotRun, false).chain(of(May::NotThere, false)).chain(of(May::NotKey, false)).collect();
    if !optional.is_empty() {
        let mut uses: Vec<&str> = optional.iter().filter_map(|need| need.only_for).collect();
        uses.dedup();
        let what = format!("{} can't be used: {} won't work", names(&optional), uses.join(" and "));
        let rules: Vec<String> = optional.iter().map(|need| need.rule()).collect();
        findings.push(
            Finding::note("rights", what)
                .advice(format!("locks don't need it; else ACL SETUSER {user} {}", rules.join(" "))),
        );
    }
    let unknown: Vec<Need> = found.iter().filter(|(_, may)| *may == May::Unknown).map(|(need, _)| *need).collect();
    if !unknown.is_empty() {
        let what = format!("whether {} is allowed can't be found out without changing something", names(&unknown));
        findings.push(Finding::note("rights", what));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("rights", format!("the user '{user}' may do all that locks take")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pilotman_core::backend::Severity;

    use super::*;

    #[test]
    fn every_command_of_the_scripts_is_looked_at() {
        let known: Vec<&str> = LOCK.iter().chain(ON_ONE).map(|need| need.words[0]).collect();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scripts");
        let mut folders = vec![sources];
        let mut calls = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let body = std::fs::read_to_string(&path).unwrap();
                for (command, _) in body.split("call('").skip(1).filter_map(|rest| rest.split_once('\'')) {
                    assert!(known.contains(&command), "{} calls {command}, which is not in the list", path.display());
                    calls += 1;
                }
            }
        }
        assert!(calls > 50, "{calls}");
    }

    #[test]
    fn what_is_missing_is_named_once_with_its_rule() {
        let found = |words: &[&str], may: May| {
            let need = LOCK.iter().chain(ON_ONE).find(|need| need.name() == words.join(" ")).unwrap();
            (*need, may)
        };
        let all = [
            found(&["GET"], May::Yes),
            found(&["EVALSHA"], May::NotRun),
            found(&["PUBSUB", "NUMSUB"], May::NotRun),
            found(&["DEL"], May::NotKey),
            found(&["EXISTS"], May::NotKey),
            found(&["PUBLISH"], May::NotChannel),
            found(&["ZADD"], May::NotThere),
            found(&["SCAN"], May::NotRun),
            found(&["GETSET"], May::Unknown),
        ];
        let findings = report(&all, "app:", "job");
        let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "problem: rights: the user 'job' may not run EVALSHA, PUBSUB NUMSUB; nor read and write keys that \
                 begin with 'app:'; nor use channels that begin with 'app:pilotman:'; ACL SETUSER job +evalsha \
                 +pubsub|numsub ~app:* &app:pilotman:*",
                "problem: commands: the server has no ZADD, or has renamed it; don't rename them, or use a newer \
                 server",
                "note: rights: SCAN can't be used: listing locks won't work; locks don't need it; \
                 else ACL SETUSER job +scan",
                "note: rights: whether GETSET is allowed can't be found out without changing something",
            ]
        );
        let fine = report(&[found(&["GET"], May::Yes)], "", "default");
        assert_eq!((fine.len(), fine[0].severity), (1, Severity::Fine));
    }
}
