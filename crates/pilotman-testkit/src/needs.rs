//! What the tests of each backend need from the machine, as data. A new backend adds a row to [`BACKENDS`].

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a program comes from when it is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Package {
    /// A package of Debian 12.
    Debian(&'static str),
    /// An npm package, with its exact version: `name@1.2.3`.
    Npm(&'static str),
    /// A package of another release of Debian, unpacked with all that it needs into a directory of the build, where it
    /// does not touch the system. Its programs are called by the release and their name: `trixie-redis-server`.
    PrivateRoot {
        /// The release.
        suite: &'static str,
        /// The package.
        package: &'static str,
    },
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(name) | Self::Npm(name) => f.write_str(name),
            Self::PrivateRoot { suite, package } => write!(f, "{package}/{suite}"),
        }
    }
}

/// A program that tests call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The file name of the executable, or for one that an npm package merely has among its files, its path from
    /// `node_modules`.
    pub command: &'static str,
    /// The package that has it.
    pub package: Package,
    /// Directories to look in after `PATH`: where a distribution keeps servers out of it.
    pub also_in: &'static [&'static str],
}

/// What the tests of one backend need.
#[derive(Debug, Clone, Copy)]
pub struct BackendNeeds {
    /// The backend, by the scheme of its URLs.
    pub backend: &'static str,
    /// The crates of the workspace whose tests exercise it.
    pub crates: &'static [&'static str],
    /// Programs that the tests call themselves.
    pub programs: &'static [Program],
    /// Servers, by their names in [`crate::servers::SERVERS`].
    pub servers: &'static [&'static str],
}

/// `flock(1)`, the program that the file backend is compared with and must exclude.
const FLOCK: Program = Program { command: "flock", package: Package::Debian("util-linux"), also_in: &[] };

/// Wall clocks of servers that tests set.
pub(crate) const FAKETIME: Program =
    Program { command: "faketime", package: Package::Debian("faketime"), also_in: &[] };

/// Every backend with what its tests need.
pub const BACKENDS: &[BackendNeeds] = &[
    BackendNeeds { backend: "memory", crates: &["pilotman-core", "pilotman-conformance"], programs: &[], servers: &[] },
    BackendNeeds {
        backend: "file",
        crates: &["pilotman-file", "pilotman", "pilotman-cli"],
        programs: if cfg!(target_os = "linux") { &[FLOCK] } else { &[] },
        servers: &[],
    },
    // Its tests bring a database of their own.
    BackendNeeds {
        backend: "oracle",
        crates: &["pilotman-session", "pilotman-testkit-oracle", "pilotman-oracle", "pilotman"],
        programs: &[],
        servers: &[],
    },
    BackendNeeds { backend: "os", crates: &["pilotman-os", "pilotman", "pilotman-cli"], programs: &[], servers: &[] },
    BackendNeeds {
        backend: "redis",
        crates: &["pilotman-redis", "pilotman", "pilotman-cli"],
        programs: if cfg!(target_os = "linux") { &[FAKETIME] } else { &[] },
        servers: if cfg!(target_os = "linux") {
            &["redis", "redis-tls", "redis-sentinel", "redis-cluster", "redis-newest", "valkey-newest", "redlock"]
        } else {
            &[]
        },
    },
    BackendNeeds {
        backend: "redlock",
        crates: &["pilotman-redis", "pilotman", "pilotman-cli"],
        programs: if cfg!(target_os = "linux") { &[FAKETIME] } else { &[] },
        servers: if cfg!(target_os = "linux") { &["redis", "redis-sentinel", "redlock"] } else { &[] },
    },
    BackendNeeds {
        backend: "postgres",
        crates: &["pilotman-session", "pilotman-postgres", "pilotman", "pilotman-cli"],
        programs: &[],
        servers: if cfg!(target_os = "linux") { &["postgres", "postgres-newest", "pgbouncer"] } else { &[] },
    },
    // Its tests bring a stand-in along; a real server is named by PILOTMAN_TEST_MSSQL_URL.
    BackendNeeds {
        backend: "mssql",
        crates: &["pilotman-session", "pilotman-testkit-mssql", "pilotman-mssql", "pilotman", "pilotman-cli"],
        programs: &[],
        servers: &[],
    },
    BackendNeeds {
        backend: "mysql",
        crates: &["pilotman-session", "pilotman-mysql", "pilotman", "pilotman-cli"],
        programs: &[],
        servers: if cfg!(target_os = "linux") { &["mariadb", "mysql"] } else { &[] },
    },
    BackendNeeds {
        backend: "zookeeper",
        crates: &["pilotman-zookeeper", "pilotman", "pilotman-cli"],
        programs: &[],
        servers: if cfg!(target_os = "linux") { &["zookeeper", "zookeeper-ensemble"] } else { &[] },
    },
    BackendNeeds {
        backend: "azure",
        crates: &["pilotman-azure", "pilotman", "pilotman-cli"],
        programs: &[],
        servers: if cfg!(target_os = "linux") { &["azurite"] } else { &[] },
    },
];

/// The row of one backend.
pub fn of(backend: &str) -> Option<&'static BackendNeeds> {
    BACKENDS.iter().find(|needs| needs.backend == backend)
}

/// Finds a program in `extra`, then in `PATH`, then in the directories of [`Program::also_in`].
///
/// `extra` is for what `cargo xtask test --install` put into the build directory.
pub fn find(program: &Program, extra: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(program, extra.iter().cloned().chain(env::split_paths(&path)))
}

fn find_in(program: &Program, directories: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    directories
        .chain(program.also_in.iter().map(PathBuf::from))
        .flat_map(|directory| candidates(&directory, program.command))
        .find(|candidate| is_executable(candidate))
}

fn candidates(directory: &Path, command: &str) -> Vec<PathBuf> {
    let plain = directory.join(command);
    if !cfg!(windows) {
        return vec![plain];
    }
    ["exe", "cmd"].iter().map(|extension| plain.with_extension(OsStr::new(extension))).collect()
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PROGRAM: Program = Program { command: "prog", package: Package::Debian("prog"), also_in: &[] };

    #[test]
    fn only_executable_files_are_programs() {
        let directory = tempfile::tempdir().unwrap();
        let here = || [directory.path().to_owned()].into_iter();
        assert_eq!(find_in(&PROGRAM, here()), None);

        let file = directory.path().join("prog");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find_in(&PROGRAM, here()), None, "not executable");

        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(&PROGRAM, here()), Some(file));
    }

    #[test]
    fn the_directories_of_the_program_come_last() {
        let sh = Program { command: "sh", also_in: &["/bin"], ..PROGRAM };
        assert_eq!(find_in(&sh, std::iter::empty()), Some(PathBuf::from("/bin/sh")));
    }

    #[test]
    fn backends_are_named_once_and_their_servers_exist() {
        for needs in BACKENDS {
            assert_eq!(BACKENDS.iter().filter(|other| other.backend == needs.backend).count(), 1, "{}", needs.backend);
            for server in needs.servers {
                assert!(crate::servers::find(server).is_some(), "{} needs {server}, which is not known", needs.backend);
            }
        }
    }
}
