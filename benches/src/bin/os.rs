//! The os backend against a bare semaphore of the kernel with undo, and how fast a waiter of another process wakes.

#[cfg(target_os = "linux")]
#[path = "os/flock.rs"]
mod flock;
#[cfg(target_os = "linux")]
#[path = "os/pair.rs"]
mod pair;
#[cfg(target_os = "linux")]
#[path = "os/semop.rs"]
mod semop;
#[cfg(target_os = "linux")]
#[path = "wake.rs"]
mod wake;

#[cfg(target_os = "linux")]
fn main() -> Result<(), pilotman_bench::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let directory = tempfile::Builder::new().prefix("pilotman-bench-").tempdir_in("/dev/shm")?;
            let url = format!("os://?directory={}", directory.path().display());
            pair::measure(&url)?;
            let ours = wake::measure(&url)?;
            let bare = flock::measure(&directory.path().join("flock"))?;
            pilotman_bench::figure("wake-crash-against-flock", ours / bare, "×");
            Ok(())
        }
        // How this program starts itself as the other process.
        ["hold", url] => wake::hold(url),
        ["flock", path] => flock::hold(path),
        _ => Err("this program takes no arguments".into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this measures against System V semaphores with undo, as Linux has them");
    std::process::exit(1);
}
