//! The names of the objects in a namespace, from the kernel's directory of them.

use std::ffi::c_void;
use std::ptr;

use pilotman_core::Result;
use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{NtOpenDirectoryObject, NtQueryDirectoryObject};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, NTSTATUS, STATUS_NO_MORE_ENTRIES, UNICODE_STRING};

use super::failure::failed;
use super::object::{code_of, last_error};

/// The right to ask what is in a directory.
const QUERY: u32 = 1;
/// What the kernel calls a mutex.
const MUTEX: &str = "Mutant";
/// So many objects are looked at. Systems have some thousands.
const OBJECTS: usize = 1 << 20;
/// Room for two names of the greatest length, in words.
const ROOM: usize = 2 * 65_536 / 8 + 64;

/// What is told of an object, in front of the characters themselves.
#[repr(C)]
#[derive(Clone, Copy)]
struct Told {
    name: UNICODE_STRING,
    kind: UNICODE_STRING,
}

struct Directory(HANDLE);

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and not used after this.
        #[allow(unsafe_code)]
        if unsafe { CloseHandle(self.0) } == 0 {
            tracing::debug!(code = last_error(), "a handle could not be closed");
        }
    }
}

/// The mutexes in a directory such as `\BaseNamedObjects`. What comes or goes meanwhile may be missing.
pub(crate) fn mutexes(path: &str) -> Result<Vec<String>> {
    let fail = |status: NTSTATUS| failed("can't look through the objects in", path, code_of(status));
    let directory = open(path).map_err(fail)?;
    let mut buffer = vec![0_u64; ROOM];
    let mut context = 0;
    let mut found = Vec::new();
    for number in 0..OBJECTS {
        // SAFETY: the directory is open, and the buffer as long as the call is told, and aligned for what is written there.
        #[allow(unsafe_code)]
        let status = unsafe {
            NtQueryDirectoryObject(
                directory.0,
                buffer.as_mut_ptr().cast(),
                (ROOM * 8) as u32,
                // One at a time: Wine knows no other way.
                true,
                number == 0,
                &raw mut context,
                ptr::null_mut(),
            )
        };
        match status {
            0 => {}
            STATUS_NO_MORE_ENTRIES => break,
            status => return Err(fail(status)),
        }
        // SAFETY: the call has written this to the beginning of the buffer, which is longer and aligned to 8.
        #[allow(unsafe_code)]
        let told = unsafe { *buffer.as_ptr().cast::<Told>() };
        if text(&buffer, told.kind).as_deref() == Some(MUTEX) {
            // A name that is no Unicode is none of ours.
            found.extend(text(&buffer, told.name));
        }
    }
    Ok(found)
}

fn open(path: &str) -> Result<Directory, NTSTATUS> {
    let mut wide: Vec<u16> = path.encode_utf16().collect();
    let length = (wide.len() * 2) as u16;
    let name = UNICODE_STRING { Length: length, MaximumLength: length, Buffer: wide.as_mut_ptr() };
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: ptr::null_mut(),
        ObjectName: &raw const name,
        Attributes: 0,
        SecurityDescriptor: ptr::null(),
        SecurityQualityOfService: ptr::null(),
    };
    let mut handle: HANDLE = ptr::null_mut();
    // SAFETY: the attributes are complete, and all that they refer to outlives the call.
    #[allow(unsafe_code)]
    let status = unsafe { NtOpenDirectoryObject(&raw mut handle, QUERY, &raw const attributes) };
    if status == 0 { Ok(Directory(handle)) } else { Err(status) }
}

/// A text that lies in the buffer; `None` if it doesn't, or is no Unicode.
fn text(buffer: &[u64], told: UNICODE_STRING) -> Option<String> {
    let units = usize::from(told.Length) / 2;
    let start = (told.Buffer as *const c_void as usize).checked_sub(buffer.as_ptr() as usize)?;
    if start % 2 != 0 || start + units * 2 > size_of_val(buffer) {
        return None;
    }
    // SAFETY: as was just looked at, it lies within the buffer, in which any bits are a valid value.
    #[allow(unsafe_code)]
    let units = unsafe { std::slice::from_raw_parts(told.Buffer.cast_const(), units) };
    String::from_utf16(units).ok()
}
