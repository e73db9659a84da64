//! The MySQL backend, on MariaDB, against the bare statements of the same driver, on one server of our own.

#[cfg(unix)]
#[path = "mysql/bare.rs"]
mod bare;
#[cfg(unix)]
#[path = "sql/hand_off.rs"]
mod hand_off;
#[cfg(unix)]
#[path = "mysql/ours.rs"]
mod ours;
#[cfg(unix)]
#[path = "sql/pair.rs"]
mod pair;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    use pilotman_testkit::servers::mysql::{Flavour, MySql};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["worker", ref work @ ..] = arguments[..] {
        // How this program starts itself as one of the processes that contend.
        return hand_off::work(work);
    }
    let server = MySql::start(Flavour::MariaDb, &[])?;
    // One part by itself is for whoever works on it.
    let parts = if arguments.is_empty() { vec!["pair", "hand-off"] } else { arguments };
    for part in parts {
        match part {
            "pair" => pair::measure(server.port())?,
            "hand-off" => hand_off::measure(server.port())?,
            _ => return Err("the parts are: pair, hand-off".into()),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the server that this measures against is not started on this system");
    std::process::exit(1);
}
