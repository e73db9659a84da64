//! `pilotman backends`: what this build can lock with.

use pilotman::{BackendInfo, Capabilities, Fencing, Waiting};
use serde_json::{Value, json};

use crate::args::Backends;
use crate::duration::shown;
use crate::events::millis;
use crate::exit::{Ending, Failure};
use crate::output::{print, print_json};
use crate::table::{text, with_header};

pub(crate) fn backends(args: &Backends) -> Result<Ending, Failure> {
    let all = pilotman::backends();
    if args.json {
        print_json(&all.iter().map(as_json).collect())?;
    } else {
        print(&as_text(&all))?;
    }
    Ok(Ending::Success)
}

fn as_text(all: &[BackendInfo]) -> String {
    let mut table = with_header(&["BACKEND", "URL", "LOCKS", "TOKENS", "LEASE", "WAITING", "DEAD HOLDER FREED"]);
    for info in all {
        if let Some(can) = &info.capabilities {
            let lease = can.lease.and_then(|bounds| bounds.default);
            table.add_row([
                info.kind.into(),
                info.example_url.into(),
                primitives(can).join(" "),
                fencing(can).into(),
                lease.map_or("-".into(), shown),
                waiting(can).into(),
                freed(can),
            ]);
        } else {
            let missing = format!("not in this build; cargo feature '{}'", info.feature);
            table.add_row([info.kind.into(), info.example_url.into(), missing]);
        }
    }
    let mut page = text(&table);
    for info in all {
        if let Some(unverified) = info.capabilities.as_ref().and_then(|can| can.unverified) {
            page += &format!("{}: not verified: {unverified}\n", info.kind);
        }
    }
    page
}

fn primitives(can: &Capabilities) -> Vec<&'static str> {
    [("mutex", can.mutex), ("rw", can.rw_lock), ("upgradeable", can.upgradeable), ("semaphore", can.semaphore)]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
}

fn fencing(can: &Capabilities) -> &'static str {
    match can.fencing {
        Fencing::None => "never",
        Fencing::OnRequest => "on request",
        Fencing::Free => "always",
        _ => "see its page",
    }
}

fn waiting(can: &Capabilities) -> &'static str {
    match can.waiting {
        Waiting::Queue => "queue",
        Waiting::Watch => "woken",
        Waiting::Poll => "polling",
        _ => "see its page",
    }
}

fn freed(can: &Capabilities) -> String {
    match (can.lease.and_then(|bounds| bounds.default), can.frees_dead_holder_within) {
        (Some(_), _) => "with its lease".into(),
        (None, within) if within.is_zero() => "at once".into(),
        (None, within) => format!("within {}", shown(within)),
    }
}

fn as_json(info: &BackendInfo) -> Value {
    json!({
        "kind": info.kind,
        "schemes": info.schemes,
        "example_url": info.example_url,
        "feature": info.feature,
        "built": info.built,
        "capabilities": info.capabilities.as_ref().map(capabilities),
    })
}

fn capabilities(can: &Capabilities) -> Value {
    let claims = can.claims().into_iter().map(|(name, there)| (name.to_owned(), json!(there)));
    let mut all = Value::Object(claims.collect());
    all["fencing"] = json!(fencing(can));
    all["fencing_scope"] = json!(can.fencing_scope);
    all["waiting"] = json!(waiting(can));
    all["lease_ms"] = json!(can.lease.map(|bounds| json!({
        "min": millis(bounds.min),
        "max": millis(bounds.max),
        "default": bounds.default.map(millis),
    })));
    all["frees_dead_holder_within_ms"] = json!(millis(can.frees_dead_holder_within));
    all["unverified"] = json!(can.unverified);
    all
}
