//! The conformance suite on a real SQL Server, which is named by `PILOTMAN_TEST_MSSQL_URL`; without it there is nothing to run.
//! Its login must be allowed to see who holds a lock, and to end sessions (`VIEW SERVER STATE`, `ALTER ANY CONNECTION`).

use pilotman_conformance::UnderTest;
use pilotman_core::NameRule;
use pilotman_mssql::{MsSql, MsSqlBackend, SessionOptions, TlsMode};

const VARIABLE: &str = "PILOTMAN_TEST_MSSQL_URL";

/// `mssql://user:password@host:port/database`, encrypted to whatever server answers.
fn options(url: &str, prefix: &str) -> MsSql {
    let url = url::Url::parse(url).unwrap_or_else(|_| panic!("{VARIABLE} is no URL"));
    let plain = |text: &str| {
        let pairs = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(pairs.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let host = url.host_str().unwrap_or_else(|| panic!("{VARIABLE} names no host"));
    let mut mssql = MsSql::host(format!("{host}:{}", url.port().unwrap_or(1433))).expect("a host");
    mssql = mssql.login(plain(url.username()), plain(url.password().unwrap_or_default()));
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() {
        mssql = mssql.database(plain(database));
    }
    // As in the run against the stand-in.
    let mut sessions = SessionOptions::default();
    sessions.max_sessions = 256;
    mssql.tls(TlsMode::Require).prefix(prefix).names(NameRule::Strict).sessions(sessions)
}

fn main() -> std::process::ExitCode {
    let Ok(url) = std::env::var(VARIABLE) else {
        eprintln!("skipped: {VARIABLE} names no server");
        return std::process::ExitCode::SUCCESS;
    };
    let connect =
        move |place: &str| MsSqlBackend::new(options(&url, &format!("{place}."))).expect("these options are right");
    pilotman_conformance::main(UnderTest::new("mssql-server", connect).names(2000))
}
