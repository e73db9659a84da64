//! The driver on Oracle's client library, which is loaded when the first connection is opened.

use std::time::Duration;

use oracle::Connector;
use oracle::sql_type::{OracleType, ToSql};
use pilotman_core::{Error, Result};

use super::{Bind, Call, Connection, Driver, Failure, Value};
use crate::options::{Oracle, Secret};

/// As many bytes as a text has at most that comes back.
const TEXT: u32 = 4000;
const STATEMENTS: u32 = 40;

/// See the [module](self).
pub(crate) struct Odpi {
    user: String,
    password: Secret,
    connect_string: String,
}

impl std::fmt::Debug for Odpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Odpi")
    }
}

impl Odpi {
    /// Takes the options as they are: the client library reads them.
    pub(crate) fn new(oracle: &Oracle) -> Result<Self> {
        if oracle.wallet.is_some() || oracle.wallet_password.is_some() {
            return Err(Error::misconfigured("the client library finds its wallet by itself")
                .with_advice("name it in sqlnet.ora or in the connect string (MY_WALLET_DIRECTORY)"));
        }
        Ok(Self {
            user: oracle.user.clone().unwrap_or_default(),
            password: oracle.password.clone().unwrap_or_else(|| Secret(String::new().into())),
            connect_string: oracle.connect_string.clone(),
        })
    }
}

impl Driver for Odpi {
    fn name(&self) -> &'static str {
        "odpi"
    }

    fn connect(&self, _: Duration) -> Result<Box<dyn Connection>, Failure> {
        let mut connector = Connector::new(&self.user, &*self.password.0, &self.connect_string);
        connector.external_auth(self.user.is_empty() && self.password.0.is_empty());
        let connection = connector.stmt_cache_size(STATEMENTS).driver_name("pilotman : odpi").connect();
        Ok(Box::new(Session(connection.map_err(|error| failure(&error))?)))
    }
}

struct Session(oracle::Connection);

impl Session {
    fn limit(&self, limit: Duration) -> Result<(), Failure> {
        self.0.set_call_timeout(Some(limit.max(Duration::from_millis(1)))).map_err(|error| failure(&error))
    }
}

/// Binds as the driver takes them.
fn binds(call: &Call) -> Vec<Box<dyn ToSql>> {
    let bind = |bind: &Bind| -> Box<dyn ToSql> {
        match bind {
            Bind::In(Value::Number(number)) => Box::new(*number),
            Bind::In(Value::Text(text)) => Box::new(text.clone()),
            Bind::In(Value::Null) => Box::new(None::<String>),
            Bind::OutNumber => Box::new(OracleType::Int64),
            Bind::OutText => Box::new(OracleType::Varchar2(TEXT)),
        }
    };
    call.binds.iter().map(|(_, of)| bind(of)).collect()
}

fn named<'a>(call: &'a Call, binds: &'a [Box<dyn ToSql>]) -> Vec<(&'a str, &'a dyn ToSql)> {
    call.binds.iter().zip(binds).map(|((name, _), bind)| (&**name, &**bind)).collect()
}

impl Connection for Session {
    fn run(&mut self, call: &Call, limit: Duration) -> Result<Vec<Value>, Failure> {
        self.limit(limit)?;
        let failed = |error: oracle::Error| failure(&error);
        let mut statement = self.0.statement(&call.text).build().map_err(failed)?;
        let binds = binds(call);
        statement.execute_named(&named(call, &binds)).map_err(failed)?;
        let mut outs = Vec::new();
        for (name, bind) in &call.binds {
            match bind {
                Bind::In(_) => {}
                Bind::OutNumber => {
                    let number: Option<i64> = statement.bind_value(&**name).map_err(failed)?;
                    outs.push(number.map_or(Value::Null, Value::Number));
                }
                Bind::OutText => {
                    let text: Option<String> = statement.bind_value(&**name).map_err(failed)?;
                    outs.push(text.map_or(Value::Null, Value::Text));
                }
            }
        }
        Ok(outs)
    }

    fn query(&mut self, call: &Call, limit: Duration) -> Result<Vec<Vec<Value>>, Failure> {
        self.limit(limit)?;
        let failed = |error: oracle::Error| failure(&error);
        let mut statement = self.0.statement(&call.text).build().map_err(failed)?;
        let binds = binds(call);
        let rows = statement.query_named(&named(call, &binds)).map_err(failed)?;
        let read = |row: oracle::Result<oracle::Row>| {
            let row = row.map_err(failed)?;
            let value = |of: &oracle::SqlValue<'_>| {
                let text: Option<String> = of.get().map_err(failed)?;
                let is_number = matches!(of.oracle_type().map_err(failed)?, OracleType::Number(..) | OracleType::Int64);
                Ok(match text {
                    None => Value::Null,
                    Some(text) if is_number => text.parse().map_or(Value::Null, Value::Number),
                    Some(text) => Value::Text(text),
                })
            };
            row.sql_values().iter().map(value).collect()
        };
        rows.map(read).collect()
    }

    fn ping(&mut self, limit: Duration) -> Result<(), Failure> {
        self.limit(limit)?;
        self.0.ping().map_err(|error| failure(&error))
    }

    fn serial(&self) -> Option<u64> {
        // The client library doesn't tell it.
        None
    }

    fn close(self: Box<Self>) {
        if let Err(error) = self.0.close() {
            tracing::debug!(error = %failure(&error), "a session did not log off well");
        }
    }

    /// Its calls have a time limit also when it is dropped.
    fn abort(self: Box<Self>) {
        // What can't be limited any more has no connection.
        let _ = self.limit(Duration::from_millis(250));
    }
}

fn failure(error: &oracle::Error) -> Failure {
    // The library is not there, or the server is too old for it.
    const PERMANENT: [i32; 3] = [1047, 1050, 1072];
    // A call that ran out of its time, and a connection that was closed over it.
    const LATE: [i32; 2] = [1067, 1080];
    if let Some(code) = error.oci_code() {
        let message = error.db_error().map(|error| error.message().to_owned()).unwrap_or_default();
        return Failure::server(u32::try_from(code).unwrap_or(0), message);
    }
    match error.dpi_code() {
        Some(code) if LATE.contains(&code) => Failure::late(),
        Some(code) if PERMANENT.contains(&code) => Failure::over(error.to_string()).permanent(),
        _ => Failure::over(error.to_string()),
    }
}
