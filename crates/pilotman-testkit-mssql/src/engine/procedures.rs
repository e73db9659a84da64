//! `sp_getapplock` and `sp_releaseapplock`, as documented.

use std::time::Duration;

use super::applocks::BAD_CALL;
use super::calls::{Outcome, missing};
use super::error::{Stop, denied};
use super::run::Run;
use crate::locks::{Key, Mode, Owner};
use crate::wire::request::Parameter;
use crate::wire::tokens::SqlError;
use crate::wire::types::Value;

const GET: &str = "sp_getapplock";
const RELEASE: &str = "sp_releaseapplock";

/// The principals that every database has. A lock belongs to one of them.
pub(super) const PRINCIPALS: [(&str, i64); 4] = [("public", 0), ("dbo", 1), ("guest", 2), ("db_owner", 16384)];

/// The arguments of a call, by name or by place.
struct Arguments<'a> {
    names: &'a [&'a str],
    given: Vec<Option<&'a Value>>,
}

impl<'a> Arguments<'a> {
    fn of(procedure: &str, names: &'a [&'a str], parameters: &'a [Parameter]) -> Result<Self, SqlError> {
        let mut given = vec![None; names.len()];
        for (place, parameter) in parameters.iter().enumerate() {
            let place = if parameter.name.is_empty() {
                Some(place).filter(|place| *place < names.len())
            } else {
                names.iter().position(|name| name.eq_ignore_ascii_case(&parameter.name))
            };
            let Some(place) = place else {
                let message = format!("{} is not a parameter for procedure {procedure}.", parameter.name);
                return Err(SqlError::new(8145, message).state(2).of(procedure));
            };
            given[place] = Some(&parameter.value);
        }
        Ok(Self { names, given })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.given.get(place).copied().flatten()
    }
}

impl Run<'_> {
    pub(super) fn get_applock(&mut self, parameters: &[Parameter]) -> Result<Outcome, Stop> {
        self.may_execute(GET)?;
        let names = ["@Resource", "@LockMode", "@LockOwner", "@LockTimeout", "@DbPrincipal"];
        let arguments = Arguments::of(GET, &names, parameters)?;
        let Some(resource) = arguments.get("@Resource") else {
            return Err(missing(GET, "@Resource").into());
        };
        let Some(mode) = arguments.get("@LockMode") else {
            return Err(missing(GET, "@LockMode").into());
        };
        let Value::Text(resource) = resource else { return Ok(bad(GET)) };
        let Some(mode) = Mode::requested(&mode.text()) else {
            return Ok(unrecognised(GET, &mode.text(), "@LockMode"));
        };
        let owner = match self.applock_owner(GET, arguments.get("@LockOwner")) {
            Ok(owner) => owner,
            Err(outcome) => return Ok(outcome),
        };
        let timeout = match arguments.get("@LockTimeout") {
            None | Some(Value::Null) => self.state.lock_timeout,
            Some(timeout) => timeout.whole(),
        };
        let timeout = match timeout {
            -1 => None,
            timeout => match u64::try_from(timeout) {
                Ok(timeout) => Some(Duration::from_millis(timeout)),
                Err(_) => return Ok(bad(GET)),
            },
        };
        let Some(principal) = principal(arguments.get("@DbPrincipal")) else { return Ok(bad(GET)) };
        let key = Key::new(&self.state.database, &principal, resource);
        let status = self.server.acquire(self.session, owner, &key, mode, timeout)?;
        Ok(Outcome::status(status))
    }

    pub(super) fn release_applock(&mut self, parameters: &[Parameter]) -> Result<Outcome, Stop> {
        self.may_execute(RELEASE)?;
        let arguments = Arguments::of(RELEASE, &["@Resource", "@LockOwner", "@DbPrincipal"], parameters)?;
        let Some(resource) = arguments.get("@Resource") else {
            return Err(missing(RELEASE, "@Resource").into());
        };
        let Value::Text(resource) = resource else { return Ok(bad(RELEASE)) };
        let owner = match self.applock_owner(RELEASE, arguments.get("@LockOwner")) {
            Ok(owner) => owner,
            Err(outcome) => return Ok(outcome),
        };
        let Some(principal) = principal(arguments.get("@DbPrincipal")) else { return Ok(bad(RELEASE)) };
        let key = Key::new(&self.state.database, &principal, resource);
        if self.server.release(owner, &key) {
            return Ok(Outcome::status(0));
        }
        let message = format!(
            "Cannot release the application lock (Database Principal: '{principal}', Resource: '{}') because it is not currently held.",
            key.resource
        );
        Ok(Outcome::failed(BAD_CALL, SqlError::new(1223, message).of(RELEASE)))
    }

    fn may_execute(&self, procedure: &str) -> Result<(), SqlError> {
        if self.server.settings().permissions.execute { Ok(()) } else { Err(denied("EXECUTE", procedure)) }
    }

    /// `Transaction` is the default.
    fn applock_owner(&self, procedure: &str, named: Option<&Value>) -> Result<Owner, Outcome> {
        let named = match named {
            None | Some(Value::Null) => "Transaction".to_owned(),
            Some(named) => named.text(),
        };
        if named.trim_end().eq_ignore_ascii_case("Session") {
            return Ok(Owner::session(self.session.id));
        }
        if !named.trim_end().eq_ignore_ascii_case("Transaction") {
            return Err(unrecognised(procedure, &named, "@LockOwner"));
        }
        self.state
            .transaction_owner(self.session.id)
            .ok_or_else(|| Outcome::failed(BAD_CALL, no_transaction().of(procedure)))
    }
}

/// The owner `Transaction` outside a transaction.
pub(super) fn no_transaction() -> SqlError {
    let message = "You attempted to acquire a transactional application lock without an active transaction.";
    SqlError::new(15626, message)
}

/// The principal's own spelling, or `None` if there is none of that name.
pub(super) fn principal(named: Option<&Value>) -> Option<String> {
    let named = match named {
        None => "public".to_owned(),
        Some(named) => named.text(),
    };
    let known = PRINCIPALS.iter().map(|(name, _)| *name).find(|known| known.eq_ignore_ascii_case(named.trim_end()));
    known.map(str::to_owned)
}

fn bad(procedure: &str) -> Outcome {
    let message = format!("An invalid parameter or option was specified for procedure 'sys.{procedure}'.");
    Outcome::failed(BAD_CALL, SqlError::new(15600, message).of(procedure))
}

fn unrecognised(procedure: &str, value: &str, parameter: &str) -> Outcome {
    let message = format!("Option '{value}' not recognized for '{parameter}' parameter.");
    Outcome::failed(BAD_CALL, SqlError::new(15625, message).of(procedure))
}
