//! The Azure backend against the bare requests of the same client, on an Azurite of our own.

#[cfg(unix)]
#[path = "azure/pair.rs"]
mod pair;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => pair::measure(61),
        // For whoever works on it.
        ["short"] => pair::measure(5),
        _ => Err("the only part is: short".into()),
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the server that this measures against is not started on this system");
    std::process::exit(1);
}
