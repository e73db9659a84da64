//! What stands for a name: one object, or one for each permit.

use std::sync::{Arc, Mutex};

use pilotman_core::{Error, NameRule, Primitive, Result, Target};
use sha2::{Digest, Sha512};

use super::failure::failed;
use super::object::{Class, Object};
use super::security::Security;
use crate::names::{self, GLOBAL};
use crate::options::{OsOptions, Scope};
use crate::sync::lock;

/// The namespace of this session.
const LOCAL: &str = r"Local\";
/// Handles of the permits of a semaphore that are kept open.
const KEPT: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Physical {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    /// What permits and tokens are called, before their number.
    derived: String,
    security: Arc<Security>,
    open: Mutex<Vec<(u32, Arc<Object>)>>,
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
        let name = object_name(options, target.name.as_str())?;
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
        Ok(Self { derived: format!("{prefix}pilotman.{hash}"), name, layout, security, open: Mutex::default() })
    }

    /// What people see.
    pub(crate) fn shown(&self) -> String {
        match self.layout {
            Layout::Permits(_) => format!("{}.permit", self.derived),
            _ => self.name.clone(),
        }
    }

    pub(crate) fn token_name(&self) -> String {
        match self.layout {
            Layout::Permits(_) | Layout::Semaphore(_) => format!("{}.permit.token", self.derived),
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
            Layout::Permits(_) => format!("{}.permit.{index}", self.derived),
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
        if kept && let Some((_, object)) = lock(&self.open).iter().find(|(known, _)| *known == index) {
            return Ok(object.clone());
        }
        let name = self.object_name(index);
        let object = Object::open(self.class(), Some(&name), &self.security)
            .map_err(|code| failed("can't open the kernel object", &name, code))?;
        let object = Arc::new(object);
        if kept {
            let mut open = lock(&self.open);
            if open.len() < KEPT {
                open.push((index, object.clone()));
            }
        }
        Ok(object)
    }
}

/// The name of the object that stands for a name.
fn object_name(options: &OsOptions, name: &str) -> Result<String> {
    let prefix = match options.scope {
        Scope::Machine => GLOBAL,
        Scope::Session => LOCAL,
    };
    match options.names {
        NameRule::DotNet => {
            let name = names::dotnet(name);
            Ok(format!("{prefix}{}", name.strip_prefix(GLOBAL).unwrap_or(&name)))
        }
        NameRule::Strict => {
            let hash: String = Sha512::digest(name.as_bytes())[..32].iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(format!("{prefix}pilotman-strict.{hash}"))
        }
        NameRule::Exact => exact(name),
        _ => Err(Error::unsupported("the os backend does not know this rule for names")),
    }
}

fn exact(name: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::invalid_name(format!("the name is that of a kernel object, and {why}")));
    let Some(rest) = name.strip_prefix(GLOBAL).or_else(|| name.strip_prefix(LOCAL)) else {
        return refuse(r"it begins with neither Global\ nor Local\");
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
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::ErrorKind;

    #[test]
    fn exact_names_are_those_of_objects() {
        let options = OsOptions::new().names(NameRule::Exact);
        assert_eq!(object_name(&options, r"Global\a").unwrap(), r"Global\a");
        assert_eq!(object_name(&options, r"Local\a/b").unwrap(), r"Local\a/b");
        let long = format!("{GLOBAL}{}", "x".repeat(254));
        for bad in ["a", r"global\a", r"Global\", r"Global\a\b", &long] {
            assert_eq!(object_name(&options, bad).unwrap_err().kind(), ErrorKind::InvalidName, "{bad}");
        }
    }
}
