//! The ZooKeeper backend against the bare requests and the lock of the same client, on one server of our own.

#[cfg(unix)]
#[path = "zookeeper/hand_off.rs"]
mod hand_off;
#[cfg(unix)]
#[path = "zookeeper/pair.rs"]
mod pair;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    use pilotman_testkit::servers::zookeeper::ZooKeeper;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let server = ZooKeeper::start(&[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (pairs, hand_offs) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (400, 400),
        // For whoever works on it.
        ["short"] => (50, 50),
        _ => return Err("the only part is: short".into()),
    };
    runtime.block_on(pair::measure(&server.address(), pairs))?;
    runtime.block_on(hand_off::measure(&server.address(), hand_offs))
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the server that this measures against is not started on this system");
    std::process::exit(1);
}
