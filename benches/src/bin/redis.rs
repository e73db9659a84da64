//! The Redis backend against the bare commands of the same client, on one server of our own.

#[cfg(unix)]
#[path = "redis/bare.rs"]
mod bare;
#[cfg(unix)]
#[path = "redis/hand_off.rs"]
mod hand_off;
#[cfg(unix)]
#[path = "redis/ours.rs"]
mod ours;
#[cfg(unix)]
#[path = "redis/pair.rs"]
mod pair;
#[cfg(unix)]
#[path = "redis/renewal.rs"]
mod renewal;
#[cfg(unix)]
#[allow(dead_code, reason = "the row redlock uses the rest")]
#[path = "redis/server.rs"]
mod server;
#[cfg(unix)]
#[path = "redis/waiters.rs"]
mod waiters;
#[cfg(unix)]
#[path = "redis/worker.rs"]
mod worker;

#[cfg(unix)]
use bare::BareLock as Bare;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            pair::measure(1, "")?;
            hand_off::measure("hand-off", 1)?;
            waiters::measure()?;
            renewal::measure("renewal", 1)
        }
        // One part by itself, for whoever works on it.
        ["pair"] => pair::measure(1, ""),
        ["hand-off"] => hand_off::measure("hand-off", 1),
        ["waiters"] => waiters::measure(),
        ["renewal"] => renewal::measure("renewal", 1),
        // How this program starts itself as one of the processes that contend.
        ["worker", ref work @ ..] => worker::run(work),
        _ => Err("the parts are: pair, hand-off, waiters, renewal".into()),
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the server that this measures against is not started on this system");
    std::process::exit(1);
}
