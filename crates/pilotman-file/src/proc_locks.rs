//! The kernel's list of locks.

use std::collections::HashMap;

use crate::file::FileId;

/// Who has a `flock` on which file, as far as the kernel shows it to this process.
#[derive(Debug, Default)]
pub(crate) struct Locks(HashMap<FileId, Vec<Lock>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Who took it. The process may have ended and left it to a child.
    pub(crate) pid: u32,
    pub(crate) exclusive: bool,
}

impl Locks {
    /// Reads the list. Where there is none it is empty.
    pub(crate) fn read() -> Self {
        match std::fs::read_to_string("/proc/locks") {
            Ok(list) => Self::parse(&list),
            Err(error) => {
                tracing::debug!(%error, "the kernel's list of locks can't be read; holders stay nameless");
                Self::default()
            }
        }
    }

    fn parse(list: &str) -> Self {
        let mut locks: HashMap<FileId, Vec<Lock>> = HashMap::new();
        for (id, lock) in list.lines().filter_map(line) {
            locks.entry(id).or_default().push(lock);
        }
        Self(locks)
    }

    pub(crate) fn of(&self, id: FileId) -> &[Lock] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
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
        assert_eq!(Locks::read().of(id), [Lock { pid: std::process::id(), exclusive: true }]);
    }
}
