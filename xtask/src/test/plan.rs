//! What is missing on this machine, and whether that is allowed.

use std::collections::BTreeSet;

use pilotman_testkit::{BackendNeeds, Package, Program, ServerKind, servers};

use super::install;
use super::skips::Skips;

/// The outcome of looking for everything that the chosen tests need.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Missing {
    /// Programs that must be there and are not, each with what needs it.
    pub(super) required: Vec<(Program, String)>,
    /// Servers that are not there and may be skipped.
    pub(super) skipped: Vec<String>,
    /// The programs of those servers: installed when asked for, like the others.
    optional: Vec<Program>,
}

/// Looks for all programs and servers of these backends.
pub(super) fn missing(backends: &[&BackendNeeds], skips: &Skips, installed: impl Fn(&Program) -> bool) -> Missing {
    let find = |name: &str| servers::find(name);
    missing_of(backends, skips, installed, find)
}

fn missing_of<'a>(
    backends: &[&BackendNeeds],
    skips: &Skips,
    installed: impl Fn(&Program) -> bool,
    find: impl Fn(&str) -> Option<&'a ServerKind>,
) -> Missing {
    let mut missing = Missing::default();
    let mut seen = BTreeSet::new();
    for needs in backends {
        for program in needs.programs.iter().filter(|program| !installed(program)) {
            missing.require(*program, format!("the {} tests", needs.backend));
        }
        for kind in needs.servers.iter().filter_map(|name| find(name)).filter(|kind| seen.insert(kind.name)) {
            let gone = kind.programs.iter().filter(|program| !installed(program));
            if skips.allows(kind.name) {
                let gone: Vec<Program> = gone.copied().collect();
                if !gone.is_empty() {
                    missing.skipped.push(kind.name.to_owned());
                    missing.optional.extend(gone);
                }
            } else {
                gone.for_each(|program| missing.require(*program, format!("the server {}", kind.name)));
            }
        }
    }
    missing
}

impl Missing {
    fn require(&mut self, program: Program, user: String) {
        if self.required.iter().all(|(other, _)| *other != program) {
            self.required.push((program, user));
        }
    }

    /// Whether there is nothing to install.
    pub(super) fn is_empty(&self) -> bool {
        self.required.is_empty() && self.optional.is_empty()
    }

    /// The packages that must be installed, each once.
    pub(super) fn packages(&self) -> BTreeSet<Package> {
        self.required.iter().map(|(program, _)| program.package).collect()
    }

    /// The packages of servers that may be skipped: to be installed where that works.
    pub(super) fn optional_packages(&self) -> BTreeSet<Package> {
        self.optional.iter().map(|program| program.package).collect()
    }

    /// What is required and missing, and the commands that install it.
    pub(super) fn report(&self) -> String {
        let mut text = "the tests need programs that are not installed:\n".to_owned();
        for (program, user) in &self.required {
            text.push_str(&format!("  {} for {user}\n", program.command));
        }
        text.push_str("install them with `cargo xtask test --install`, or by hand:\n");
        for line in install::lines(&self.packages()) {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("or allow a server's tests to be skipped, with the reason, in skips.toml\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_testkit::Scratch;
    use pilotman_testkit::servers::Started;

    const CLIENT: Program = Program { command: "db-client", package: Package::Debian("db-tools"), also_in: &[] };
    const SERVER: Program = Program { command: "db-server", package: Package::Npm("db@1.2.3"), also_in: &[] };
    const BACKEND: BackendNeeds =
        BackendNeeds { backend: "db", crates: &[], programs: &[CLIENT], servers: &["db-server"] };

    fn never(_: &Scratch) -> std::io::Result<Started> {
        Err(std::io::Error::other("not started by these tests"))
    }

    static KIND: ServerKind = ServerKind { name: "db-server", about: "", programs: &[SERVER], start: never };

    fn look(skips: &str, installed: &[Program]) -> Missing {
        let skips = Skips::parse(skips).unwrap();
        missing_of(
            &[&BACKEND, &BACKEND],
            &skips,
            |p| installed.contains(p),
            |name| (name == KIND.name).then_some(&KIND),
        )
    }

    #[test]
    fn nothing_is_missing_when_all_is_installed() {
        assert!(look("", &[CLIENT, SERVER]).is_empty());
    }

    #[test]
    fn a_missing_server_is_required_and_the_report_says_how_to_get_it() {
        let missing = look("", &[]);
        assert_eq!(missing.required.len(), 2, "each once: {missing:?}");
        assert_eq!(missing.packages(), BTreeSet::from([CLIENT.package, SERVER.package]));
        let report = missing.report();
        assert!(report.contains("db-server for the server db-server"), "{report}");
        assert!(report.contains("apt-get") && report.contains("db-tools"), "{report}");
        assert!(report.contains("npm install") && report.contains("db@1.2.3"), "{report}");
    }

    #[test]
    fn a_listed_server_is_skipped_but_still_worth_installing() {
        let missing = look("[[skip]]\nserver = \"db-server\"\nreason = \"can't be had\"\n", &[CLIENT]);
        assert_eq!((missing.required.len(), &missing.skipped[..]), (0, &["db-server".to_owned()][..]));
        assert!(missing.packages().is_empty());
        assert_eq!(missing.optional_packages(), BTreeSet::from([SERVER.package]));
    }

    #[test]
    fn a_listed_server_that_is_there_is_not_skipped() {
        let missing = look("[[skip]]\nserver = \"db-server\"\nreason = \"can't be had\"\n", &[CLIENT, SERVER]);
        assert!(missing.skipped.is_empty());
    }

    #[test]
    fn a_listed_server_does_not_excuse_a_program_of_the_tests() {
        let missing = look("[[skip]]\nserver = \"db-server\"\nreason = \"can't be had\"\n", &[]);
        assert_eq!(missing.required.len(), 1);
        assert_eq!(missing.required[0].0, CLIENT);
    }
}
