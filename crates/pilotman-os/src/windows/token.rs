//! Fencing tokens: a counter in memory that the holders of a lock share.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pilotman_core::Result;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_ALL_ACCESS, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, PAGE_READWRITE, UnmapViewOfFile,
};

use super::failure::failed;
use super::object::last_error;
use super::security::Security;

/// The counter of one lock. It is gone when nobody has it open, and begins with the clock when it is made anew.
pub(crate) struct Counter {
    mapping: HANDLE,
    view: MEMORY_MAPPED_VIEW_ADDRESS,
}

impl Counter {
    fn open(name: &str, security: &Security) -> Result<Self> {
        let fail = || failed("can't make the counter of tokens", name, last_error());
        let wide: Vec<u16> = name.encode_utf16().chain([0]).collect();
        let attributes = security.attributes();
        let attributes = attributes.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the name ends with a zero, the attributes are complete or null, and both outlive the call.
        #[allow(unsafe_code)]
        let mapping =
            unsafe { CreateFileMappingW(INVALID_HANDLE_VALUE, attributes, PAGE_READWRITE, 0, 8, wide.as_ptr()) };
        if mapping.is_null() {
            return Err(fail());
        }
        // SAFETY: the handle is that of a mapping of this length.
        #[allow(unsafe_code)]
        let view = unsafe { MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, 0, 0, 8) };
        let counter = Self { mapping, view };
        if counter.view.Value.is_null() { Err(fail()) } else { Ok(counter) }
    }

    /// The next token of the lock that has a counter of this name. To be called by who holds the lock.
    pub(crate) fn next(name: &str, security: &Security) -> Result<(Self, u64)> {
        let counter = Self::open(name, security)?;
        let token = counter.advance();
        Ok((counter, token))
    }

    pub(crate) fn advance(&self) -> u64 {
        // SAFETY: the view is as long as this, aligned to a page, lives as long as `self`, and all who share it access it
        // in this way.
        #[allow(unsafe_code)]
        let counter = unsafe { AtomicU64::from_ptr(self.view.Value.cast()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(0);
        let next = |last: u64| last.saturating_add(1).max(now);
        counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last))).map_or(now, next)
    }
}

// SAFETY: the view is shared memory that is accessed as an atomic only.
#[allow(unsafe_code)]
unsafe impl Send for Counter {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Counter {}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: both are ours and not used after this. A view that could not be had is null, which is refused.
        #[allow(unsafe_code)]
        unsafe {
            if !self.view.Value.is_null() {
                UnmapViewOfFile(self.view);
            }
            CloseHandle(self.mapping);
        }
    }
}
