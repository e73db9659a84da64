//! A bare System V semaphore with undo.

use pilotman_bench::Failure;

/// Removed when it is dropped: such a thing outlives all processes otherwise.
pub(crate) struct Semaphore(i32);

impl Semaphore {
    pub(crate) fn new() -> Result<Self, Failure> {
        // SAFETY: makes a semaphore that nobody else knows of.
        #[allow(unsafe_code)]
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let semaphore = Self(id);
        semaphore.add(1)?;
        Ok(semaphore)
    }

    pub(crate) fn add(&self, number: i16) -> Result<(), Failure> {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: number, sem_flg: libc::SEM_UNDO as i16 };
        // SAFETY: one operation, which lives as long as the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::semop(self.0, &raw mut operation, 1) };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: removes what `new` made.
        #[allow(unsafe_code)]
        let result = unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
        if result != 0 {
            eprintln!("the semaphore {} stays behind: {}", self.0, std::io::Error::last_os_error());
        }
    }
}
