//! What stands for a name: one object, or one for each permit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use pilotman_core::{Error, NameRule, Primitive, Result, Target};
use sha2::{Digest, Sha512};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;

use super::failure::failed;
use super::object::{Class, Object, last_error};
use super::security::Security;
use super::thread::TRIED;
use crate::names::{self, GLOBAL};
use crate::options::{OsOptions, Scope};
use crate::sync::lock;

/// The namespace of this session.
pub(crate) const LOCAL: &str = r"Local\";
/// What names of objects begin with that stand for a name by its hash, after their prefix.
pub(crate) const STRICT: &str = "pilotman-strict.";
/// The same of those that stand for a part of something, such as a permit.
pub(crate) const PART: &str = "pilotman.";
/// What stands between that and the number of the permit.
pub(crate) const PERMIT: &str = ".permit";
/// Handles of the permits of a semaphore that are kept open: those that one attempt looks at.
const KEPT: usize = TRIED as usize;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Physical {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    /// What permits and tokens are called, before their number.
    derived: String,
    security: Arc<Security>,
    open: Mutex<HashMap<u32, Arc<Object>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A mutex.
    Mutex,
    /// A mutex for each permit.
    Permits(u32),
    /// The event of .NET.
    Event,
    /// The semaphore of .NET.
    Semaphore(i32),
}

impl Physical {
    pub(crate) fn new(options: &OsOptions, security: Arc<Security>, target: &Target) -> Result<Self> {
        let name = object_name(options, target.name.as_str(), session())?;
        let layout = match (target.primitive, options.dotnet_compatible) {
            (Primitive::Mutex, false) => Layout::Mutex,
            (Primitive::Mutex, true) => Layout::Event,
            (Primitive::Permit(permits), false) => Layout::Permits(permits.get()),
            (Primitive::Permit(permits), true) => Layout::Semaphore(i32::try_from(permits.get()).map_err(|_| {
                Error::misconfigured(format!("a semaphore of Windows has {} permits at most", i32::MAX))
            })?),
            _ => return Err(Error::unsupported("Windows has no reader-writer lock between processes")),
        };
        // No longer than a name may be, whatever the name is.
        let hash: String = Sha512::digest(name.as_bytes())[..24].iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = if name.starts_with(LOCAL) { LOCAL } else { GLOBAL };
        Ok(Self { derived: format!("{prefix}{PART}{hash}"), name, layout, security, open: Mutex::default() })
    }

    /// What people see.
    pub(crate) fn shown(&self) -> String {
        match self.layout {
            Layout::Permits(_) => format!("{}{PERMIT}", self.derived),
            _ => self.name.clone(),
        }
    }

    pub(crate) fn token_name(&self) -> String {
        match self.layout {
            Layout::Permits(_) | Layout::Semaphore(_) => format!("{}{PERMIT}.token", self.derived),
            _ => format!("{}.token", self.derived),
        }
    }

    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    /// Of how many objects it consists.
    pub(crate) fn count(&self) -> u32 {
        match self.layout {
            Layout::Permits(permits) => permits,
            _ => 1,
        }
    }

    /// The name of one of the objects.
    pub(crate) fn object_name(&self, index: u32) -> String {
        match self.layout {
            Layout::Permits(_) => format!("{}{PERMIT}.{index}", self.derived),
            _ => self.name.clone(),
        }
    }

    fn class(&self) -> Class {
        match self.layout {
            Layout::Mutex | Layout::Permits(_) => Class::Mutex,
            Layout::Event => Class::Event,
            Layout::Semaphore(permits) => Class::Semaphore(permits),
        }
    }

    /// Opens one of the objects. Those of .NET are not kept open: what a dead holder leaves is gone only when nobody has
    /// it open.
    pub(crate) fn open(&self, index: u32) -> Result<Arc<Object>> {
        let kept = self.class() == Class::Mutex;
        if kept && let Some(object) = lock(&self.open).get(&index) {
            return Ok(object.clone());
        }
        let name = self.object_name(index);
        let object = Object::open(self.class(), Some(&name), &self.security)
            .map_err(|code| failed("can't open the kernel object", &name, code))?;
        let object = Arc::new(object);
        if kept {
            let mut open = lock(&self.open);
            if open.len() < KEPT {
                open.insert(index, object.clone());
            }
        }
        Ok(object)
    }
}

/// The session of this process.
pub(crate) fn session() -> u32 {
    static SESSION: OnceLock<u32> = OnceLock::new();
    *SESSION.get_or_init(|| {
        let mut session = 0;
        // SAFETY: the number outlives the call.
        #[allow(unsafe_code)]
        let known = unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
        if known == 0 {
            tracing::debug!(
                code = last_error(),
                "the session of this process is not known; it counts as an interactive one"
            );
            session = u32::MAX;
        }
        session
    })
}

/// The namespace of a session. That of services, the session 0, is the one of all sessions: an object there has both names,
/// and a thread that owns it under one of them must know it under the other.
pub(crate) fn local(session: u32) -> &'static str {
    if session == 0 { GLOBAL } else { LOCAL }
}

/// The name of the object that stands for a name, in a process of this session.
fn object_name(options: &OsOptions, name: &str, session: u32) -> Result<String> {
    let prefix = match options.scope {
        Scope::Machine => GLOBAL,
        Scope::Session => local(session),
    };
    match options.names {
        NameRule::DotNet => {
            let name = names::dotnet(name);
            Ok(format!("{prefix}{}", name.strip_prefix(GLOBAL).unwrap_or(&name)))
        }
        NameRule::Strict => {
            let hash: String = Sha512::digest(name.as_bytes())[..32].iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(format!("{prefix}{STRICT}{hash}"))
        }
        NameRule::Exact => exact(name, session),
        _ => Err(Error::unsupported("the os backend does not know this rule for names")),
    }
}

fn exact(name: &str, session: u32) -> Result<String> {
    let refuse = |why: &str| Err(Error::invalid_name(format!("the name is that of a kernel object, and {why}")));
    let (prefix, rest) = match (name.strip_prefix(GLOBAL), name.strip_prefix(LOCAL)) {
        (Some(rest), _) => (GLOBAL, rest),
        (_, Some(rest)) => (local(session), rest),
        _ => return refuse(r"it begins with neither Global\ nor Local\"),
    };
    if rest.is_empty() {
        return refuse("there is nothing after its prefix");
    }
    if rest.contains('\\') {
        return refuse("it has a further backslash");
    }
    if names::units(name) > names::MAX {
        return refuse(&format!("it has more than {} UTF-16 units", names::MAX));
    }
    Ok(format!("{prefix}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::ErrorKind;

    #[test]
    fn exact_names_are_those_of_objects() {
        let options = OsOptions::new().names(NameRule::Exact);
        assert_eq!(object_name(&options, r"Global\a", 1).unwrap(), r"Global\a");
        assert_eq!(object_name(&options, r"Local\a/b", 1).unwrap(), r"Local\a/b");
        let long = format!("{GLOBAL}{}", "x".repeat(254));
        for bad in ["a", r"global\a", r"Global\", r"Local\", r"Global\a\b", &long] {
            assert_eq!(object_name(&options, bad, 1).unwrap_err().kind(), ErrorKind::InvalidName, "{bad}");
        }
    }

    #[test]
    fn the_session_of_services_has_one_name_for_an_object() {
        let one = OsOptions::new().scope(Scope::Session);
        for (session, names) in [(0, [r"Global\a", r"Global\a"]), (1, [r"Local\a", r"Global\a"])] {
            assert_eq!([&one, &OsOptions::new()].map(|options| object_name(options, "a", session).unwrap()), names);
            let exact = OsOptions::new().names(NameRule::Exact);
            let found = [r"Local\a", r"Global\a"].map(|name| object_name(&exact, name, session).unwrap());
            assert_eq!(found, names);
        }
        assert_eq!(session(), session());
    }
}
