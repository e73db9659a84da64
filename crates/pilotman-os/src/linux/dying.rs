//! Whether a process that the kernel reports dead has really stopped.
//!
//! The thread that stands for a process can end a moment before its other threads do: one may be in the middle of a long
//! system call, writing what the lock protects. The lock passes on only when none of them can do anything any more.

use std::fs;

/// The number of SIGKILL, as a bit of a signal mask.
const KILL: u64 = 1 << 8;

/// When a process started, in the kernel's ticks; `None` if there is none, or it can't be seen.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    start_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn start_in(stat: &[u8]) -> Option<u64> {
    // The name may contain anything, also half a sign, since the kernel cuts it; but nothing after it contains a parenthesis.
    let stat = String::from_utf8_lossy(stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether no thread of the process can act any more: it is gone, or all that is left of it is on its way out. What has
/// been started by `exec` in its place is another program. Where `/proc` does not show the process, it counts as gone. A start of
/// zero was not known when the process came.
pub(crate) fn has_stopped(pid: u32, start: u64) -> bool {
    match start_of(pid) {
        Some(other) if start == 0 || other == start => {}
        _ => return true,
    }
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    !tasks
        .flatten()
        .filter_map(|task| fs::read(task.path().join("status")).ok())
        .any(|status| may_still_act(&String::from_utf8_lossy(&status)))
}

/// Whether a thread is doomed (it was sent SIGKILL, as all threads of a dying process are) but has not taken notice.
fn may_still_act(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let ended = field("State:").is_none_or(|state| state.starts_with(['Z', 'X']));
    let pending = field("SigPnd:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    !ended && pending & KILL != 0
}

/// Whether the process certainly exists no longer.
pub(crate) fn is_gone(pid: u32, start: u64) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return true };
    match rustix::process::test_kill_process(process) {
        Err(rustix::io::Errno::SRCH) => true,
        _ => start != 0 && start_of(pid).is_some_and(|other| other != start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_gone_and_has_a_start() {
        let pid = std::process::id();
        let start = start_of(pid).unwrap();
        assert!(!is_gone(pid, start));
        assert!(is_gone(pid, start + 1), "a later one of the same number");
        assert!(!is_gone(pid, 0), "it could not be told when it came");
        assert!(is_gone(0x3fff_fff0, start));
        assert!(has_stopped(0x3fff_fff0, start));
    }

    #[test]
    fn a_name_that_is_cut_in_a_sign_hides_no_start() {
        let rest = b") S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        for name in [&b"plain"[..], b"a) b", &"\u{43f}\u{440}".as_bytes()[..3]] {
            assert_eq!(start_in(&[b"7 (", name, rest].concat()), Some(4711), "{name:?}");
        }
        assert_eq!(start_in(b"7 (x"), None);
    }

    #[test]
    fn a_doomed_thread_may_still_act_until_it_is_a_zombie() {
        let status = |state: &str, pending: &str| format!("Name:\tx)\nState:\t{state}\nSigPnd:\t{pending}\n");
        assert!(may_still_act(&status("D (disk sleep)", "0000000000000100")));
        assert!(may_still_act(&status("R (running)", "0000000000000102")));
        assert!(!may_still_act(&status("Z (zombie)", "0000000000000100")));
        assert!(!may_still_act(&status("S (sleeping)", "0000000000000000")));
        assert!(!may_still_act(""));
    }
}
