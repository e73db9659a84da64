//! The programs of one release of PostgreSQL.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DATABASE, DEBIAN, LOCKER, PASSWORD, PSQL};
use crate::needs::Program;
use crate::{process, user};

/// Where the programs are, and what they need to run.
#[derive(Debug, Clone)]
pub(super) struct Release {
    initdb: PathBuf,
    server: PathBuf,
    psql: PathBuf,
}

impl Release {
    pub(super) fn new(
        find: impl Fn(&Program) -> io::Result<PathBuf>,
        initdb: &Program,
        server: &Program,
    ) -> io::Result<Self> {
        // Debian's `psql` in PATH is a script that looks for clusters first, which takes much longer than a statement.
        let direct = DEBIAN.iter().map(|directory| Path::new(directory).join(PSQL.command)).find(|path| path.is_file());
        let psql = direct.map_or_else(|| find(&PSQL), Ok)?;
        Ok(Self { initdb: find(initdb)?, server: find(server)?, psql })
    }

    /// Makes the files of a server in `data`.
    pub(super) fn initialize(&self, directory: &Path, data: &Path) -> io::Result<()> {
        let password = directory.join("password");
        user::write_secret(&password, &format!("{PASSWORD}\n"))?;
        let mut command = self.command(&self.initdb, directory)?;
        command.arg("-D").arg(data).args([
            "-U",
            LOCKER,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        process::output(command.arg("--pwfile").arg(password)).map(drop)
    }

    /// The server itself, with nothing said yet about what it serves.
    pub(super) fn server(&self, directory: &Path) -> io::Result<Command> {
        self.command(&self.server, directory)
    }

    /// Statements of the superuser through the socket in `directory`.
    pub(super) fn psql(&self, directory: &Path, port: u16, text: &str) -> Command {
        let mut command = Command::new(&self.psql);
        // No settings of the person who runs the tests.
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text]);
        connection(&mut command, directory, port);
        command.args(["-d", DATABASE]);
        command
    }

    fn command(&self, program: &Path, directory: &Path) -> io::Result<Command> {
        let mut command = Command::new(program);
        user::give_up_rights(&mut command, directory);
        if let Some(libraries) = program.parent().and_then(Path::parent).map(|home| home.join("lib")) {
            let links = directory.join("lib");
            if links.is_dir() || link_libraries(&libraries, &links)? {
                let both = std::env::join_paths([&links, &libraries]).map_err(io::Error::other)?;
                command.env("LD_LIBRARY_PATH", both);
            }
        }
        Ok(command)
    }
}

/// How a client reaches the server in `directory` past TLS and the rules for hosts.
pub(super) fn connection(command: &mut Command, directory: &Path, port: u16) {
    for (name, _) in std::env::vars_os() {
        // Such as PGOPTIONS of the person who runs the tests.
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.arg("-h").arg(directory).args(["-p", &port.to_string(), "-U", LOCKER]).env("PGPASSWORD", PASSWORD);
}

/// Packages of npm can't have symbolic links, by which a library is found under the first part of its version. Makes them
/// in `links` for the libraries that come with a server; `false` when it comes with none.
fn link_libraries(libraries: &Path, links: &Path) -> io::Result<bool> {
    let Ok(entries) = fs::read_dir(libraries) else { return Ok(false) };
    let mut names: Vec<(String, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(short_name) {
            names.push((name, path));
        }
    }
    // The system's own libraries are found by themselves.
    if names.is_empty() || libraries.starts_with("/usr") {
        return Ok(false);
    }
    fs::create_dir_all(links)?;
    for (name, path) in names {
        symlink(path, links.join(name))?;
    }
    Ok(true)
}

/// `libpq.so.5` for `libpq.so.5.18`, and nothing for a library that is called by its short name already.
fn short_name(file: &str) -> Option<String> {
    let (name, version) = file.split_once(".so.")?;
    let (major, _) = version.split_once('.')?;
    major.parse::<u32>().ok()?;
    Some(format!("{name}.so.{major}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_get_the_name_that_programs_ask_for() {
        assert_eq!(short_name("libpq.so.5.18").as_deref(), Some("libpq.so.5"));
        assert_eq!(short_name("libicudata.so.60.2").as_deref(), Some("libicudata.so.60"));
        for other in ["libz.so.1", "libssl.so.1.1", "libpq.a", "libpq.so"] {
            let name = short_name(other);
            assert!(name.is_none() || other == "libssl.so.1.1", "{other}: {name:?}");
        }
    }
}
