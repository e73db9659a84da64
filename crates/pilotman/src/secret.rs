//! Secrets and certificates that stand elsewhere: in the environment, or in files.

use std::env::{self, VarError};
use std::fs::File;
use std::io::Read;

use pilotman_core::{Error, Result};

use crate::query::Query;

/// No password is longer.
const LONGEST_PASSWORD: u64 = 64 << 10;
/// No bundle of certificates is longer.
#[cfg_attr(not(feature = "mysql"), allow(dead_code))]
const LONGEST_PEM: u64 = 16 << 20;

/// The names of the options that can give one secret.
pub(crate) struct Names {
    pub(crate) plain: &'static str,
    pub(crate) env: &'static str,
    pub(crate) file: &'static str,
}

/// Takes a secret from the one option that gives it, or from the URL itself.
///
/// No error has anything of what an option says: it may be the secret, in the wrong place.
pub(crate) fn take(query: &mut Query, names: &Names, in_url: Option<String>) -> Result<Option<String>> {
    let Names { plain, env, file } = *names;
    let (given, variable, path) = (query.take(plain), query.take(env), query.take(file));
    let ways = [&in_url, &given, &variable, &path].into_iter().filter(|way| way.is_some()).count();
    if ways > 1 {
        return Err(Error::misconfigured(format!("the {plain} is given {ways} times"))
            .with_advice(format!("give it in the URL, or by one of the options {plain}, {env} and {file}")));
    }
    if let Some(variable) = variable {
        return from_variable(env, &variable).map(Some);
    }
    if let Some(path) = path {
        return from_file(file, &path).map(Some);
    }
    Ok(given.or(in_url))
}

fn from_variable(option: &'static str, variable: &str) -> Result<String> {
    match env::var(variable) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Ok(_) => Err(wrong(option, "names an environment variable that is empty")),
        Err(VarError::NotUnicode(_)) => Err(wrong(option, "names an environment variable that is no UTF-8")),
        Err(VarError::NotPresent) => Err(wrong(option, "names an environment variable that is not set")),
    }
}

fn from_file(option: &'static str, path: &str) -> Result<String> {
    let bytes = read(option, path, LONGEST_PASSWORD)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(option, "names a file that is no UTF-8"))?;
    // Editors and `echo` end a file with a line break that is no part of the secret.
    let secret = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    match secret.is_empty() {
        true => Err(wrong(option, "names a file that is empty")),
        false => Ok(secret.to_owned()),
    }
}

/// Takes an option that names a file with certificates or a key, and reads that.
#[cfg_attr(not(feature = "mysql"), allow(dead_code))]
pub(crate) fn take_pem(query: &mut Query, option: &'static str) -> Result<Option<Vec<u8>>> {
    query.take(option).map(|path| read(option, &path, LONGEST_PEM)).transpose()
}

fn read(option: &'static str, path: &str, longest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more, to see whether there is more.
    let read = File::open(path).and_then(|file| file.take(longest + 1).read_to_end(&mut bytes));
    read.map_err(|error| wrong(option, "names a file that can't be read").with_source(error))?;
    match bytes.len() as u64 > longest {
        true => Err(wrong(option, "names a file that is too long to be one")),
        false => Ok(bytes),
    }
}

fn wrong(option: &'static str, how: &str) -> Error {
    Error::misconfigured(format!("the option '{option}' {how}"))
}
