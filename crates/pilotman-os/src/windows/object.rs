//! The kernel objects, each call with its outcome.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, GetLastError, HANDLE, NTSTATUS, RtlNtStatusToDosError,
    WAIT_ABANDONED_0, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::Threading::{
    CreateEventW, CreateMutexW, CreateSemaphoreW, EVENT_MODIFY_STATE, INFINITE, MUTEX_MODIFY_STATE, OpenEventW,
    OpenMutexW, OpenSemaphoreW, ReleaseMutex, ReleaseSemaphore, SEMAPHORE_MODIFY_STATE, SYNCHRONIZATION_SYNCHRONIZE,
    SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::security::Security;

/// How many objects a thread can wait for.
pub(crate) const MOST: usize = 64;

/// A number of the system for what went wrong.
pub(crate) type Code = u32;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Owned by a thread; told when that ends.
    Mutex,
    /// Signalled while free; one wait takes it.
    Event,
    /// So many permits.
    Semaphore(i32),
}

/// An open object.
#[derive(Debug)]
pub(crate) struct Object {
    handle: HANDLE,
    class: Class,
}

// SAFETY: handles can be used from any thread; what depends on the thread (who owns a mutex) is kept by the keepers.
#[allow(unsafe_code)]
unsafe impl Send for Object {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Object {}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// This one of the objects was taken, perhaps from a dead owner.
    Taken(usize),
    TimedOut,
}

impl Object {
    /// Makes an object, or opens the one that has this name. `None` as the name: one of our own.
    pub(crate) fn open(class: Class, name: Option<&str>, security: &Security) -> Result<Self, Code> {
        let wide: Option<Vec<u16>> = name.map(|name| name.encode_utf16().chain([0]).collect());
        let name = wide.as_ref().map_or(ptr::null(), |wide| wide.as_ptr());
        let attributes = security.attributes();
        let handle = create(class, name, attributes.as_ref().map_or(ptr::null(), ptr::from_ref));
        if !handle.is_null() {
            return Ok(Self { handle, class });
        }
        let refused = last_error();
        if refused != ERROR_ACCESS_DENIED || wide.is_none() {
            return Err(refused);
        }
        // Making asks for all rights; those that are needed may still be had.
        let handle = open(class, name);
        if handle.is_null() { Err(last_error()) } else { Ok(Self { handle, class }) }
    }

    /// Opens a mutex only to look at it; `None` if there is no object of this name.
    pub(crate) fn look(name: &str) -> Result<Option<Self>, Code> {
        let wide: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero and outlives the call.
        #[allow(unsafe_code)]
        let handle = unsafe { OpenMutexW(MUTEX_MODIFY_STATE, 0, wide.as_ptr()) };
        if !handle.is_null() {
            return Ok(Some(Self { handle, class: Class::Mutex }));
        }
        match last_error() {
            ERROR_FILE_NOT_FOUND => Ok(None),
            code => Err(code),
        }
    }

    /// Whether a mutex is some thread's, without taking it.
    pub(crate) fn is_owned(&self) -> Result<bool, Code> {
        let mut state = MutantState::default();
        // SAFETY: the handle is open as long as `self`, and the state is as long as it says.
        #[allow(unsafe_code)]
        let status = unsafe {
            NtQueryMutant(self.handle, 0, (&raw mut state).cast(), size_of::<MutantState>() as u32, ptr::null_mut())
        };
        // One: free. Less: so often its owner has taken it.
        if status == 0 { Ok(state.count <= 0) } else { Err(code_of(status)) }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Takes it if it is free. A mutex is then owned by this thread.
    pub(crate) fn try_take(&self) -> Result<bool, Code> {
        // SAFETY: the handle is open as long as `self`.
        #[allow(unsafe_code)]
        let result = unsafe { WaitForSingleObject(self.handle, 0) };
        outcome(result, 1).map(|waited| waited == Waited::Taken(0))
    }

    /// Gives it back. A mutex must be owned by this thread.
    pub(crate) fn give_back(&self) -> Result<(), Code> {
        // SAFETY: the handle is open as long as `self`.
        #[allow(unsafe_code)]
        let done = unsafe {
            match self.class {
                Class::Mutex => ReleaseMutex(self.handle),
                Class::Event => SetEvent(self.handle),
                Class::Semaphore(_) => ReleaseSemaphore(self.handle, 1, ptr::null_mut()),
            }
        };
        if done == 0 { Err(last_error()) } else { Ok(()) }
    }

    /// Gives a permit back and tells how many there were before.
    pub(crate) fn count_back(&self) -> Result<i32, Code> {
        let mut before = 0;
        // SAFETY: the handle is open as long as `self`, and `before` as long as the call.
        #[allow(unsafe_code)]
        let done = unsafe { ReleaseSemaphore(self.handle, 1, &raw mut before) };
        if done == 0 { Err(last_error()) } else { Ok(before) }
    }
}

/// What the system calls the basic information about a mutex.
#[repr(C)]
#[derive(Default)]
struct MutantState {
    count: i32,
    owned_by_caller: u8,
    abandoned: u8,
}

// Not among the functions that windows-sys knows. It has been there since the first Windows of this kind.
#[cfg_attr(
    target_arch = "x86",
    link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim", import_name_type = "undecorated")
)]
#[cfg_attr(not(target_arch = "x86"), link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim"))]
#[allow(unsafe_code)]
unsafe extern "system" {
    fn NtQueryMutant(handle: HANDLE, class: i32, state: *mut c_void, length: u32, used: *mut u32) -> NTSTATUS;
}

/// The number that programs know for one of the kernel's.
pub(crate) fn code_of(status: NTSTATUS) -> Code {
    // SAFETY: has no precondition.
    #[allow(unsafe_code)]
    unsafe {
        RtlNtStatusToDosError(status)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and not used after this.
        #[allow(unsafe_code)]
        if unsafe { CloseHandle(self.handle) } == 0 {
            tracing::debug!(code = last_error(), "a handle could not be closed");
        }
    }
}

fn create(class: Class, name: *const u16, attributes: *const SECURITY_ATTRIBUTES) -> HANDLE {
    // SAFETY: the name ends with a zero or is null, the attributes are complete or null, and both outlive the call.
    #[allow(unsafe_code)]
    unsafe {
        match class {
            Class::Mutex => CreateMutexW(attributes, 0, name),
            // One that is named is free at first; one of our own is a bell, and silent.
            Class::Event => CreateEventW(attributes, 0, i32::from(!name.is_null()), name),
            Class::Semaphore(permits) => CreateSemaphoreW(attributes, permits, permits, name),
        }
    }
}

fn open(class: Class, name: *const u16) -> HANDLE {
    // SAFETY: the name ends with a zero and outlives the call.
    #[allow(unsafe_code)]
    unsafe {
        match class {
            Class::Mutex => OpenMutexW(SYNCHRONIZATION_SYNCHRONIZE | MUTEX_MODIFY_STATE, 0, name),
            Class::Event => OpenEventW(SYNCHRONIZATION_SYNCHRONIZE | EVENT_MODIFY_STATE, 0, name),
            Class::Semaphore(_) => OpenSemaphoreW(SYNCHRONIZATION_SYNCHRONIZE | SEMAPHORE_MODIFY_STATE, 0, name),
        }
    }
}

/// Waits for the first of these objects, 64 at most, and takes it.
pub(crate) fn wait(objects: &[&Object], limit: Option<Duration>) -> Result<Waited, Code> {
    let handles: Vec<HANDLE> = objects.iter().map(|object| object.handle).collect();
    let milliseconds = limit.map_or(INFINITE, |limit| {
        // Rounded up: who has little time left is not to ask in a tight loop.
        u32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(INFINITE).min(INFINITE - 1)
    });
    let count = u32::try_from(handles.len()).unwrap_or(u32::MAX);
    // SAFETY: the handles are open for as long as the objects are borrowed.
    #[allow(unsafe_code)]
    let result = unsafe { WaitForMultipleObjects(count, handles.as_ptr(), 0, milliseconds) };
    outcome(result, handles.len())
}

fn outcome(result: u32, count: usize) -> Result<Waited, Code> {
    let within = |first: u32| result.checked_sub(first).map(|index| index as usize).filter(|index| *index < count);
    if result == WAIT_FAILED {
        Err(last_error())
    } else if result == WAIT_TIMEOUT {
        Ok(Waited::TimedOut)
    } else if let Some(index) = within(WAIT_OBJECT_0).or_else(|| within(WAIT_ABANDONED_0)) {
        Ok(Waited::Taken(index))
    } else {
        Err(result)
    }
}

pub(crate) fn last_error() -> Code {
    // SAFETY: has no precondition.
    #[allow(unsafe_code)]
    unsafe {
        GetLastError()
    }
}

/// For `LocalFree` and its like.
pub(crate) type Memory = *mut c_void;
