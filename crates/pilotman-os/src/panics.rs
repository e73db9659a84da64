//! Holds end with the threads of ours that keep them, and other waiters are told by these. Foreign code that runs there
//! (wakers, listeners, whoever takes the logs) may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does the work; whether it came to its end. A panic is reported and goes no further.
pub(crate) fn contain(work: impl FnOnce()) -> bool {
    let sound = catch_unwind(AssertUnwindSafe(work)).is_ok();
    if !sound {
        let report =
            || tracing::error!("code that was called by the thread that keeps locks panicked; the locks are kept");
        // Who takes the report may be the one that panicked.
        let _ = catch_unwind(report);
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_goes_no_further() {
        assert!(contain(|| {}));
        assert!(!contain(|| panic!("on purpose")));
    }
}
