//! The descriptor that the user hands us for events.

use std::fs::File;
use std::os::fd::BorrowedFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::exit::Failure;

/// Takes descriptor `number` over. The child doesn't inherit it, unless it is one of the standard three: whoever reads
/// it sees its end when we end.
pub(crate) fn open(number: i32) -> Result<File, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("--status-fd {number}: {error}"));
    #[expect(unsafe_code, reason = "a number from the command line becomes a descriptor")]
    // SAFETY: descriptors that our caller has opened stay open, as nothing here closes what it doesn't own; and it is
    // borrowed only for making a copy, which fails if there is no such descriptor.
    let given = unsafe { BorrowedFd::borrow_raw(number) };
    let own = given.try_clone_to_owned().map_err(failed)?;
    if number > 2 {
        fcntl(given, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| failed(error.into()))?;
    }
    Ok(own.into())
}
