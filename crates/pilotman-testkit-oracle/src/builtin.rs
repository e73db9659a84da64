//! The database behind the stand-in: `DBMS_LOCK`, sequences, and what little else the backend asks for.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::database::{Cell, Column, Database, OraError, Outcome, Value};
use crate::dbms_lock::{Ended, Lock, LockTable, MAXWAIT, Sid};
use crate::plsql::{self, Call, Expression, Place, Sql, Statement};

/// What a user may be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// EXECUTE on DBMS_LOCK.
    DbmsLock,
    /// CREATE SEQUENCE.
    CreateSequence,
    /// ALTER SYSTEM.
    AlterSystem,
}

/// The database behind the stand-in.
#[derive(Debug, Default)]
pub struct Builtin {
    /// Its locks.
    pub locks: LockTable,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    denied: BTreeSet<Privilege>,
    role: Option<String>,
    sequences: BTreeMap<String, i64>,
    modules: BTreeMap<Sid, String>,
    statements: Vec<String>,
    unknown: Vec<String>,
}

/// One execution of a statement.
struct Run<'a> {
    database: &'a Builtin,
    sid: Sid,
    binds: &'a [Value],
    outs: Vec<Cell>,
    inputs: Vec<bool>,
    variables: BTreeMap<String, Value>,
}

impl Database for Builtin {
    fn open(&self) -> Sid {
        self.locks.open()
    }

    fn serial(&self, sid: Sid) -> u32 {
        1000 + sid
    }

    fn execute(&self, sid: Sid, sql: &str, binds: &[Value]) -> Result<Outcome, OraError> {
        self.state().statements.push(sql.into());
        self.check(sid)?;
        let mut run = Run {
            database: self,
            sid,
            binds,
            outs: vec![None; binds.len()],
            inputs: vec![false; binds.len()],
            variables: BTreeMap::new(),
        };
        let result = run.execute(sql);
        if result.as_ref().is_err_and(|error| matches!(error.code, 900 | 942 | 6550)) {
            self.state().unknown.push(sql.into());
        }
        result
    }

    fn check(&self, sid: Sid) -> Result<(), OraError> {
        self.locks.check(sid).map_err(OraError::from)
    }

    fn end_transaction(&self, sid: Sid) {
        self.locks.end_transaction(sid);
    }

    fn interrupt(&self, sid: Sid) {
        self.locks.interrupt(sid);
    }

    fn resume(&self, sid: Sid) {
        self.locks.resume(sid);
    }

    fn kill(&self, sid: Sid) -> bool {
        self.locks.kill(sid)
    }

    fn close(&self, sid: Sid) {
        self.state().modules.remove(&sid);
        self.locks.close(sid);
    }
}

impl Builtin {
    /// Denies the user a privilege.
    pub fn deny(&self, privilege: Privilege) {
        self.state().denied.insert(privilege);
    }

    /// What `SYS_CONTEXT('USERENV', 'DATABASE_ROLE')` is; `PRIMARY` unless told otherwise.
    pub fn set_role(&self, role: &str) {
        self.state().role = Some(role.into());
    }

    /// All statements that were executed, or tried, in their order.
    pub fn statements(&self) -> Vec<String> {
        self.state().statements.clone()
    }

    /// The statements among them that the stand-in doesn't know.
    pub fn unknown_statements(&self) -> Vec<String> {
        self.state().unknown.clone()
    }

    /// The module that a session has set.
    pub fn module(&self, sid: Sid) -> Option<String> {
        self.state().modules.get(&sid).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_denied(&self, privilege: Privilege) -> bool {
        self.state().denied.contains(&privilege)
    }
}

impl From<Ended> for OraError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Interrupted => Self::new(1013, "user requested cancel of current operation"),
            Ended::Killed => Self::new(28, "your session has been killed"),
            Ended::Closed => Self::new(1012, "not logged on"),
        }
    }
}

impl Run<'_> {
    fn execute(&mut self, sql: &str) -> Result<Outcome, OraError> {
        let words: Vec<String> = sql.split_whitespace().take(6).map(str::to_uppercase).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ALTER", "SESSION", "SET", ..] => Ok(Outcome::Done),
            ["ALTER", "SYSTEM", "KILL", "SESSION", ..] => self.kill_session(sql),
            ["CREATE", "SEQUENCE", name, "START", "WITH", first] => self.create_sequence(name, first),
            ["CREATE", "SEQUENCE", name, ..] => self.create_sequence(name, "1"),
            _ => match plsql::parse(sql)? {
                Sql::Select(columns) => self.select(&columns),
                Sql::Block(statements) => self.block(&statements),
            },
        }
    }

    fn select(&mut self, selected: &[(String, Expression)]) -> Result<Outcome, OraError> {
        let mut columns = Vec::new();
        let mut row = Vec::new();
        for (name, expression) in selected {
            let value = self.value(expression)?;
            columns.push(Column { name: name.clone(), is_number: matches!(value, Value::Number(_)) });
            row.push(value);
        }
        Ok(Outcome::Rows { columns, rows: vec![row] })
    }

    fn block(&mut self, statements: &[Statement]) -> Result<Outcome, OraError> {
        // A block that names what its user may not use does nothing at all.
        let calls = |call: &Call| call.routine.starts_with("DBMS_LOCK.");
        let uses_locks = statements.iter().any(|statement| match statement {
            Statement::Call(call) | Statement::Assign(_, Expression::Call(call)) => calls(call),
            _ => false,
        });
        if uses_locks && self.database.is_denied(Privilege::DbmsLock) {
            return Err(undeclared("SYS.DBMS_LOCK"));
        }
        for statement in statements {
            match statement {
                Statement::Assign(place, expression) => {
                    let value = self.value(expression)?;
                    self.assign(place, value);
                }
                Statement::Call(call) => self.procedure(call)?,
                Statement::Immediate(sql, into) => match (self.execute(sql)?, into) {
                    (Outcome::Rows { rows, .. }, Some(place)) => {
                        let value = rows.into_iter().flatten().next();
                        self.assign(place, value.ok_or_else(|| OraError::new(1403, "no data found"))?);
                    }
                    (_, None) => {}
                    (_, Some(_)) => return Err(OraError::new(1007, "variable not in select list")),
                },
            }
        }
        Ok(Outcome::Block { outs: std::mem::take(&mut self.outs), inputs: std::mem::take(&mut self.inputs) })
    }

    fn assign(&mut self, place: &Place, value: Value) {
        let value = if value == Value::Text(String::new()) { Value::Null } else { value };
        match place {
            // A bind that the client didn't send is an error of its own, told when it's read.
            Place::Bind(number) => {
                self.outs.iter_mut().skip(*number).take(1).for_each(|out| *out = Some(value.clone()))
            }
            Place::Variable(name) => drop(self.variables.insert(name.clone(), value)),
        }
    }

    fn value(&mut self, expression: &Expression) -> Result<Value, OraError> {
        match expression {
            Expression::Text(text) => Ok(Value::Text(text.clone())),
            Expression::Number(number) => Ok(Value::Number(*number)),
            Expression::Null => Ok(Value::Null),
            Expression::Place(Place::Variable(name)) => Ok(self.variables.get(name).cloned().unwrap_or(Value::Null)),
            Expression::Place(Place::Bind(number)) => {
                let sent = self.binds.get(*number).ok_or_else(|| OraError::new(1008, "not all variables bound"))?;
                if let Some(written) = &self.outs[*number] {
                    return Ok(written.clone());
                }
                self.inputs[*number] = true;
                Ok(sent.clone())
            }
            Expression::Call(call) => self.function(call),
        }
    }

    fn function(&mut self, call: &Call) -> Result<Value, OraError> {
        let locks = &self.database.locks;
        let sid = self.sid;
        let answer = match call.routine.as_str() {
            "DBMS_LOCK.REQUEST" => {
                let given = self.arguments(call, &["LOCKHANDLE", "LOCKMODE", "TIMEOUT", "RELEASE_ON_COMMIT"])?;
                let (mode, timeout) = (given.number("LOCKMODE", 6)?, given.number("TIMEOUT", MAXWAIT)?);
                let until_commit = given.number("RELEASE_ON_COMMIT", 0)? != 0;
                locks.request(sid, given.lock()?, mode, timeout, until_commit)?
            }
            "DBMS_LOCK.CONVERT" => {
                let given = self.arguments(call, &["LOCKHANDLE", "LOCKMODE", "TIMEOUT"])?;
                let (mode, timeout) = (given.number("LOCKMODE", -1)?, given.number("TIMEOUT", MAXWAIT)?);
                locks.convert(sid, given.lock()?, mode, timeout)?
            }
            "DBMS_LOCK.RELEASE" => {
                let given = self.arguments(call, &["LOCKHANDLE"])?;
                locks.release(sid, given.lock()?)?
            }
            "SYS_CONTEXT" => {
                let given = self.arguments(call, &["NAMESPACE", "PARAMETER"])?;
                return self.context(given.text("PARAMETER")?);
            }
            sequence => {
                let next = sequence.strip_suffix(".NEXTVAL").ok_or_else(|| undeclared(sequence))?.to_owned();
                let mut state = self.database.state();
                let value =
                    state.sequences.get_mut(&next).ok_or_else(|| OraError::new(2289, "sequence does not exist"))?;
                *value += 1;
                *value
            }
        };
        Ok(Value::Number(answer))
    }

    fn procedure(&mut self, call: &Call) -> Result<(), OraError> {
        match call.routine.as_str() {
            "DBMS_LOCK.ALLOCATE_UNIQUE" => {
                let is_handle = |(index, (name, _)): &(usize, &(Option<String>, Expression))| {
                    name.as_deref().map_or(*index == 1, |name| name == "LOCKHANDLE")
                };
                let handle = call.arguments.iter().enumerate().find(is_handle);
                let Some((_, (_, Expression::Place(place)))) = handle else { return Err(wrong_arguments(call)) };
                let given = self.arguments(call, &["LOCKNAME", "LOCKHANDLE", "EXPIRATION_SECS"])?;
                let name = given.text("LOCKNAME")?;
                let handle = self.database.locks.allocate_unique(name).ok_or_else(|| {
                    OraError::new(
                        20000,
                        format!("ORU-10003: Unable to find or insert lock {name} into catalog dbms_lock_allocated"),
                    )
                })?;
                // It commits, as documented.
                self.database.locks.end_transaction(self.sid);
                self.assign(place, Value::Text(handle));
            }
            "DBMS_APPLICATION_INFO.SET_MODULE" => {
                let given = self.arguments(call, &["MODULE_NAME", "ACTION_NAME"])?;
                let module = given.text("MODULE_NAME")?.to_owned();
                self.database.state().modules.insert(self.sid, module);
            }
            other => return Err(undeclared(other)),
        }
        Ok(())
    }

    fn context(&self, parameter: &str) -> Result<Value, OraError> {
        match parameter.to_uppercase().as_str() {
            "SID" => Ok(Value::Text(self.sid.to_string())),
            "INSTANCE" => Ok(Value::Text("1".into())),
            "DATABASE_ROLE" => Ok(Value::Text(self.database.state().role.clone().unwrap_or("PRIMARY".into()))),
            _ => Err(OraError::new(2003, "invalid USERENV parameter")),
        }
    }

    fn kill_session(&self, sql: &str) -> Result<Outcome, OraError> {
        if self.database.is_denied(Privilege::AlterSystem) {
            return Err(OraError::new(1031, "insufficient privileges"));
        }
        let mut numbers = sql.split('\'').nth(1).unwrap_or_default().split(',').map(|number| number.trim().parse());
        let (Some(Ok(sid)), Some(Ok(serial))) = (numbers.next(), numbers.next()) else {
            return Err(OraError::new(26, "missing or invalid session ID"));
        };
        if sid == self.sid {
            Err(OraError::new(27, "cannot kill current session"))
        } else if serial == self.database.serial(sid) && self.database.kill(sid) {
            Ok(Outcome::Done)
        } else {
            Err(OraError::new(30, "User session ID does not exist."))
        }
    }

    fn create_sequence(&self, name: &str, first: &str) -> Result<Outcome, OraError> {
        let first: i64 = first.parse().map_err(|_| OraError::new(1722, "invalid number"))?;
        if self.database.is_denied(Privilege::CreateSequence) {
            return Err(OraError::new(1031, "insufficient privileges"));
        }
        match self.database.state().sequences.entry(name.trim_matches('"').into()) {
            Entry::Occupied(_) => Err(OraError::new(955, "name is already used by an existing object")),
            Entry::Vacant(entry) => {
                // The next one is the first.
                entry.insert(first.saturating_sub(1));
                Ok(Outcome::Done)
            }
        }
    }

    /// The arguments of a call by their names.
    fn arguments(&mut self, call: &Call, parameters: &[&'static str]) -> Result<Given, OraError> {
        let mut given = Given(BTreeMap::new());
        for (index, (name, expression)) in call.arguments.iter().enumerate() {
            let name = match name {
                None => *parameters.get(index).ok_or_else(|| wrong_arguments(call))?,
                // The overload that takes a number of the user's.
                Some(name) if name == "ID" && parameters[0] == "LOCKHANDLE" => "LOCKHANDLE",
                Some(name) => *parameters.iter().find(|known| **known == name).ok_or_else(|| wrong_arguments(call))?,
            };
            // A parameter that the routine only writes to isn't read.
            let is_out = name == "LOCKHANDLE" && parameters[0] == "LOCKNAME";
            let value = if is_out { Value::Null } else { self.value(expression)? };
            given.0.insert(name, value);
        }
        Ok(given)
    }
}

struct Given(BTreeMap<&'static str, Value>);

impl Given {
    fn number(&self, name: &str, default: i64) -> Result<i64, OraError> {
        match self.0.get(name) {
            None => Ok(default),
            // Outside the range of every parameter.
            Some(Value::Null) => Ok(-1),
            Some(Value::Number(number)) => Ok(*number),
            Some(Value::Text(text)) => {
                text.trim().parse().map_err(|_| OraError::new(6502, "PL/SQL: numeric or value error"))
            }
        }
    }

    fn text(&self, name: &str) -> Result<&str, OraError> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Null) => Ok(""),
            _ => Err(OraError::not_compiled(format_args!("PLS-00306: wrong number or types of arguments: {name}"))),
        }
    }

    fn lock(&self) -> Result<Lock<'_>, OraError> {
        match self.0.get("LOCKHANDLE") {
            Some(Value::Number(id)) => Ok(Lock::Id(*id)),
            _ => self.text("LOCKHANDLE").map(Lock::Handle),
        }
    }
}

fn undeclared(name: &str) -> OraError {
    OraError::not_compiled(format_args!("PLS-00201: identifier '{name}' must be declared"))
}

fn wrong_arguments(call: &Call) -> OraError {
    OraError::not_compiled(format_args!("PLS-00306: wrong number or types of arguments in call to '{}'", call.routine))
}
