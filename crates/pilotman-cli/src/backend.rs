//! Which backend: from the command line, the environment, or the default. And how to show it without its secrets.

use std::env;
use std::ffi::OsStr;

use pilotman::blocking::Locks;

use crate::events::say;
use crate::exit::{Code, Failure};

mod default;
mod secret;

pub(crate) use pilotman::BACKEND_VARIABLE as VARIABLE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Argument,
    Environment,
    Default,
}

/// The backend that was asked for.
pub(crate) struct Backend {
    url: String,
    pub(crate) origin: Origin,
}

impl Backend {
    /// Chooses: `argument`, else the environment variable, else files of this user. Warns of secrets that others can
    /// read.
    pub(crate) fn choose_to_look(argument: Option<String>) -> Result<Self, Failure> {
        let backend = Self::choose(argument)?;
        if let Some(warning) = backend.warning() {
            say(&format!("warning: {warning}"));
        }
        Ok(backend)
    }

    fn choose(argument: Option<String>) -> Result<Self, Failure> {
        if let Some(url) = argument {
            return Ok(Self { url, origin: Origin::Argument });
        }
        match env::var(VARIABLE) {
            Ok(url) if !url.is_empty() => Ok(Self { url, origin: Origin::Environment }),
            Err(env::VarError::NotUnicode(_)) => {
                Err(Failure::new(Code::Misconfigured, format!("{VARIABLE} is not valid UTF-8; percent-encode the URL")))
            }
            _ => default::url().map(|url| Self { url, origin: Origin::Default }),
        }
    }

    /// Chooses likewise, without a warning. Lock files will say that `program` holds them, for others to read.
    pub(crate) fn choose_to_hold(argument: Option<String>, program: &OsStr) -> Result<Self, Failure> {
        let mut backend = Self::choose(argument)?;
        backend.url = default::with_holder(backend.url, program);
        Ok(backend)
    }

    pub(crate) fn connect(&self) -> Result<Locks, Failure> {
        Locks::connect(&self.url).map_err(|error| {
            let Failure { code, message } = Failure::from(error);
            Failure { code, message: format!("the URL {}: {}", self.origin(), secret::scrub(&self.url, &message)) }
        })
    }

    /// What to warn of, if a secret stands where other users can read it.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.origin == Origin::Argument && secret::is_in(&self.url)).then(|| {
            format!(
                "the URL has a password, and other users can read command lines; put the URL into {VARIABLE} instead"
            )
        })
    }

    /// Whether the environment variable may be passed on to a child: it is what we use ourselves, and it is harmless.
    pub(crate) fn may_be_inherited(&self) -> bool {
        self.origin == Origin::Environment && !secret::is_in(&self.url)
    }

    /// The URL and where it comes from, without secrets. Only for a URL that could be read: of any other nobody knows
    /// what is in it.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", secret::scrub(&self.url, &self.url), self.origin())
    }

    fn origin(&self) -> &'static str {
        match self.origin {
            Origin::Argument => "of --backend",
            Origin::Environment => "of PILOTMAN_BACKEND",
            Origin::Default => "of the default backend",
        }
    }
}
