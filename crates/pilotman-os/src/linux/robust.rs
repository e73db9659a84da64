//! The kernel's list of what a thread owns: when the thread ends, however that happens, the kernel marks it as left by a
//! dead owner and wakes one waiter. It belongs to the thread alone, so a forked child inherits nothing.
//!
//! A guard may be dropped on any thread, and the thread that took it may be long gone. So the list is that of a thread of
//! our own, which lives as long as the process; the other threads only write into memory what the kernel will find
//! there. It has one entry, the word that stands for the process, and a pending one, the latch in use.

use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, Ordering};

use rustix::io::Errno;

/// As the kernel has it, followed by our only node.
#[repr(C)]
pub(crate) struct Robust {
    list: AtomicPtr<Node>,
    offset: AtomicIsize,
    pending: AtomicPtr<Node>,
    node: Node,
}

#[repr(C)]
struct Node {
    next: AtomicPtr<Node>,
}

/// What the kernel takes for the size of the head.
const HEAD: usize = 3 * size_of::<usize>();

impl Robust {
    pub(crate) const fn new() -> Self {
        Self {
            list: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicIsize::new(0),
            pending: AtomicPtr::new(std::ptr::null_mut()),
            node: Node { next: AtomicPtr::new(std::ptr::null_mut()) },
        }
    }

    /// Makes this the list of the calling thread. It must stay where it is, hence `'static`.
    pub(crate) fn register(&'static self) -> Result<(), Errno> {
        let end = (&raw const self.list).cast::<Node>().cast_mut();
        self.node.next.store(end, Ordering::SeqCst);
        self.list.store((&raw const self.node).cast_mut(), Ordering::SeqCst);
        // SAFETY: the head has the layout that the kernel expects and lives for ever. The kernel only reads it, when the
        // thread ends, and then writes only to words that contain the thread's number.
        #[allow(unsafe_code)]
        let result = unsafe { libc::syscall(libc::SYS_set_robust_list, &raw const *self, HEAD) };
        if result == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Says which word stands for the process. To be called before the thread's number is written there.
    pub(crate) fn cover(&self, word: &AtomicU32) {
        let offset = (&raw const *word as isize).wrapping_sub(&raw const self.node as isize);
        self.offset.store(offset, Ordering::SeqCst);
    }

    /// Says that `latch` may become ours from now on. To be called before the thread's number is written there.
    pub(crate) fn begin(&self, latch: &AtomicU32) {
        let address = (&raw const *latch as isize).wrapping_sub(self.offset.load(Ordering::Relaxed));
        // A number that the kernel adds the offset to, and never a place that anybody reads.
        self.pending.store(std::ptr::without_provenance_mut(address as usize), Ordering::SeqCst);
    }

    /// The latch is ours no longer.
    pub(crate) fn end(&self) {
        self.pending.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::layout::{DIED, WAITERS};

    #[test]
    fn the_kernel_marks_both_words_when_the_thread_ends() {
        static WORD: AtomicU32 = AtomicU32::new(0);
        static LATCH: AtomicU32 = AtomicU32::new(0);
        let robust: &'static Robust = Box::leak(Box::new(Robust::new()));
        std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            robust.register().unwrap();
            robust.cover(&WORD);
            WORD.store(tid, Ordering::SeqCst);
            robust.begin(&LATCH);
            LATCH.store(tid | WAITERS, Ordering::SeqCst);
        })
        .join()
        .unwrap();
        assert_eq!(WORD.load(Ordering::SeqCst), DIED);
        assert_eq!(LATCH.load(Ordering::SeqCst), DIED | WAITERS);
    }
}
