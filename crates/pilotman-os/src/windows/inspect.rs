//! Which locks are held. By whom, Windows does not tell.

use std::collections::BTreeMap;

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, NameRule, Primitive, Result};

use super::directory;
use super::failure::failed;
use super::keeper::Keeper;
use super::object::Object;
use super::physical::{self, LOCAL, Layout, PART, PERMIT, Physical, STRICT};
use super::thread::TRIED;
use crate::names::GLOBAL;
use crate::options::{OsOptions, Scope};

fn holder(primitive: &'static str) -> Holder {
    let mut holder = Holder::default();
    holder.owner = "a process that Windows does not tell".to_owned();
    holder.primitive = Some(primitive);
    holder
}

/// Those who hold what stands for a name.
pub(crate) fn holders(physical: Physical, primitive: Primitive) -> Result<Vec<Holder>> {
    let count = match physical.layout {
        Layout::Mutex | Layout::Permits(_) => {
            let mut count = 0;
            for index in 0..physical.count().min(TRIED) {
                let name = physical.object_name(index);
                count += u32::from(is_owned(&name).map_err(|code| failed("can't look at", &name, code))?);
            }
            count
        }
        Layout::Event | Layout::Semaphore(_) => Keeper::first()?.probe(&physical.into())?,
    };
    Ok((0..count).map(|_| holder(primitive.as_str())).collect())
}

fn is_owned(name: &str) -> Result<bool, super::object::Code> {
    Object::look(name)?.map_or(Ok(false), |object| object.is_owned())
}

/// The mutexes that are held, and the semaphores with a permit that is, as far as they can be the locks of these options. A
/// mutex of any other program is one, too.
pub(crate) fn list(options: &OsOptions) -> Result<Vec<Inspection>> {
    if options.dotnet_compatible {
        return Err(Error::unsupported("events and semaphores of Windows don't tell which of them are locks")
            .with_advice("ask for the locks by their names"));
    }
    let session = physical::session();
    let all = (GLOBAL, r"\BaseNamedObjects".to_owned());
    let own = (LOCAL, format!(r"\Sessions\{session}\BaseNamedObjects"));
    let places = match (options.names, options.scope) {
        (NameRule::Exact, _) if session != 0 => vec![all, own],
        (_, Scope::Session) if session != 0 => vec![own],
        _ => vec![all],
    };
    let mut found: BTreeMap<String, Inspection> = BTreeMap::new();
    for (prefix, place) in places {
        for object in directory::mutexes(&place)? {
            let Some((name, physical, primitive)) = lock_of(options.names, prefix, &object) else { continue };
            // What has gone since, or is none of our business, is not listed.
            if !is_owned(&format!("{prefix}{object}")).unwrap_or(false) {
                continue;
            }
            let inspection = found.entry(physical).or_insert_with_key(|physical| {
                let mut inspection = Inspection::default();
                inspection.name = name;
                inspection.physical = physical.clone();
                inspection
            });
            inspection.holders.push(holder(primitive.as_str()));
        }
    }
    Ok(found.into_values().collect())
}

/// What lock a mutex belongs to: its name, if that can be told, what people see, and what it is.
fn lock_of(rule: NameRule, prefix: &str, object: &str) -> Option<(Option<String>, String, Primitive)> {
    let physical = format!("{prefix}{object}");
    if object.starts_with(PART) {
        let (semaphore, number) = physical.rsplit_once('.')?;
        number.parse::<u32>().ok()?;
        let permit = Primitive::Permit(std::num::NonZeroU32::MIN);
        return semaphore.ends_with(PERMIT).then(|| (None, semaphore.to_owned(), permit));
    }
    match rule {
        NameRule::DotNet if !object.starts_with(STRICT) => Some((Some(object.to_owned()), physical, Primitive::Mutex)),
        NameRule::Strict if object.starts_with(STRICT) => Some((None, physical, Primitive::Mutex)),
        NameRule::Exact => Some((Some(physical.clone()), physical, Primitive::Mutex)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_tells_what_lock_it_is() {
        let of = |rule, object| {
            lock_of(rule, GLOBAL, object).map(|(name, physical, primitive)| (name, physical, primitive.as_str()))
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(of(NameRule::DotNet, "a"), Some((name("a"), r"Global\a".to_owned(), "mutex")));
        assert_eq!(of(NameRule::Exact, "a"), Some((name(r"Global\a"), r"Global\a".to_owned(), "mutex")));
        assert_eq!(of(NameRule::Strict, "a"), None);
        let strict = format!("{STRICT}00ff");
        assert_eq!(of(NameRule::DotNet, &strict), None);
        assert_eq!(of(NameRule::Strict, &strict), Some((None, format!("{GLOBAL}{strict}"), "mutex")));
        let permit = format!("{PART}00ff{PERMIT}.7");
        assert_eq!(of(NameRule::DotNet, &permit), Some((None, format!("{GLOBAL}{PART}00ff{PERMIT}"), "permit")));
        for other in ["pilotman.00ff.permit.token", "pilotman.", "pilotman.7"] {
            assert_eq!(of(NameRule::DotNet, other), None, "{other}");
        }
    }
}
