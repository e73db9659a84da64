//! Notices that this process is the child of a `fork`: the parent's place in a table is not its own.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the process that first asked and this one. A child made by a bare `clone` goes unnoticed.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted from now on.
pub(crate) fn count() {
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only touches an atomic, so it is safe in the child of a threaded process, and it lives
        // as long as the program.
        #[allow(unsafe_code)]
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if failed != 0 {
            tracing::warn!(errno = failed, "forked children can't be told from their parent");
        }
    });
}
