//! Notices that this process is the child of a `fork`, where threads, connections and holds of the parent are not.

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the process that loaded this library and this one.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted from now on. A child made by a bare `clone` system call goes unnoticed.
#[cfg(unix)]
pub(crate) fn count() {
    use std::sync::Once;

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

#[cfg(not(unix))]
pub(crate) fn count() {}
