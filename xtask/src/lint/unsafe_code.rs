//! Unsafe code only in the crates that make system calls, and forbidden by the compiler everywhere else.

use super::Finding;
use super::source::{self, Source, is_word};
use crate::workspace::Package;

/// The crates that may contain unsafe code, and why.
const ALLOWED: [(&str, &str); 5] = [
    ("pilotman-bench", "an allocator that counts"),
    ("pilotman-cli", "what runs between fork and exec in the child"),
    ("pilotman-core", "noticing a fork"),
    ("pilotman-file", "a token that is read through a mapping"),
    ("pilotman-os", "a table that processes share, the kernel's list of what a thread owns, kernel objects of Windows"),
];

/// Checks all packages; `sources` are the files of the whole workspace.
pub(super) fn check(packages: &[Package], sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| ALLOWED.iter().all(|(name, _)| *name != package.name)) {
        let mine = || sources.iter().filter(|source| source.path.starts_with(package.directory()));
        findings.extend(mine().flat_map(|source| uses(source, &package.name)));
        // Tests and benchmarks are crates of their own; for them the search above is enough.
        let roots =
            package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"));
        for root in roots {
            findings.extend(mine().find(|source| source.path == root.src_path).and_then(root_without_forbid));
        }
    }
    findings
}

fn uses(source: &Source, package: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    source::each_list(&source.tokens, &mut |list| {
        for tree in list.iter().filter(|tree| is_word(Some(tree), "unsafe")) {
            let message = format!("unsafe code in {package}, which is not on the list of crates that may have it");
            findings.push(Finding::new(&source.path, source::line_of(tree), message));
        }
    });
    findings
}

fn root_without_forbid(source: &Source) -> Option<Finding> {
    let forbids = source.tree.attrs.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("forbid") => {
            list.tokens.clone().into_iter().any(|tree| is_word(Some(&tree), "unsafe_code"))
        }
        _ => false,
    });
    (!forbids).then(|| Finding::new(&source.path, 0, "makes no system call, so it needs `#![forbid(unsafe_code)]`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;
    use std::path::{Path, PathBuf};

    fn found(name: &str, text: &str) -> usize {
        let target = Target { kind: vec!["lib".to_owned()], src_path: PathBuf::from("/w/a/src/lib.rs") };
        let package = Package {
            name: name.to_owned(),
            manifest_path: PathBuf::from("/w/a/Cargo.toml"),
            dependencies: Vec::new(),
            targets: vec![target],
            features: Default::default(),
            publish: None,
        };
        check(&[package], &[Source::parse(Path::new("/w/a/src/lib.rs"), text.to_owned()).unwrap()]).len()
    }

    #[test]
    fn a_crate_without_system_calls_must_forbid() {
        assert_eq!(found("a", "#![forbid(unsafe_code)] fn f() {}"), 0);
        assert_eq!(found("a", "#![forbid(missing_docs, unsafe_code)] fn f() {}"), 0);
        assert_eq!(found("a", "fn f() {}"), 1);
        assert_eq!(found("a", "#![deny(unsafe_code)] fn f() {}"), 1);
    }

    #[test]
    fn unsafe_code_is_found_in_blocks_functions_and_macros() {
        for code in ["fn f() { unsafe {} }", "unsafe fn f() {}", "macro_rules! m { () => { unsafe {} } }"] {
            assert_eq!(found("a", &format!("#![forbid(unsafe_code)] {code}")), 1, "{code}");
        }
    }

    #[test]
    fn crates_on_the_list_may() {
        assert_eq!(found("pilotman-core", "fn f() { unsafe {} }"), 0);
    }
}
