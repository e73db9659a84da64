//! Children made by `fork`, which have the memory of their parent but not its threads.
#![cfg(unix)]
#![allow(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use common::{Flag, LONG};
use pilotman_core::clock::{Clock, SystemClock};
use pilotman_core::{ErrorKind, Locks};
use pollster::block_on;

/// One test only: a fork while another test runs could copy a mutex that nobody in the child ever unlocks.
#[test]
fn a_forked_child_starts_anew() {
    a_child_can_make_locks_of_its_own();
    a_child_does_not_set_the_timer_of_its_parent();
}

fn a_child_can_make_locks_of_its_own() {
    let locks = Locks::memory();
    let _held = block_on(locks.mutex("a").acquire()).unwrap();
    // The thread for timers runs before the fork, so that the child could take it for its own.
    assert!(block_on(locks.mutex("a").try_acquire_for(Duration::from_millis(20))).unwrap().is_none());
    let child = Child::fork(|| {
        let refused = block_on(locks.mutex("b").try_acquire()).is_err_and(|error| error.kind() == ErrorKind::Closed);
        let own = Locks::memory();
        let held = block_on(own.mutex("a").acquire());
        let timed_out = block_on(own.mutex("a").try_acquire_for(Duration::from_millis(20)));
        refused && held.is_ok() && matches!(timed_out, Ok(None))
    });
    assert_eq!(child.join(), Some(0), "the child has locks of its own, and time-outs that end");
}

fn a_child_does_not_set_the_timer_of_its_parent() {
    let clock = SystemClock::new();
    let far = clock.arm(clock.now().after(Duration::from_secs(3600)), Waker::noop().clone());
    let (mut is_armed, mut armed) = std::io::pipe().unwrap();
    let child = Child::fork(|| {
        let told = is_armed.read_exact(&mut [0]).is_ok();
        let clock = SystemClock::new();
        clock.arm(clock.now().after(Duration::from_secs(600)), Waker::noop().clone());
        told
    });
    let flag = Arc::new(Flag::default());
    clock.arm(clock.now().after(Duration::from_secs(1)), flag.clone().into());
    armed.write_all(b"x").unwrap();
    assert_eq!(child.join(), Some(0));
    let start = Instant::now();
    while !flag.is_set() {
        assert!(start.elapsed() < LONG, "the alarm of the parent rings when it was to, whatever the child does");
        std::thread::sleep(Duration::from_millis(5));
    }
    clock.disarm(far);
}

/// A forked child, killed when it is dropped.
struct Child {
    pid: libc::pid_t,
    ended: bool,
}

impl Child {
    /// Runs `work` in a child, which exits with 0 if that is true.
    fn fork(work: impl FnOnce() -> bool) -> Self {
        // SAFETY: the child runs `work` on the one thread that it has and leaves by `_exit`, so that no destructor or
        // exit handler of the parent runs in it. Memory may be allocated there: the C library sees to that in `fork`.
        // No other thread of this program is in the middle of anything then, as there is but this one test.
        match unsafe { libc::fork() } {
            0 => {
                let good = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
                // SAFETY: ends this process, and touches nothing before.
                unsafe { libc::_exit(i32::from(!good)) }
            }
            pid if pid > 0 => Self { pid, ended: false },
            _ => panic!("fork: {}", std::io::Error::last_os_error()),
        }
    }

    /// How the child ended; `None` if it hangs.
    fn join(mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < LONG {
            let mut status = 0;
            // SAFETY: a child of this process that nobody else waits for, and a status that lives long enough.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid {
                self.ended = true;
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: as it has not been waited for, the child is there, if only as a zombie, and no other has its id.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}
