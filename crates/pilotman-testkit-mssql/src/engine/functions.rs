//! Functions, and the values that begin with `@@`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{Stop, no_column, no_function};
use super::evaluate::{Row, compare, truth};
use super::procedures::{no_transaction, principal};
use super::run::Run;
use crate::locks::{Key, Mode, Owner};
use crate::sql::ast::Expression;
use crate::wire::tokens::SqlError;
use crate::wire::types::Value;

/// What `@@VERSION` begins with, as the server names itself.
const VERSION: &str = "Microsoft SQL Server 2019 (stand-in of a test kit) - 15.0.2000.0";

impl Run<'_> {
    pub(super) fn global(&mut self, name: &str) -> Result<Value, Stop> {
        let number = |number: i64| Ok(Value::Int(number));
        match name {
            "spid" => number(self.session.id.into()),
            "trancount" => number(self.state.transactions.into()),
            "error" => number(self.state.error.into()),
            "rowcount" => number(i64::try_from(self.state.rows).unwrap_or(i64::MAX)),
            "lock_timeout" => number(self.state.lock_timeout),
            "nestlevel" => number(self.depth.into()),
            "max_connections" => number(32_767),
            "options" => number(0),
            "version" => Ok(Value::Text(VERSION.to_owned())),
            "servername" | "servicename" => Ok(Value::Text(crate::NAME.to_owned())),
            _ => {
                self.server.log_unknown(format!("@@{name}"));
                Err(super::error::no_variable(&format!("@@{name}")).into())
            }
        }
    }

    /// A word that is neither in quotes nor a column: some functions have no parentheses.
    pub(super) fn bare(&mut self, name: &str) -> Result<Value, Stop> {
        match name.to_uppercase().as_str() {
            "SYSTEM_USER" => Ok(Value::Text(self.session.login.clone())),
            "CURRENT_USER" | "SESSION_USER" | "USER" => Ok(Value::Text("dbo".to_owned())),
            "CURRENT_TIMESTAMP" => Ok(now()),
            _ => Err(no_column(name).into()),
        }
    }

    pub(super) fn function(&mut self, name: &str, arguments: &[Expression], row: &Row<'_>) -> Result<Value, Stop> {
        let own = name.rsplit('.').next().unwrap_or(name).to_uppercase();
        // These look at an argument only when they need it.
        match (own.as_str(), arguments) {
            ("COALESCE" | "ISNULL", arguments) => {
                for argument in arguments {
                    let value = self.evaluate(argument, row)?;
                    if value != Value::Null {
                        return Ok(value);
                    }
                }
                return Ok(Value::Null);
            }
            ("IIF", [condition, yes, no]) => {
                let chosen = if truth(&self.evaluate(condition, row)?) { yes } else { no };
                return self.evaluate(chosen, row);
            }
            _ => {}
        }
        let mut values = Vec::new();
        for argument in arguments {
            values.push(self.evaluate(argument, row)?);
        }
        if let Some(value) = self.about_locks(&own, &values)? {
            return Ok(value);
        }
        if let Some(value) = self.about_server(&own, &values) {
            return Ok(value);
        }
        if let Some(value) = self.about_session(&own, &values) {
            return Ok(value);
        }
        if let Some(value) = of_text(&own, &values) {
            return Ok(value);
        }
        self.server.log_unknown(format!("{name}() with {} arguments", values.len()));
        Err(no_function(name).into())
    }

    fn about_locks(&mut self, name: &str, values: &[Value]) -> Result<Option<Value>, SqlError> {
        match (name, values) {
            ("APPLOCK_MODE", [principal, resource, owner]) => {
                let Some((owner, key)) = self.lock_asked(principal, resource, owner)? else {
                    return Ok(Some(Value::Null));
                };
                let mode = self.server.locks().mode(owner, &key);
                Ok(Some(Value::Text(mode.map_or("NoLock", Mode::name).to_owned())))
            }
            ("APPLOCK_TEST", [principal, resource, mode, owner]) => {
                let Some((owner, key)) = self.lock_asked(principal, resource, owner)? else {
                    return Ok(Some(Value::Null));
                };
                let mode = Mode::requested(&mode.text()).ok_or_else(|| wrong("APPLOCK_TEST"))?;
                if owner.transaction == Some(0) {
                    return Err(no_transaction());
                }
                let free = self.server.locks().would_grant(owner, &key, mode);
                Ok(Some(Value::Int(free.into())))
            }
            _ => Ok(None),
        }
    }

    /// `None` where something is NULL.
    fn lock_asked(&self, by: &Value, resource: &Value, owner: &Value) -> Result<Option<(Owner, Key)>, SqlError> {
        if [by, resource, owner].contains(&&Value::Null) {
            return Ok(None);
        }
        let principal = principal(Some(by)).ok_or_else(|| wrong("APPLOCK_MODE"))?;
        let key = Key::new(&self.state.database, &principal, &resource.text());
        let session = self.session.id;
        let owner = match owner.text().trim_end().to_lowercase().as_str() {
            "session" => Owner::session(session),
            // Outside a transaction there is nothing that it could hold.
            "transaction" => self.state.transaction_owner(session).unwrap_or(Owner::transaction(session, 0)),
            _ => return Err(wrong("APPLOCK_MODE")),
        };
        Ok(Some((owner, key)))
    }

    fn about_session(&self, name: &str, values: &[Value]) -> Option<Value> {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let caught = self.state.caught.as_ref();
        match (name, values) {
            ("XACT_STATE", []) => Some(Value::Int((self.state.transactions > 0).into())),
            ("SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN", []) => text(&self.session.login),
            ("USER_NAME" | "SCHEMA_NAME", []) => text("dbo"),
            ("HOST_NAME", []) => text(&self.session.host),
            ("APP_NAME" | "PROGRAM_NAME", []) => text(&self.session.program),
            ("ERROR_NUMBER", []) => Some(caught.map_or(Value::Null, |error| Value::Int(error.number.into()))),
            ("ERROR_MESSAGE", []) => Some(caught.map_or(Value::Null, |error| Value::Text(error.message.clone()))),
            ("ERROR_SEVERITY", []) => Some(caught.map_or(Value::Null, |error| Value::Int(error.class.into()))),
            ("ERROR_STATE", []) => Some(caught.map_or(Value::Null, |error| Value::Int(error.state.into()))),
            ("ERROR_PROCEDURE", []) => Some(caught.map_or(Value::Null, |error| Value::Text(error.procedure.clone()))),
            _ => None,
        }
    }
}

fn wrong(function: &str) -> SqlError {
    SqlError::new(15600, format!("An invalid parameter or option was specified for '{function}'."))
}

/// Functions of their arguments alone.
fn of_text(name: &str, values: &[Value]) -> Option<Value> {
    let null = values.contains(&Value::Null);
    let text = |text: String| Some(Value::Text(text));
    let count = |count: usize| Some(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)));
    let signs = |value: &Value| value.text().chars().collect::<Vec<char>>();
    let place = |value: &Value| usize::try_from(value.whole().max(0)).unwrap_or(0);
    match (name, values) {
        ("CONCAT", values) => text(values.iter().map(Value::text).collect()),
        ("GETDATE" | "GETUTCDATE" | "SYSDATETIME" | "SYSUTCDATETIME", []) => Some(now()),
        ("NULLIF", [left, right]) => {
            let same = compare(left, right, false) == Some(std::cmp::Ordering::Equal);
            Some(if same { Value::Null } else { left.clone() })
        }
        (
            "SUBSTRING" | "LEFT" | "RIGHT" | "LEN" | "DATALENGTH" | "UPPER" | "LOWER" | "LTRIM" | "RTRIM" | "TRIM"
            | "CHARINDEX" | "REPLACE" | "QUOTENAME",
            [_, ..],
        ) if null => Some(Value::Null),
        ("SUBSTRING", [value, start, length]) => {
            // The first sign is 1. What lies before it counts, too.
            let end = start.whole().saturating_add(length.whole()).saturating_sub(1);
            let skipped = place(&Value::Int(start.whole().saturating_sub(1)));
            let taken = place(&Value::Int(end)).saturating_sub(skipped);
            text(signs(value).into_iter().skip(skipped).take(taken).collect())
        }
        ("LEFT", [value, length]) => text(signs(value).into_iter().take(place(length)).collect()),
        ("RIGHT", [value, length]) => {
            let signs = signs(value);
            text(signs[signs.len().saturating_sub(place(length))..].iter().collect())
        }
        ("LEN", [value]) => count(value.text().trim_end_matches(' ').encode_utf16().count()),
        ("DATALENGTH", [value]) => count(value.text().encode_utf16().count() * 2),
        ("UPPER", [value]) => text(value.text().to_uppercase()),
        ("LOWER", [value]) => text(value.text().to_lowercase()),
        ("LTRIM", [value]) => text(value.text().trim_start().to_owned()),
        ("RTRIM", [value]) => text(value.text().trim_end().to_owned()),
        ("TRIM", [value]) => text(value.text().trim().to_owned()),
        ("CHARINDEX", [wanted, value]) => {
            let (wanted, value) = (wanted.text().to_lowercase(), value.text().to_lowercase());
            count(value.find(&wanted).map_or(0, |place| value[..place].chars().count() + 1))
        }
        ("REPLACE", [value, old, new]) => text(value.text().replace(&old.text(), &new.text())),
        ("QUOTENAME", [value]) => text(format!("[{}]", value.text().replace(']', "]]"))),
        _ => None,
    }
}

fn now() -> Value {
    let (days, ticks) = moment(SystemTime::now());
    Value::DateTime(days, ticks)
}

/// Days since 1900-01-01, and 1/300 seconds.
pub(super) fn moment(time: SystemTime) -> (i32, u32) {
    const DAYS_BEFORE_1970: i32 = 25_567;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let days = i32::try_from(seconds / 86_400).unwrap_or(0) + DAYS_BEFORE_1970;
    let ticks = (seconds % 86_400) * 300 + u64::from(since.subsec_millis()) * 3 / 10;
    (days, u32::try_from(ticks).unwrap_or(0))
}
