//! MariaDB and MySQL, each as a URL for the tests that only use it and as a type for those that break it.
//!
//! Where the tests run as root, the servers run as nobody, since they refuse root.

mod flavour;
mod server;

use std::io;

pub use flavour::Flavour;
pub use server::{Encryption, MySql};

use super::{Scratch, ServerKind, Started};
use crate::needs::{Package, Program};
use flavour::Programs;

/// The user of all URLs. He may do everything in the database [`DATABASE`] and nothing elsewhere, as an application.
pub const LOCKER: &str = "locker";
/// The password of [`LOCKER`].
pub const PASSWORD: &str = "pw-locker";
/// The database of all URLs. It is empty.
pub const DATABASE: &str = "locks";
/// The user who may do everything, from 127.0.0.1 as well.
pub const ADMIN: &str = "root";
/// The password of [`ADMIN`].
pub const ADMIN_PASSWORD: &str = "pw-admin";

const MARIADBD: Program =
    Program { command: "mariadbd", package: Package::Debian("mariadb-server-core"), also_in: &["/usr/sbin"] };
const MARIADB_INSTALL: Program =
    Program { command: "mariadb-install-db", package: Package::Debian("mariadb-server-core"), also_in: &[] };
const MARIADB_CLIENT: Program =
    Program { command: "mariadb", package: Package::Debian("mariadb-client-core"), also_in: &[] };
/// No released Debian has MySQL.
const MYSQLD: Program = Program {
    command: "sid-mysqld",
    package: Package::PrivateRoot { suite: "sid", package: "mysql-server-core" },
    also_in: &[],
};
const MYSQL_CLIENT: Program = Program {
    command: "sid-mysql",
    package: Package::PrivateRoot { suite: "sid", package: "mysql-client-core" },
    also_in: &[],
};

pub(super) const MARIADB: ServerKind = ServerKind {
    name: "mariadb",
    about: "MariaDB 10.11, one server",
    programs: &[MARIADBD, MARIADB_INSTALL, MARIADB_CLIENT],
    start: |scratch| start_one(scratch, Flavour::MariaDb),
};
pub(super) const MYSQL: ServerKind = ServerKind {
    name: "mysql",
    about: "MySQL 9, one server",
    programs: &[MYSQLD, MYSQL_CLIENT],
    start: |scratch| start_one(scratch, Flavour::MySql),
};

fn start_one(scratch: &Scratch, flavour: Flavour) -> io::Result<Started> {
    let programs = Programs::new(flavour, |program| scratch.program(program))?;
    let server = MySql::launch(programs, Encryption::Offered, &[], scratch.path(), None)?;
    Ok(Started { urls: vec![server.url()], processes: vec![server.into_process()] })
}
