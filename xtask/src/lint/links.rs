//! Links in the documentation lead somewhere: to a file that exists, and to a heading that it has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

/// Checks all links of these Markdown files that stay in the repository.
pub(super) fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        for (line, target) in links(&text) {
            if let Some(message) = broken(file, &target)? {
                findings.push(Finding::new(file, line, message));
            }
        }
    }
    Ok(findings)
}

fn broken(file: &Path, target: &str) -> Result<Option<String>> {
    // Paths of Rust items stand in pages that are also crate documentation: rustdoc checks those.
    if target.contains("://") || target.contains("::") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let linked = if path.is_empty() { file.to_owned() } else { file.with_file_name("").join(path) };
    if !linked.exists() {
        return Ok(Some(format!("the link to {target} leads nowhere")));
    }
    let Some(anchor) = anchor.filter(|_| linked.extension().is_some_and(|extension| extension == "md")) else {
        return Ok(None);
    };
    let text = fs::read_to_string(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
    Ok((!anchors(&text).contains(&anchor.to_owned())).then(|| format!("the link to {target}: no such heading there")))
}

/// The targets of `[text](target)` and `[label]: target`, outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let Some(end) = rest.find([')', ' ']) else { break };
            found.push((number, rest[..end].trim_matches(['<', '>']).to_owned()));
            rest = &rest[end..];
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// The anchors of all headings: the rule of the common code hosts.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let keep = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = title.chars().filter(keep).map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = found.iter().filter(|other| **other == slug).count();
        found.push(if again == 0 { slug } else { format!("{slug}-{again}") });
    }
    found
}

/// The lines outside of fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_of_code_are_found() {
        let text = "a [b](c.md) and ![d](<e.png> \"t\")\n`[x](y)`\n```\n[x](y)\n```\n[ref]: f.md#g\n";
        let expected = [(1, "c.md".to_owned()), (1, "e.png".to_owned()), (6, "f.md#g".to_owned())];
        assert_eq!(links(text), expected);
    }

    #[test]
    fn headings_have_the_anchors_of_code_hosts() {
        assert_eq!(
            anchors("# The `run` command, v2\n## A\n```\n# no\n```\n## A\n"),
            ["the-run-command-v2", "a", "a-1"]
        );
    }

    #[test]
    fn files_and_headings_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.md");
        fs::write(directory.path().join("b.md"), "# Title\n").unwrap();
        fs::write(&file, "# Here\n").unwrap();
        let broken = |target: &str| broken(&file, target).unwrap().is_some();
        assert!(!broken("b.md") && !broken("b.md#title") && !broken("#here") && !broken("https://example.org/x"));
        assert!(!broken("crate::Locks"));
        assert!(broken("c.md") && broken("b.md#other") && broken("#there"));
    }
}
