//! A server that many test processes use: started once by `cargo xtask test`, or by the test itself where it isn't.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use super::{Running, find, start};

/// The environment variable with the servers, separated by commas, whose tests are left out.
pub const SKIP_VARIABLE: &str = "PILOTMAN_TEST_SKIP";
/// The environment variable with directories to look for programs in before `PATH`, in the form of `PATH`.
pub const SEARCH_VARIABLE: &str = "PILOTMAN_TEST_PATH";

/// A server that a test may use and must not break: others may use it at the same time.
#[derive(Debug)]
pub struct Shared {
    urls: Vec<String>,
    directory: PathBuf,
    /// The server itself, if it was started for this value only.
    _running: Option<Running>,
}

impl Shared {
    /// What to connect to: a URL that `Locks::connect` takes, one per endpoint.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The first URL.
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// The TCP ports that the URLs name, in their order.
    pub fn ports(&self) -> Vec<u16> {
        self.urls.iter().flat_map(|url| ports(url)).collect()
    }

    /// The server's directory, with its certificates if it has any: for
    /// [`Certificates::of`](crate::certificates::Certificates::of).
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The server of this name: the one that `cargo xtask test` has started, else one that lives as long as the value that
/// this returns.
///
/// # Errors
///
/// Of kind [`Unsupported`](io::ErrorKind::Unsupported) when its tests are to be left out, because it is not installed
/// and `skips.toml` allows that. Of other kinds when it is not known, not installed, or doesn't come up.
pub fn shared(name: &str) -> io::Result<Shared> {
    let kind = find(name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no server is called {name:?}")))?;
    if is_skipped(name) {
        let message = format!("{name} is not installed here, and {SKIP_VARIABLE} allows to leave its tests out");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let [urls_variable, directory_variable] = variable_names(name);
    if let (Ok(urls), Some(directory)) = (env::var(&urls_variable), env::var_os(&directory_variable)) {
        let urls: Vec<String> = urls.split(' ').filter(|url| !url.is_empty()).map(str::to_owned).collect();
        if urls.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{urls_variable} has no URL")));
        }
        return Ok(Shared { urls, directory: directory.into(), _running: None });
    }
    let running = start(kind, &search())?;
    Ok(Shared { urls: running.urls().to_vec(), directory: running.directory().to_owned(), _running: Some(running) })
}

/// As [`shared`], for the start of a test target: says so and ends this process with success when the tests are to be
/// left out.
///
/// # Panics
///
/// When the server can't be had for another reason.
pub fn shared_or_skip(name: &str) -> Shared {
    match shared(name) {
        Ok(shared) => shared,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            println!("skipped: {error}");
            process::exit(0)
        }
        Err(error) => panic!("no server {name}: {error}"),
    }
}

/// Whether the tests of this server are to be left out.
pub fn is_skipped(name: &str) -> bool {
    env::var(SKIP_VARIABLE).is_ok_and(|list| list.split(',').any(|skipped| skipped.trim() == name))
}

/// The environment by which [`shared`] finds a running server.
pub fn variables(name: &str, server: &Running) -> [(String, OsString); 2] {
    let [urls, directory] = variable_names(name);
    [(urls, server.urls().join(" ").into()), (directory, server.directory().into())]
}

fn variable_names(name: &str) -> [String; 2] {
    let urls = format!("PILOTMAN_TEST_SERVER_{}", name.to_ascii_uppercase().replace('-', "_"));
    let directory = format!("{urls}_DIR");
    [urls, directory]
}

/// Where programs are looked for before `PATH`: in [`SEARCH_VARIABLE`], and in what `cargo xtask test --install` put
/// into the build directory that this program is in.
pub fn search() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> =
        env::var_os(SEARCH_VARIABLE).map(|list| env::split_paths(&list).collect()).unwrap_or_default();
    if let Ok(program) = env::current_exe() {
        // Cargo marks its build directory so, wherever it is.
        let build = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
        directories.extend(build.into_iter().flat_map(installed_in));
    }
    directories
}

/// The directories with programs that `cargo xtask test --install` installs for this workspace only, by the build
/// directory. Programs that an npm package merely has among its files are called by their path from the second one.
pub fn installed_in(build: &Path) -> [PathBuf; 3] {
    [build.join("npm/node_modules/.bin"), build.join("npm/node_modules"), build.join("roots/bin")]
}

fn ports(url: &str) -> Vec<u16> {
    let hosts = url.split_once("://").map_or(url, |(_, rest)| rest);
    let hosts = hosts.split(['/', '?']).next().unwrap_or(hosts);
    // What stands before the last @ is a user and a password.
    let hosts = hosts.rsplit('@').next().unwrap_or(hosts);
    hosts.split(',').filter_map(|host| host.rsplit_once(':')?.1.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_in_all_forms_of_urls() {
        assert_eq!(ports("redis://127.0.0.1:6379"), [6379]);
        assert_eq!(ports("rediss://locker:a:b@127.0.0.1:7000/0?lease=5s"), [7000]);
        assert_eq!(ports("redis-sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/mymaster"), [1, 2, 3]);
        assert!(ports("memory://").is_empty());
    }

    #[test]
    fn an_unknown_server_is_an_error() {
        assert_eq!(shared("redix").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn variables_are_named_after_the_server() {
        assert_eq!(variable_names("redis-tls")[0], "PILOTMAN_TEST_SERVER_REDIS_TLS");
    }
}
