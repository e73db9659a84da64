//! Programs of another release of Debian, unpacked into the build directory with the libraries that they need: nothing
//! of the system is touched, and no package's scripts run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What Debian calls this machine, its loader inside a root, and the directory of its libraries.
const ARCHITECTURE: Option<(&str, &str, &str)> = if cfg!(target_arch = "x86_64") {
    Some(("amd64", "lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"))
} else if cfg!(target_arch = "aarch64") {
    Some(("arm64", "lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"))
} else {
    None
};
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks these packages of a release, with all that they depend on, into `roots/SUITE`, and makes their programs
/// known in `roots/bin` by the release and their name.
///
/// # Errors
///
/// When this is no Debian whose mirror has the release, or a program that it takes fails.
pub(super) fn install(roots: &Path, suite: &str, packages: &[&str]) -> Result<()> {
    let Some((architecture, loader, libraries)) = ARCHITECTURE else {
        bail!("the loader of this machine's programs is not known")
    };
    let (root, state) = (roots.join(suite), roots.join(format!("{suite}-apt")));
    let archives = state.join("cache/archives");
    let sources = state.join("sources.list");
    for directory in [state.join("lists/partial"), archives.join("partial"), state.join("dpkg")] {
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    // Nothing counts as installed, so that everything comes along down to the C library.
    fs::write(state.join("dpkg/status"), "")?;
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?))?;
    shell::run(apt_get(&state, architecture).arg("update"))?;
    let install = ["-y", "--no-install-recommends", "--download-only", "install"];
    shell::run(apt_get(&state, architecture).args(install).args(packages))?;

    make_directories(&root)?;
    for archive in files(&archives)?.iter().filter(|path| path.extension().is_some_and(|name| name == "deb")) {
        unpack(archive, &root)?;
    }
    // The lists and archives are several times the size of what was in them.
    fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    let programs = roots.join("bin");
    fs::create_dir_all(&programs)?;
    for directory in ["usr/bin", "usr/sbin"] {
        for program in files(&root.join(directory))? {
            let Some(name) = program.file_name().and_then(|name| name.to_str()) else { continue };
            // Packages have scripts, too, which the system's own interpreter runs as it is.
            if is_elf(&program) {
                let wrapper = programs.join(format!("{suite}-{name}"));
                let text = wrapper_text(&root, loader, libraries, &program);
                write_program(&wrapper, &text).with_context(|| format!("cannot write {}", wrapper.display()))?;
            }
        }
    }
    Ok(())
}

fn apt_get(state: &Path, architecture: &str) -> Command {
    let mut command = Command::new("apt-get");
    let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
    for option in [
        option("Dir::State::lists", state.join("lists")),
        option("Dir::State::status", state.join("dpkg/status")),
        option("Dir::Cache", state.join("cache")),
        option("Dir::Etc::sourcelist", state.join("sources.list")),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("APT::Architecture={architecture}"),
        // The user that apt downloads as can't write into a build directory.
        "APT::Sandbox::User=".to_owned(),
        // Retried, since one lost connection among many files would fail it all.
        "Acquire::Retries=3".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The mirror of Debian that this machine uses.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    mirror_of(&shell::output(&mut command)?).context("no mirror of Debian is among apt's sources")
}

/// The first repository that is Debian's and not its security updates, which don't have everything.
fn mirror_of(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| line.strip_prefix("Debian Debian ")).map(|uri| uri.trim().to_owned())
}

/// `/bin` and its like are links in today's Debian, and no package has them.
fn make_directories(root: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        #[cfg(unix)]
        if fs::symlink_metadata(root.join(name)).is_err() {
            std::os::unix::fs::symlink(Path::new("usr").join(name), root.join(name))?;
        }
    }
    Ok(())
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    let mut tar = Command::new("dpkg-deb");
    tar.arg("--fsys-tarfile").arg(archive).stdout(std::process::Stdio::piped());
    let mut source = tar.spawn().context("cannot start dpkg-deb")?;
    let output = source.stdout.take().context("dpkg-deb has no output")?;
    let mut extract = Command::new("tar");
    extract.arg("-x").arg("-C").arg(root).args(["--keep-directory-symlink", "--no-same-owner"]).stdin(output);
    let extracted = extract.status().context("cannot start tar")?;
    if !source.wait()?.success() || !extracted.success() {
        bail!("cannot unpack {}", archive.display());
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_elf(path: &Path) -> bool {
    // Also false for a link that leads out of the root, and so nowhere.
    fs::File::open(path).and_then(start_of).is_ok_and(|start| start == *b"\x7fELF")
}

fn start_of(mut file: fs::File) -> std::io::Result<[u8; 4]> {
    let mut start = [0; 4];
    std::io::Read::read_exact(&mut file, &mut start)?;
    Ok(start)
}

/// The root's own loader and libraries: the system's C library may be older.
fn wrapper_text(root: &Path, loader: &str, libraries: &str, program: &Path) -> String {
    let quoted = |path: PathBuf| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (loader, libraries) = (quoted(root.join("usr").join(loader)), quoted(root.join("usr/lib").join(libraries)));
    format!("#!/bin/sh\nexec {loader} --library-path {libraries} {} \"$@\"\n", quoted(program.to_owned()))
}

fn write_program(path: &Path, text: &str) -> std::io::Result<()> {
    fs::write(path, text)?;
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_main_one() {
        let targets = "Debian Debian-Security http://mirror/debian-security/\n\
                       Somebody Tools http://else/tools/\nDebian Debian http://mirror/debian/\n";
        assert_eq!(mirror_of(targets).as_deref(), Some("http://mirror/debian/"));
        assert_eq!(mirror_of("Ubuntu Ubuntu http://mirror/ubuntu/\n"), None);
    }

    #[test]
    fn a_wrapper_survives_any_path() {
        let text = wrapper_text(Path::new("/it's/r"), "lib64/ld.so", "triple", Path::new("/it's/r/usr/bin/db"));
        let expected = r#"exec '/it'\''s/r/usr/lib64/ld.so' --library-path '/it'\''s/r/usr/lib/triple' '/it'\''s/r/usr/bin/db' "$@""#;
        assert_eq!(text.lines().nth(1), Some(expected));
    }

    #[test]
    fn only_programs_of_the_machine_get_a_wrapper() {
        let directory = tempfile::tempdir().unwrap();
        let (script, program) = (directory.path().join("script"), directory.path().join("program"));
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::write(&program, b"\x7fELF\x02\x01").unwrap();
        assert!(is_elf(&program) && !is_elf(&script) && !is_elf(&directory.path().join("none")));
    }
}
