//! A real database, where one is named: `PILOTMAN_TEST_ORACLE_URL=oracle://user:password@host:port/service`. Its user needs what the
//! page lists under *Set-up*, with the rights to look at and to break locks.

use pilotman_conformance::UnderTest;
use pilotman_oracle::{Oracle, OracleBackend, SessionOptions};

const VARIABLE: &str = "PILOTMAN_TEST_ORACLE_URL";

pub(crate) fn url() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())
}

/// The suite on that database. Names are prefixed by the place, which is a new one in each run.
pub(crate) fn under_test() -> UnderTest {
    UnderTest::new("oracle", |place| {
        let oracle = read(&url().expect("it is set")).expect(VARIABLE);
        // Each upgradeable read has a session of its own, and one case holds many.
        let mut sessions = SessionOptions::default();
        sessions.max_sessions = 256;
        OracleBackend::new(oracle.prefix(format!("{place}.")).sessions(sessions)).expect(VARIABLE)
    })
    .names(500)
    .waiters(200)
    .settle(std::time::Duration::from_millis(1500))
    .async_only()
}

/// User, password and connect string of a URL without options.
fn read(url: &str) -> Option<Oracle> {
    let (login, connect_string) = url.strip_prefix("oracle://")?.rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    Some(Oracle::new(connect_string).ok()?.user(user).password(password))
}
