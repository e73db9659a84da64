//! What a refused call means for the caller.

use pilotman_core::Error;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_HANDLE, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY,
    ERROR_PATH_NOT_FOUND, ERROR_PRIVILEGE_NOT_HELD, ERROR_TOO_MANY_OPEN_FILES,
};

use super::object::Code;

/// An error of a call that changed nothing.
pub(crate) fn failed(what: &str, name: &str, code: Code) -> Error {
    let message = format!("{what} {name}");
    let (error, advice) = match code {
        ERROR_INVALID_HANDLE => (
            Error::misconfigured(format!("{message}: an object of another kind has this name")),
            "if it is a lock of a .NET program, set dotnet_compatible on this side too; else use another name",
        ),
        ERROR_ACCESS_DENIED => (
            Error::misconfigured(message),
            "another user made it: have the locks shared (shared, or a security descriptor) on both sides, or use \
             another name",
        ),
        ERROR_PRIVILEGE_NOT_HELD => {
            (Error::misconfigured(message), "give this user the right to create global objects, or use scope=session")
        }
        ERROR_PATH_NOT_FOUND => {
            (Error::invalid_name(message), "a name has no backslash but the one of its Global\\ or Local\\")
        }
        ERROR_NOT_ENOUGH_MEMORY | ERROR_NO_SYSTEM_RESOURCES | ERROR_TOO_MANY_OPEN_FILES => (
            Error::unavailable(message),
            "the system is short of memory or handles; hold fewer locks or try again later",
        ),
        _ => (Error::unavailable(message).retryable(false), "look at the error of the system"),
    };
    let source = std::io::Error::from_raw_os_error(i32::try_from(code).unwrap_or(i32::MAX));
    error.with_source(source).with_advice(advice).no_effect(true)
}
