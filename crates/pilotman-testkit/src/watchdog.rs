//! Ends the children of this process when it is killed and can't do so itself.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps a list of process groups that it is told of, and kills them at the end of its input: that is when we are gone.
/// (The parent-death signal of Linux is no use here: it comes when the *thread* that started the child ends.)
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
groups=
while read -r what group; do
    kept=
    for known in $groups; do
        [ "$known" = "$group" ] || kept="$kept $known"
    done
    groups=$kept
    [ "$what" = forget ] || groups="$groups $group"
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"#;

static WATCHDOG: Mutex<Option<Child>> = Mutex::new(None);

/// Has this process group killed when this process ends without having called [`forget`].
pub(crate) fn watch(group: u32) -> io::Result<()> {
    let mut watchdog = lock();
    if watchdog.is_none() {
        *watchdog = Some(start()?);
    }
    tell(watchdog.as_mut(), "watch", group)
}

/// To be called as soon as the group's leader was reaped: its id may be given to somebody else.
pub(crate) fn forget(group: u32) -> io::Result<()> {
    tell(lock().as_mut(), "forget", group)
}

fn lock() -> MutexGuard<'static, Option<Child>> {
    // What a panic interrupts here is at worst one line that was not written.
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, so that what ends ours, such as a test runner's time-out, leaves it to do its work.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|error| io::Error::new(error.kind(), format!("cannot start the watchdog (sh): {error}")))
}

fn tell(watchdog: Option<&mut Child>, what: &str, group: u32) -> io::Result<()> {
    match watchdog.and_then(|child| child.stdin.as_mut()) {
        Some(input) => writeln!(input, "{what} {group}"),
        None => Ok(()),
    }
}
