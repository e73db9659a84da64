//! The quorum of Redis nodes against the bare commands of the same client, sent to all nodes at once: three nodes, and
//! five. Most of it is what the row `redis` measures with one.

#[cfg(unix)]
#[allow(dead_code, reason = "the row redis uses the rest")]
#[path = "redis/bare.rs"]
mod bare;
#[cfg(unix)]
#[path = "redlock/fan_out.rs"]
mod fan_out;
#[cfg(unix)]
#[path = "redis/hand_off.rs"]
mod hand_off;
#[cfg(unix)]
#[path = "redlock/hung.rs"]
mod hung;
#[cfg(unix)]
#[path = "redlock/ours.rs"]
mod ours;
#[cfg(unix)]
#[path = "redis/pair.rs"]
mod pair;
#[cfg(unix)]
#[path = "redis/renewal.rs"]
mod renewal;
#[cfg(unix)]
#[path = "redis/server.rs"]
mod server;
#[cfg(unix)]
#[allow(dead_code, reason = "the row redis uses the rest")]
#[path = "redis/worker.rs"]
mod worker;

#[cfg(unix)]
use fan_out::BareQuorum as Bare;

/// The sizes of the quorums.
#[cfg(unix)]
const SIZES: [(usize, &str); 2] = [(3, "-3"), (5, "-5")];

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["worker", ref work @ ..] = arguments[..] {
        // How this program starts itself as one of the processes that contend.
        return worker::run(work);
    }
    // One part by itself is for whoever works on it.
    let parts = if arguments.is_empty() { vec!["pair", "hung", "hand-off", "renewal"] } else { arguments };
    for part in parts {
        for (nodes, end) in SIZES {
            match part {
                "pair" => pair::measure(nodes, end)?,
                "hung" => hung::measure(nodes, end)?,
                "hand-off" => hand_off::measure(&format!("hand-off{end}"), nodes)?,
                "renewal" => renewal::measure(&format!("renewal{end}"), nodes)?,
                _ => return Err("the parts are: pair, hung, hand-off, renewal".into()),
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the servers that this measures against are not started on this system");
    std::process::exit(1);
}
