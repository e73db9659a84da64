//! What a held lock weighs, and what idle locks cost.

#![allow(unsafe_code)] // An allocator can't be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, counting the bytes that are in use.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises that this function asks for, and they are the same.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            IN_USE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above; the block came from the same allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(unix)]
fn main() -> Result<(), pilotman_bench::Failure> {
    held()?;
    idle()
}

/// 10 000 locks held at once. The names are made before, the guards count.
#[cfg(unix)]
fn held() -> Result<(), pilotman_bench::Failure> {
    use pilotman::blocking::{Guard, Locks};
    const COUNT: usize = 10_000;

    let locks = Locks::connect("memory://")?;
    let names: Vec<String> = (0..COUNT).map(|number| format!("invoice:{number}")).collect();
    pilotman_bench::give_back_blocking(locks.mutex("first").acquire()?)?;

    let before = IN_USE.load(Ordering::Relaxed);
    let guards: Vec<Guard> = names.iter().map(|name| locks.mutex(name).acquire()).collect::<Result<_, _>>()?;
    let while_held = IN_USE.load(Ordering::Relaxed);
    drop(guards);
    let after = IN_USE.load(Ordering::Relaxed);
    pilotman_bench::figure("held-lock", (while_held - before) as f64 / COUNT as f64, "B");
    pilotman_bench::figure("left-after-release", (after - before) as f64 / COUNT as f64, "B");
    Ok(())
}

/// Locks that have been used in every way, and are now not used.
#[cfg(unix)]
fn idle() -> Result<(), pilotman_bench::Failure> {
    use std::thread;
    use std::time::Duration;

    use pilotman_bench::{figure, milliseconds, processor_time};

    let directory = tempfile::tempdir()?;
    let memory = pollster::block_on(pilotman::Locks::connect("memory://"))?;
    let file = pollster::block_on(pilotman::Locks::connect(&format!("file://{}", directory.path().display())))?;
    for locks in [&memory, &file] {
        let mutex = locks.mutex("idle");
        let guard = pollster::block_on(mutex.acquire())?;
        let waited = pollster::block_on(mutex.try_acquire_for(Duration::from_millis(20)))?;
        assert!(waited.is_none(), "the lock was held");
        drop(guard);
    }
    // What goes on behind a drop or a time-out ends first.
    thread::sleep(Duration::from_millis(500));
    let before = processor_time();
    thread::sleep(Duration::from_secs(2));
    figure("idle-cpu", milliseconds(processor_time() - before), "ms");
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this measures processor time, which it can't on this system");
    std::process::exit(1);
}
