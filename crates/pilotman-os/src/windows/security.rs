//! Who may open our objects.

use std::ptr;

use pilotman_core::{Error, Result};
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;

use super::object::{Memory, last_error};

/// Everybody who is logged on, and the system.
const SHARED: &str = "D:(A;;GA;;;AU)(A;;GA;;;SY)";

/// A security descriptor, or what the system gives to objects of this user: access for the user and the system.
#[derive(Debug)]
pub(crate) struct Security(Option<Memory>);

// SAFETY: the memory is never written to.
#[allow(unsafe_code)]
unsafe impl Send for Security {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Security {}

impl Security {
    /// The default of this user.
    pub(crate) const PRIVATE: Self = Self(None);

    pub(crate) fn new(shared: bool, descriptor: Option<&str>) -> Result<Self> {
        match descriptor {
            Some(text) => Self::parse(text),
            None if shared => Self::parse(SHARED),
            None => Ok(Self::PRIVATE),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor: Memory = ptr::null_mut();
        // SAFETY: the text ends with a zero; the descriptor is allocated by the call and freed when this is dropped.
        #[allow(unsafe_code)]
        let parsed = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        if parsed == 0 || descriptor.is_null() {
            let code = i32::try_from(last_error()).unwrap_or(i32::MAX);
            return Err(Error::misconfigured("the security descriptor can't be understood")
                .with_source(std::io::Error::from_raw_os_error(code))
                .with_advice("write it as SDDL, such as D:(A;;GA;;;AU)")
                .with_backend("os"));
        }
        Ok(Self(Some(descriptor)))
    }

    /// For a call that makes an object, while `self` lives.
    pub(crate) fn attributes(&self) -> Option<SECURITY_ATTRIBUTES> {
        self.0.map(|descriptor| SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        })
    }
}

impl Drop for Security {
    fn drop(&mut self) {
        if let Some(descriptor) = self.0 {
            // SAFETY: allocated by the call in `parse`, and not used after this.
            #[allow(unsafe_code)]
            unsafe {
                LocalFree(descriptor);
            }
        }
    }
}
