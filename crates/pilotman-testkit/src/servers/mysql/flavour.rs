//! What MariaDB and MySQL have different: how their data is made, and where their own files are.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ADMIN, ADMIN_PASSWORD, MARIADB_CLIENT, MARIADB_INSTALL, MARIADBD, MYSQL_CLIENT, MYSQLD};
use crate::needs::Program;
use crate::{process, user};

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB, as Debian has it.
    MariaDb,
    /// MySQL of Oracle, unpacked from a later Debian.
    MySql,
}

/// The programs of one of them.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) flavour: Flavour,
    server: PathBuf,
    client: PathBuf,
    /// What makes the data directory, if that is not the server itself.
    install: Option<PathBuf>,
}

impl Programs {
    pub(super) fn new(flavour: Flavour, find: impl Fn(&Program) -> io::Result<PathBuf>) -> io::Result<Self> {
        let (server, client, install) = match flavour {
            Flavour::MariaDb => (MARIADBD, MARIADB_CLIENT, Some(MARIADB_INSTALL)),
            Flavour::MySql => (MYSQLD, MYSQL_CLIENT, None),
        };
        let install = install.map(|program| find(&program)).transpose()?;
        Ok(Self { flavour, server: find(&server)?, client: find(&client)?, install })
    }

    /// Makes the files of a server in `data`. The administrator has no password yet.
    pub(super) fn initialize(&self, directory: &Path, data: &Path) -> io::Result<()> {
        let mut command = match &self.install {
            Some(program) => {
                let mut command = Command::new(program);
                user::give_up_rights(&mut command, directory);
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.args(["--skip-name-resolve", "--innodb-log-file-size=8M"]);
                command
            }
            None => {
                let mut command = self.server(directory)?;
                command.args(["--initialize-insecure", "--innodb-redo-log-capacity=8M"]);
                command
            }
        };
        let mut option = OsString::from("--datadir=");
        option.push(data);
        process::output(command.arg(option).env("TMPDIR", directory)).map(drop)
    }

    /// The server itself, with nothing said yet about what it serves.
    pub(super) fn server(&self, directory: &Path) -> io::Result<Command> {
        let mut command = Command::new(&self.server);
        user::give_up_rights(&mut command, directory);
        // One that starts removes what it takes for left-overs of temporary tables: those of others, where they share a directory.
        command.arg("--no-defaults").env("TMPDIR", directory);
        if self.flavour == Flavour::MySql {
            let root = root_of(&self.server)?;
            for (option, path) in [
                ("--basedir=", "usr"),
                ("--lc-messages-dir=", "usr/share/mysql"),
                ("--character-sets-dir=", "usr/share/mysql/charsets"),
                ("--plugin-dir=", "usr/lib/mysql/plugin"),
            ] {
                let mut option = OsString::from(option);
                option.push(root.join(path));
                command.arg(option);
            }
            // Else it insists on a directory of the system.
            command.arg("--secure-file-priv=");
        }
        Ok(command)
    }

    /// A client without settings of the person who runs the tests.
    pub(super) fn bare_client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--no-defaults").env_remove("MYSQL_PWD");
        command
    }

    /// Statements of the administrator through the server's socket.
    pub(super) fn client(&self, socket: &Path, password: Option<&str>, text: &str) -> Command {
        let mut command = self.bare_client();
        command.args(["--batch", "--skip-column-names", "--raw", "--user", ADMIN, "--execute", text]);
        command.arg("--socket").arg(socket);
        if let Some(password) = password {
            command.env("MYSQL_PWD", password);
        }
        command
    }

    /// As [`Self::client`], with the password that the administrator has in the end.
    pub(super) fn admin(&self, socket: &Path, text: &str) -> Command {
        self.client(socket, Some(ADMIN_PASSWORD), text)
    }
}

/// The private root that a program called `roots/bin/SUITE-NAME` starts something from.
fn root_of(program: &Path) -> io::Result<PathBuf> {
    let suite = program.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('-'));
    let roots = program.parent().and_then(Path::parent);
    match (roots, suite) {
        (Some(roots), Some((suite, _))) => Ok(roots.join(suite)),
        _ => Err(io::Error::other(format!("{} doesn't stand beside a private root", program.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_stands_beside_what_starts_its_programs() {
        let root = root_of(Path::new("/build/roots/bin/sid-mysqld")).unwrap();
        assert_eq!(root, Path::new("/build/roots/sid"));
        assert!(root_of(Path::new("mysqld")).is_err());
    }
}
