//! Looking a command up before anything is locked for it.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::events::printable;
use crate::exit::{Code, Failure};

/// The file that `program` is, found as the C library finds it. It can be run, as far as one can see beforehand.
pub(crate) fn resolve(program: &OsStr) -> Result<PathBuf, Failure> {
    // Where there is no PATH, this is where the C library looks.
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    find(program, &path)
}

fn find(program: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    if program.is_empty() {
        return Err(Failure::new(Code::NotFound, "the command is empty"));
    }
    if program.as_bytes().contains(&b'/') {
        return match probe(Path::new(program)) {
            Found::Executable => Ok(program.into()),
            Found::Not(why) => Err(not_executable(program, &why)),
            Found::Nothing => Err(not_found(program)),
        };
    }
    let mut why_not = None;
    for directory in env::split_paths(path) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let candidate = directory.join(program);
        match probe(&candidate) {
            Found::Executable => return Ok(candidate),
            Found::Not(why) => why_not = Some(why),
            Found::Nothing => {}
        }
    }
    Err(why_not.map_or_else(|| not_found(program), |why| not_executable(program, &why)))
}

enum Found {
    Executable,
    Not(String),
    Nothing,
}

fn probe(path: &Path) -> Found {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Found::Not("it is a directory".into()),
        Ok(_) => match access(path, AccessFlags::X_OK) {
            Ok(()) => Found::Executable,
            Err(error) => Found::Not(error.desc().into()),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Found::Nothing,
        Err(error) => Found::Not(error.to_string()),
    }
}

/// What a failed start of `program` means.
pub(crate) fn failed(program: &OsStr, error: &std::io::Error) -> Failure {
    match error.kind() {
        // It was there when we looked: its interpreter is missing, or it is gone by now.
        ErrorKind::NotFound => Failure::new(
            Code::NotFound,
            format!("'{}' or the interpreter in its first line was not found", shown(program)),
        ),
        _ => not_executable(program, &error.to_string()),
    }
}

fn not_found(program: &OsStr) -> Failure {
    Failure::new(Code::NotFound, format!("'{}' was not found", shown(program)))
}

fn not_executable(program: &OsStr, why: &str) -> Failure {
    Failure::new(Code::NotExecutable, format!("'{}' can't be executed: {why}", shown(program)))
}

fn shown(program: &OsStr) -> String {
    printable(&program.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn commands_are_found_as_the_shell_finds_them() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        let code = |program: &str| find(program.as_ref(), &path).err().map(|failure| failure.code);

        assert_eq!(code("job"), Some(Code::NotFound));
        std::fs::write(first.path().join("job"), "").unwrap();
        assert_eq!(code("job"), Some(Code::NotExecutable));
        std::fs::write(second.path().join("job"), "").unwrap();
        std::fs::set_permissions(second.path().join("job"), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(code("job"), None);
        assert_eq!(find("job".as_ref(), &path), Ok(second.path().join("job")));

        assert_eq!(code(""), Some(Code::NotFound));
        assert_eq!(code("./no/such"), Some(Code::NotFound));
        assert_eq!(code("/dev/null/x"), Some(Code::NotFound));
        assert_eq!(code(first.path().to_str().unwrap()), Some(Code::NotExecutable));
        assert_eq!(code(second.path().join("job").to_str().unwrap()), None);
    }
}
