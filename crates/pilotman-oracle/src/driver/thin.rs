//! Oracle's driver in Rust. It blocks, and can't be interrupted.
//!
//! Its time limits of calls are not used. When one strikes in the middle of an answer, the driver goes on with what its buffer had
//! before, panics, and panics again as it cleans up, which ends the process. Whoever waits for a call watches the time instead, and
//! leaves it to its thread.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use oracledb::{DB_TYPE_NUMBER, DB_TYPE_VARCHAR, DbType, ErrorKind, OracleNumber, Row, ToDbValue};
use pilotman_core::{Error, Result};

use super::{Bind, Call, Connection, Driver, Failure, Value};
use crate::options::Oracle;

/// So many texts keep their cursors.
const STATEMENTS: usize = 40;

/// See the [module](self).
pub(crate) struct Thin(oracledb::Config);

impl std::fmt::Debug for Thin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Thin")
    }
}

impl Thin {
    /// Reads the options, without any I/O but that of looking up an alias.
    pub(crate) fn new(oracle: &Oracle) -> Result<Self> {
        provide();
        let config = oracledb::Config::default();
        let named = config.set_program(oracle.program()).map_err(|_| {
            Error::misconfigured("the application's name has signs that Oracle's network names can't have")
        })?;
        let mut config = named
            .set_connect_string(&oracle.connect_string)
            // What the driver says quotes the string, and who has put a password there doesn't want to see it.
            .map_err(|error| Error::misconfigured(unreadable(error.kind())).with_advice(crate::options::HOW))?
            .set_driver_name("pilotman : thin")
            .set_stmtcachesize(STATEMENTS)
            .set_transport_connect_timeout(Some(oracle.connect_timeout));
        if let Some(user) = &oracle.user {
            config = config.set_user(user);
        }
        if let Some(password) = &oracle.password {
            config = config.set_password(&password.0);
        }
        if let Some(wallet) = &oracle.wallet {
            config = config.set_wallet_location(wallet.as_str());
        }
        if let Some(password) = &oracle.wallet_password {
            config = config.set_wallet_password(&password.0);
        }
        Ok(Self(config))
    }
}

fn unreadable(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TnsAliasNotFound(..) | ErrorKind::NoConfigDir => {
            "this is no connect string, and no alias in a tnsnames.ora that can be found (TNS_ADMIN)"
        }
        _ => "this connect string can't be read",
    }
}

/// The driver uses the provider of the process; we set one only if nobody has.
fn provide() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody may have been faster, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

impl Driver for Thin {
    fn name(&self) -> &'static str {
        "thin"
    }

    fn connect(&self, limit: Duration) -> Result<Box<dyn Connection>, Failure> {
        let config = self.0.clone().set_transport_connect_timeout(Some(limit));
        let connection = oracledb::connect(config).map_err(failure)?;
        Ok(Box::new(Session(connection)))
    }
}

struct Session(oracledb::Connection);

/// Binds as the driver takes them.
fn binds(call: &Call) -> Vec<Box<dyn ToDbValue>> {
    let bind = |bind: &Bind| -> Box<dyn ToDbValue> {
        match bind {
            Bind::In(Value::Number(number)) => Box::new(*number),
            Bind::In(Value::Text(text)) => Box::new(text.clone()),
            Bind::In(Value::Null) => Box::new(None::<String>),
            Bind::OutNumber => Box::new(DB_TYPE_NUMBER),
            Bind::OutText => Box::new(DB_TYPE_VARCHAR),
        }
    };
    call.binds.iter().map(|(_, of)| bind(of)).collect()
}

fn named<'a>(call: &'a Call, binds: &'a [Box<dyn ToDbValue>]) -> Vec<(&'a str, &'a dyn ToDbValue)> {
    call.binds.iter().zip(binds).map(|((name, _), bind)| (&**name, &**bind)).collect()
}

fn value(row: &Row, at: usize, of: &DbType) -> Result<Value, Failure> {
    if of == DB_TYPE_NUMBER {
        let number: Option<OracleNumber> = row.get(at).map_err(failure)?;
        // Numbers with a fraction are none that we ask for.
        let whole = |number: OracleNumber| number.to_string().parse().ok();
        return Ok(number.and_then(whole).map_or(Value::Null, Value::Number));
    }
    let text: Option<String> = row.get(at).map_err(failure)?;
    Ok(text.map_or(Value::Null, Value::Text))
}

impl Connection for Session {
    fn run(&mut self, call: &Call, _: Duration) -> Result<Vec<Value>, Failure> {
        let binds = binds(call);
        let statement = self.0.statement(&call.text).and_then(|statement| statement.build()).map_err(failure)?;
        // A statement that is dropped after a panic of the driver panics too, and that would end the process.
        let mut statement = ManuallyDrop::new(statement);
        let done = catch_unwind(AssertUnwindSafe(|| statement.execute_named(&named(call, &binds))));
        let Ok(result) = done else {
            // The panic of its end is caught for itself, and what it has of the connection goes, so that the socket can be closed.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(ManuallyDrop::into_inner(statement))));
            return Err(Failure::over("the database's answer is none that the driver knows"));
        };
        drop(ManuallyDrop::into_inner(statement));
        let mut result = result.map_err(failure)?;
        let row = result.out_bind_data();
        let outs = call.binds.iter().filter_map(|(_, bind)| match bind {
            Bind::In(_) => None,
            Bind::OutNumber => Some(DB_TYPE_NUMBER),
            Bind::OutText => Some(DB_TYPE_VARCHAR),
        });
        outs.enumerate().map(|(at, of)| value(&row, at, of)).collect()
    }

    fn query(&mut self, call: &Call, _: Duration) -> Result<Vec<Vec<Value>>, Failure> {
        let binds = binds(call);
        let rows = self.0.query_named(&call.text, &named(call, &binds)).map_err(failure)?;
        let read = |row: Result<Row, oracledb::Error>| {
            let row = row.map_err(failure)?;
            let columns = row.columns();
            (0..columns.len()).map(|at| value(&row, at, columns[at].db_type())).collect()
        };
        rows.map(read).collect()
    }

    fn ping(&mut self, _: Duration) -> Result<(), Failure> {
        self.0.ping().map_err(failure)
    }

    fn serial(&self) -> Option<u64> {
        self.0.serial_num().ok().map(|serial| serial as u64)
    }

    fn close(mut self: Box<Self>) {
        if let Err(error) = self.0.close() {
            tracing::debug!(error = %failure(error), "a session did not log off well");
        }
    }

    /// The driver says farewell whenever a connection is dropped, and waits for the answer without a limit. Without a connection
    /// it does not.
    fn abort(self: Box<Self>) {
        self.close();
    }
}

fn failure(error: oracledb::Error) -> Failure {
    let kind = error.kind();
    let permanent = match kind {
        ErrorKind::DbError(error) => {
            return Failure::server(u32::try_from(error.code()).unwrap_or(0), error.message());
        }
        ErrorKind::CallTimeoutExceeded => return Failure::late(),
        ErrorKind::TlsOperation
        | ErrorKind::PemFileOperation
        | ErrorKind::WalletUnreadable(_)
        | ErrorKind::WalletPrivateKeyInvalid(_)
        | ErrorKind::WalletPasswordMissingOrInvalid(..)
        | ErrorKind::NoCredentials
        | ErrorKind::ServerVersionNotSupported
        | ErrorKind::NotImplemented(_) => true,
        _ => false,
    };
    let failure = Failure::over(error.to_string());
    if permanent { failure.permanent() } else { failure }
}
