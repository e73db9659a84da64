//! Fencing tokens: a counter in a file beside the lock.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use pilotman_core::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::directory::{self, RACES};
use crate::failure::{failed, unfit};
use crate::file::{LockFile, LockMode};
use crate::open;
use crate::place::Place;
use crate::shared::{Shared, lock};

/// Twenty digits and a newline: the content never changes its length, so that each write replaces it as a whole.
const LENGTH: usize = 21;
/// The counter is locked for some microseconds by whoever takes a token. Only one that was stopped there takes longer.
const PAUSE: Duration = Duration::from_micros(100);
const PAUSES: usize = 2_500;

#[derive(Debug)]
pub(crate) struct Counter {
    place: Place,
    file: Mutex<Option<LockFile>>,
}

impl Counter {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, file: Mutex::default() }
    }

    /// Takes the next token.
    pub(crate) fn next(&self, shared: &Shared) -> Result<u64> {
        let fail = |errno| failed("can't lock the token counter", &self.place.path, errno);
        let kept = &mut *lock(&self.file);
        for _ in 0..RACES {
            let file = match kept {
                Some(file) => file,
                None => kept.insert(self.open(shared)?),
            };
            self.lock(file)?;
            let token = match file.id.is_at(&self.place.raw) {
                Ok(false) => {
                    *kept = None;
                    continue;
                }
                Ok(true) => self.advance(file, shared.options.durable_tokens),
                Err(errno) => Err(fail(errno)),
            };
            if token.is_err() || file.unlock().is_err() {
                // Closing it unlocks it.
                *kept = None;
            }
            return token;
        }
        Err(Error::unavailable(format!("{} is replaced again and again", self.place.path.display())).no_effect(true))
    }

    /// The last token that was given out; `None` if there was none.
    pub(crate) fn last(&self, shared: &Shared) -> Result<Option<u64>> {
        match open::open_existing(&self.place, shared.trust)? {
            Some(file) => self.read(&file).map(Some),
            None => Ok(None),
        }
    }

    fn lock(&self, file: &LockFile) -> Result<()> {
        for _ in 0..PAUSES {
            match file.try_lock(LockMode::Exclusive) {
                Ok(true) => return Ok(()),
                Ok(false) => std::thread::sleep(PAUSE),
                Err(errno) => return Err(failed("can't lock the token counter", &self.place.path, errno)),
            }
        }
        Err(Error::unavailable(format!("another process keeps the token counter {} locked", self.place.path.display()))
            .with_advice("look for a process that was stopped, and let it go on")
            .no_effect(true))
    }

    fn read(&self, file: &LockFile) -> Result<u64> {
        let mut content = [0; LENGTH + 1];
        let length = rustix::io::pread(file.fd(), &mut content, 0)
            .map_err(|errno| failed("can't read the token counter", &self.place.path, errno))?;
        parse(&content[..length]).ok_or_else(|| {
            unfit(
                &self.place.path,
                "does not hold a fencing token, so the next one is not known",
                "write the last token that was used into it (20 digits with leading zeros, and a newline); remove it \
                 only if nobody remembers a token any more",
            )
        })
    }

    fn advance(&self, file: &LockFile, durable: bool) -> Result<u64> {
        let fail = |errno| failed("can't write the token counter", &self.place.path, errno);
        let token = self.read(file)?.checked_add(1).ok_or_else(|| {
            unfit(&self.place.path, "has reached the last possible token", "use another name for this lock")
        })?;
        let written = rustix::io::pwrite(file.fd(), format!("{token:020}\n").as_bytes(), 0).map_err(fail)?;
        if written != LENGTH {
            return Err(fail(Errno::NOSPC));
        }
        if durable {
            rustix::fs::fsync(file.fd()).map_err(fail)?;
        }
        Ok(token)
    }

    fn open(&self, shared: &Shared) -> Result<LockFile> {
        for _ in 0..RACES {
            if let Some(file) = open::open_existing(&self.place, shared.trust)? {
                return Ok(file);
            }
            self.create(shared)?;
        }
        Err(Error::unavailable(format!("{} is removed again and again", self.place.path.display())).no_effect(true))
    }

    /// Makes the counter at zero. It gets its name only when it has its content: an empty counter is one that was
    /// spoilt, and must not begin anew.
    fn create(&self, shared: &Shared) -> Result<()> {
        let fail = |errno| failed("can't make the token counter", &self.place.path, errno);
        let directory = directory::open_or_create(&self.place.directory, shared.trust)?;
        let temporary = format!(".pilotman-new-{:016x}", shared.random());
        let mode = Mode::from_raw_mode(if shared.trust.shared { 0o666 } else { 0o600 });
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&directory, &temporary, flags, mode).map_err(fail)?;
        let named = Self::fill(&file, shared.options.durable_tokens).and_then(|()| {
            match rustix::fs::linkat(&directory, &temporary, &directory, &self.place.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno),
            }
        });
        let removed = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        named.and(removed).map_err(fail)?;
        if shared.options.durable_tokens {
            let readable = rustix::fs::openat(&directory, c".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            readable.and_then(|directory| rustix::fs::fsync(directory.as_fd())).map_err(fail)?;
        }
        Ok(())
    }

    fn fill(file: &OwnedFd, durable: bool) -> rustix::io::Result<()> {
        if rustix::io::pwrite(file, format!("{:020}\n", 0).as_bytes(), 0)? != LENGTH {
            return Err(Errno::NOSPC);
        }
        if durable { rustix::fs::fsync(file) } else { Ok(()) }
    }
}

fn parse(content: &[u8]) -> Option<u64> {
    let (newline, digits) = content.split_last()?;
    let sound = content.len() == LENGTH && *newline == b'\n' && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| sound)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileOptions;
    use pilotman_core::ErrorKind;

    #[test]
    fn a_spoilt_counter_does_not_begin_anew() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(FileOptions::new(directory.path()));
        let place = Place::new(directory.path(), "a.token".into()).unwrap();
        assert_eq!(Counter::new(place.clone()).last(&shared).unwrap(), None);
        assert_eq!(Counter::new(place.clone()).next(&shared).unwrap(), 1);
        let counter = Counter::new(place.clone());
        for spoilt in [
            "",
            "\n",
            "7",
            "00000000000000000007",
            "0000000000000000000x\n",
            "99999999999999999999\n",
            "000000000000000000070\n",
        ] {
            std::fs::write(&place.path, spoilt).unwrap();
            assert_eq!(counter.next(&shared).unwrap_err().kind(), ErrorKind::Misconfigured, "{spoilt:?}");
        }
        std::fs::write(&place.path, format!("{:020}\n", u64::MAX)).unwrap();
        assert_eq!(counter.next(&shared).unwrap_err().kind(), ErrorKind::Misconfigured);
        std::fs::write(&place.path, format!("{:020}\n", 41)).unwrap();
        assert_eq!(counter.next(&shared).unwrap(), 42);
        assert_eq!(counter.last(&shared).unwrap(), Some(42));
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a.token"]);
    }

    #[test]
    fn many_take_tokens_at_once_and_none_twice() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(FileOptions::new(directory.path()).durable_tokens(true));
        let place = Place::new(directory.path(), "a.token".into()).unwrap();
        let mut tokens: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let counter = Counter::new(place.clone());
                    let shared = &shared;
                    scope.spawn(move || (0..25).map(|_| counter.next(shared).unwrap()).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        tokens.sort_unstable();
        assert_eq!(tokens, (1..=100).collect::<Vec<_>>());
    }
}
