//! A process that is stopped for longer than its session lasts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pilotman_core::{HoldState, Release};

use crate::common::{granted, locks, ms, shared, unique, waiter};

const NAME: &str = "PILOTMAN_STOPPED_NAME";
const PORT: &str = "PILOTMAN_STOPPED_PORT";

/// Ends with the test.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// The process that is stopped; does nothing unless the other test starts it.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_stopped() {
    let (Ok(name), Ok(port)) = (std::env::var(NAME), std::env::var(PORT)) else { return };
    let locks = locks(port.parse().unwrap());
    let guard = locks.mutex(&name).acquire().await.unwrap();
    println!("\nholds");
    let mut last = std::time::Instant::now();
    loop {
        // The first look after the stop.
        let state = guard.state();
        if last.elapsed() > Duration::from_secs(2) {
            println!("\nlooked {state:?}");
            println!(
                "\nreleased {:?}",
                guard.release().await.map(|release| matches!(release, Release::AlreadyLost(_)))
            );
            return;
        }
        assert_ne!(state, HoldState::Lost);
        last = std::time::Instant::now();
        tokio::time::sleep(ms(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_finds_its_hold_lost_at_its_first_look() {
    let (_server, port) = shared();
    let name = unique("stopped");
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "stopped::the_process_that_is_stopped", "--nocapture"]);
    command.env(NAME, &name).env(PORT, port.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut holder = Holder(command.spawn().unwrap());
    let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "holds"), "it holds");
    let others = locks(port);
    assert!(others.mutex(&name).try_acquire().await.unwrap().is_none());
    let next = waiter(&others.mutex(&name));
    signal(&holder.0, "-STOP");
    let (guard, _) = granted(next).await;
    signal(&holder.0, "-CONT");
    let looked = lines.find(|line| line.starts_with("looked"));
    assert_eq!(looked.as_deref(), Some("looked Lost"));
    let released = lines.find(|line| line.starts_with("released"));
    assert_eq!(released.as_deref(), Some("released Ok(true)"));
    assert_ne!(guard.state(), HoldState::Lost, "its late release spares us");
    guard.release().await.unwrap();
    others.close().await;
}
