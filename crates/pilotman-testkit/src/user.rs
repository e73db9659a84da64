//! Another user for servers that refuse to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What Linux calls nobody where the list of users doesn't say.
const NOBODY: (u32, u32) = (65534, 65534);

/// The user and group that servers run as, or `None` when this process has no rights to give up.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(nobody_of(&users).unwrap_or(NOBODY))
}

fn nobody_of(users: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().find_map(|line| line.strip_prefix("nobody:"))?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Has the program run without root's rights, in a directory that it may read.
pub(crate) fn give_up_rights(command: &mut Command, directory: &Path) {
    command.current_dir(directory).env("HOME", directory);
    if let Some((user, group)) = unprivileged() {
        // Root's further groups go with that, too.
        command.uid(user).gid(group);
    }
}

/// Makes a directory that the server's user owns. Those above it must let that user through.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    give(directory)
}

/// Makes a file that only the server's user reads.
pub(crate) fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)?;
    keep_secret(file)
}

/// Has only the server's user read this file.
pub(crate) fn keep_secret(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    give(file)
}

fn give(path: &Path) -> io::Result<()> {
    match unprivileged() {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_found_among_the_users() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:99:98:nobody:/:/sbin/nologin\n";
        assert_eq!(nobody_of(users), Some((99, 98)));
        assert_eq!(nobody_of("root:x:0:0:root:/root:/bin/bash\n"), None);
    }
}
