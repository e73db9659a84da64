//! The processes below one, for servers whose children lead groups of their own and so can't be signalled with it.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A wait that nothing interrupts and that lasts for so long is none for a disk.
const ASLEEP: Duration = Duration::from_millis(300);
/// For what the kernel does soon.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// A process as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: i32,
    state: char,
    parent: i32,
    group: i32,
}

/// Stopped processes below another one that is stopped. Nobody reaps them, so that their ids stay theirs.
#[derive(Debug, Default)]
pub(crate) struct Stopped {
    entries: Vec<Entry>,
}

impl Stopped {
    /// Stops everything below a process that was sent the signal to stop, and waits until all have stopped.
    ///
    /// Their groups are told to the watchdog: frozen processes can't see that their server is gone, and would stay.
    pub(crate) fn below(root: Pid) -> io::Result<Self> {
        let (root, start) = (root.as_raw_nonzero().get(), Instant::now());
        let mut stopped = Self::default();
        loop {
            let all = processes()?;
            let tree = below(&all, root);
            let asleep = start.elapsed() > ASLEEP;
            let mut settled = all.iter().all(|entry| entry.id != root || is_still(entry, asleep));
            for entry in tree {
                settled &= is_still(&entry, asleep);
                if stopped.entries.iter().all(|known| known.id != entry.id) {
                    settled = false;
                    stopped.entries.push(entry);
                    signal(entry.id, Signal::STOP)?;
                    if entry.group == entry.id {
                        crate::watchdog::watch(entry.group.unsigned_abs())?;
                    }
                }
            }
            if settled {
                return Ok(stopped);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not all of process {root} has stopped")));
            }
            thread::sleep(POLL);
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(self) -> io::Result<()> {
        self.entries.iter().try_for_each(|entry| signal(entry.id, Signal::CONT))?;
        self.forget()
    }

    /// Ends them. Their parents must end, too, before [`Self::wait_gone`] can return.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.entries.iter().try_for_each(|entry| signal(entry.id, Signal::KILL))
    }

    /// Waits until they have ended and so let go of what they shared.
    pub(crate) fn wait_gone(self) -> io::Result<()> {
        let start = Instant::now();
        while self.entries.iter().any(|entry| entry_of(entry.id).is_some_and(|now| now.state != 'Z')) {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "killed processes are still there"));
            }
            thread::sleep(POLL);
        }
        self.forget()
    }

    fn forget(self) -> io::Result<()> {
        let mut leaders = self.entries.iter().filter(|entry| entry.group == entry.id);
        leaders.try_for_each(|entry| crate::watchdog::forget(entry.group.unsigned_abs()))
    }
}

/// Waits until all processes of a group that was sent the signal to stop have stopped: until then they still answer.
pub(crate) fn wait_stopped(group: Pid) -> io::Result<()> {
    let (group, start) = (group.as_raw_nonzero().get(), Instant::now());
    while processes()?.iter().any(|entry| entry.group == group && !is_still(entry, start.elapsed() > ASLEEP)) {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not all of group {group} has stopped")));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Whether it runs nothing any more: each thread stops for itself. One that has long been in a wait that nothing interrupts
/// counts, if `asleep` says so: who started a child by `vfork` that was stopped before it was another program never stops, and
/// runs nothing either.
fn is_still(entry: &Entry, asleep: bool) -> bool {
    let is_still = |state| matches!(state, 'T' | 't' | 'Z' | 'X') || asleep && state == 'D';
    let threads = || fs::read_dir(format!("/proc/{}/task", entry.id)).into_iter().flatten().flatten();
    // What can't be read has ended.
    let state = |thread: fs::DirEntry| Some(parse(0, &fs::read_to_string(thread.path().join("stat")).ok()?)?.state);
    is_still(entry.state) && threads().filter_map(state).all(is_still)
}

fn signal(id: i32, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(id) else { return Ok(()) };
    match kill_process(pid, signal) {
        // It ended just before its parent stopped.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// Everything that has `root` among its ancestors.
fn below(all: &[Entry], root: i32) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for entry in all.iter().filter(|entry| entry.parent == parent) {
            parents.push(entry.id);
            found.push(*entry);
        }
    }
    found
}

/// All processes. Empty where the kernel doesn't list them in files.
fn processes() -> io::Result<Vec<Entry>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.filter_map(entry_of).collect())
}

fn entry_of(id: i32) -> Option<Entry> {
    parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn parse(id: i32, stat: &str) -> Option<Entry> {
    // The name before it may have any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Entry { id, state, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let expected = Entry { id: 7, state: 'S', parent: 3, group: 5 };
        assert_eq!(parse(7, "7 (a) R 1 1 (x) S 3 5 5 0 -1"), Some(expected));
        assert_eq!(parse(7, "7 (a"), None);
    }

    #[test]
    fn all_generations_are_found() {
        let entry = |id, parent| Entry { id, state: 'S', parent, group: id };
        let all = [entry(2, 1), entry(3, 2), entry(4, 3), entry(5, 1), entry(6, 2)];
        let mut ids: Vec<i32> = below(&all, 2).iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 6]);
    }
}
