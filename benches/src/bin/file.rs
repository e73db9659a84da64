//! The file backend against bare `flock`, and how fast a waiter of another process wakes.

#[cfg(unix)]
#[path = "file/pair.rs"]
mod pair;
#[cfg(unix)]
#[path = "wake.rs"]
mod wake;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            pair::measure()?;
            let directory = tempfile::tempdir()?;
            wake::measure(&format!("file://{}", directory.path().display())).map(drop)
        }
        // How this program starts itself as the other process.
        ["hold", url] => wake::hold(url),
        _ => Err("this program takes no arguments".into()),
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this measures against flock, which this system doesn't have");
    std::process::exit(1);
}
