//! `pilotman doctor`: whether the backend is set up safely.

use pilotman::backend::{Finding, Severity};
use serde_json::{Value, json};

use crate::args::Doctor;
use crate::backend::Backend;
use crate::exit::{Code, Ending, Failure};
use crate::output::{print, print_json};

pub(crate) fn doctor(args: &Doctor, backend: Option<String>) -> Result<Ending, Failure> {
    let locks = Backend::choose_to_look(backend)?.connect()?;
    let mut findings = locks.diagnose()?;
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine);
    findings.retain(|finding| !args.quiet || finding.severity > Severity::Fine);
    if args.json {
        let all: Value = findings.iter().map(as_json).collect();
        print_json(&json!({ "backend": locks.backend_kind(), "worst": worst.as_str(), "findings": all }))?;
    } else {
        print(&as_text(&findings, args.quiet))?;
    }
    Ok(if worst >= Severity::Problem { Code::Misconfigured.into() } else { Ending::Success })
}

/// What a server said may be anything; it doesn't get at the terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A paragraph for each: lines of a table would be too long for a terminal.
fn as_text(findings: &[Finding], quiet: bool) -> String {
    let mut page = String::new();
    for finding in findings {
        let Finding { severity, node, about, what, advice, .. } = finding;
        let node = node.as_ref().map(|node| printable(node) + "  ").unwrap_or_default();
        page += &format!("{severity:<8} {node}{about}\n         {}\n", printable(what));
        if let Some(advice) = advice {
            page += &format!("         -> {}\n", printable(advice));
        }
    }
    if !quiet {
        page += &(summary(findings) + "\n");
    }
    page
}

fn summary(findings: &[Finding]) -> String {
    let count = |severity| match findings.iter().filter(|finding| finding.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 {severity}")),
        several => Some(format!("{several} {severity}s")),
    };
    let told: Vec<String> =
        [Severity::Problem, Severity::Warning, Severity::Note].into_iter().filter_map(count).collect();
    if told.is_empty() { "all is well".into() } else { told.join(", ") }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.as_str(),
        "node": finding.node,
        "about": finding.about,
        "what": finding.what,
        "advice": finding.advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_one_after_the_other() {
        let findings = [
            Finding::problem("eviction", "locks are evicted").at("h:1").advice("use noeviction"),
            Finding::warning("sentinel", "it said \u{1b}[2J"),
            Finding::warning("clock", "it is late"),
            Finding::fine("version", "new"),
        ];
        let page = as_text(&findings, false);
        let first =
            "problem  h:1  eviction\n         locks are evicted\n         -> use noeviction\nwarning  sentinel\n";
        assert!(page.starts_with(first), "{page}");
        assert!(page.ends_with("fine     version\n         new\n1 problem, 2 warnings\n"), "{page}");
        assert!(!page.contains('\u{1b}'), "{page}");
        assert_eq!(as_text(&[], true), "");
        assert_eq!(as_text(&findings[3..], false).lines().last(), Some("all is well"));
    }
}
