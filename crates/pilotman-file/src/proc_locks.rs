//! The kernel's list of locks.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use crate::file::FileId;

/// How often the list is read at most.
const ATTEMPTS: usize = 8;

/// Who has a `flock` on which file, as far as the kernel shows it to this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Locks(HashMap<FileId, Vec<Lock>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lock {
    /// Who took it. The process may have ended and left it to a child.
    pub(crate) pid: u32,
    pub(crate) exclusive: bool,
}

impl Locks {
    /// Reads the locks of the files that are `wanted`. Where the kernel shows no list there are none.
    ///
    /// The kernel gives a long list in pieces, and may repeat or leave out something in between if others lock
    /// meanwhile. So it is read until it says the same twice about these files.
    pub(crate) fn read(wanted: impl Fn(FileId) -> bool) -> Self {
        let mut last = Self::default();
        for attempt in 0..ATTEMPTS {
            let list = match read_list() {
                Ok(list) => Self::parse(&list, &wanted),
                Err(error) => {
                    tracing::debug!(%error, "the kernel's list of locks can't be read; holders stay nameless");
                    return Self::default();
                }
            };
            if attempt > 0 && list == last {
                break;
            }
            last = list;
        }
        last
    }

    fn parse(list: &str, wanted: impl Fn(FileId) -> bool) -> Self {
        let mut locks: HashMap<FileId, Vec<Lock>> = HashMap::new();
        for (id, lock) in list.lines().filter_map(line).filter(|(id, _)| wanted(*id)) {
            locks.entry(id).or_default().push(lock);
        }
        locks.values_mut().for_each(|locks| locks.sort_unstable());
        Self(locks)
    }

    pub(crate) fn of(&self, id: FileId) -> &[Lock] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }
}

/// In reads as long as the kernel's pieces, so that there are as few as can be.
fn read_list() -> std::io::Result<String> {
    let mut file = File::open("/proc/locks")?;
    let (mut list, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(String::from_utf8_lossy(&list).into_owned()),
            Ok(length) => list.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF`; those who wait have `->` in the second column.
fn line(line: &str) -> Option<(FileId, Lock)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let exclusive = fields.nth(1)? == "WRITE";
    let pid = fields.next()?.parse().ok()?;
    let mut file = fields.next()?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    let inode = file.next()?.parse().ok()?;
    Some((FileId { device: rustix::fs::makedev(major, minor), inode }, Lock { pid, exclusive }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_understood_and_anything_else_is_passed_over() {
        let locks = Locks::parse(
            "1: FLOCK  ADVISORY  WRITE 4711 fe:10:123 0 EOF\n\
             1: -> FLOCK  ADVISORY  WRITE 4712 fe:10:123 0 EOF\n\
             2: POSIX  ADVISORY  WRITE 5 fe:10:123 0 EOF\n\
             3: FLOCK  ADVISORY  READ 7 00:1a:9 0 EOF\n\
             4: FLOCK  ADVISORY  READ 8 00:1a:9 0 EOF\n\
             garbage\n\n5: FLOCK\n6: FLOCK ADVISORY WRITE x fe:10:123 0 EOF\n7: FLOCK ADVISORY WRITE 1 zz 0 EOF\n",
            |_| true,
        );
        let disk = FileId { device: rustix::fs::makedev(0xfe, 0x10), inode: 123 };
        assert_eq!(locks.of(disk), [Lock { pid: 4711, exclusive: true }]);
        let readers: Vec<_> =
            locks.of(FileId { device: rustix::fs::makedev(0, 0x1a), inode: 9 }).iter().map(|l| l.pid).collect();
        assert_eq!(readers, [7, 8]);
        assert!(locks.of(FileId { device: 0, inode: 0 }).is_empty());
    }

    #[test]
    fn a_lock_of_this_process_is_on_the_list() {
        let file = tempfile::tempfile().unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let id = FileId::of(&rustix::fs::fstat(&file).unwrap());
        assert_eq!(Locks::read(|file| file == id).of(id), [Lock { pid: std::process::id(), exclusive: true }]);
    }
}
