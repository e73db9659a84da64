//! Procedures, called by `EXEC` or by a remote call.

use std::collections::BTreeMap;

use super::error::{Stop, no_procedure};
use super::run::{Run, cast};
use super::state::Prepared;
use crate::sql::ast::{Argument, Expression};
use crate::sql::declarations;
use crate::wire::request::{Call, Parameter};
use crate::wire::tokens::SqlError;
use crate::wire::types::{Type, Value};

/// What a procedure did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: i32,
    /// It raised this, too.
    pub(super) error: Option<SqlError>,
    /// OUT parameters, in the order of the call.
    pub(super) returned: Vec<(usize, Type, Value)>,
}

impl Outcome {
    pub(super) fn status(status: i32) -> Self {
        Self { status, error: None, returned: Vec::new() }
    }

    pub(super) fn failed(status: i32, error: SqlError) -> Self {
        Self { status, error: Some(error), returned: Vec::new() }
    }
}

/// The procedure's own name: `master.sys.sp_x` is `sp_x`.
fn own_name(name: &str) -> String {
    name.replace(['[', ']'], "").rsplit('.').next().unwrap_or_default().to_lowercase()
}

impl Run<'_> {
    /// A remote call. The reply has the status and the OUT parameters.
    pub(super) fn remote_call(&mut self, call: &Call) -> Result<(), Stop> {
        // The own batch of sp_executesql is in a procedure.
        let result = self.procedure(&call.procedure, &call.parameters);
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(Stop::Failed(error)) => {
                let status = -i32::from(error.class.min(99)) - 4;
                Outcome::failed(status, error)
            }
            Err(Stop::Abort) => Outcome::status(1),
            Err(stop) => return Err(stop),
        };
        if let Some(error) = &outcome.error {
            self.state.error = error.number;
            self.reply.error(error);
        }
        self.reply.status(outcome.status);
        for (ordinal, kind, value) in &outcome.returned {
            let name = call.parameters.get(*ordinal).map_or("", |parameter| &parameter.name);
            self.reply.returned(u16::try_from(*ordinal).unwrap_or(0), name, *kind, value);
        }
        self.reply.done_procedure();
        Ok(())
    }

    /// `EXEC` in a batch.
    pub(super) fn local_call(
        &mut self,
        result: Option<&str>,
        procedure: &str,
        arguments: &[Argument],
    ) -> Result<(), Stop> {
        let mut parameters = Vec::new();
        for argument in arguments {
            let value = self.value(&argument.value)?;
            parameters.push(Parameter { name: argument.name.clone(), value, out: argument.out });
        }
        let outcome = self.procedure(procedure, &parameters)?;
        if let Some(error) = outcome.error {
            if self.trying > 0 {
                return Err(error.into());
            }
            self.state.error = error.number;
            self.reply.error(&error);
        } else {
            self.state.error = 0;
        }
        for (ordinal, _, value) in &outcome.returned {
            if let Some(Argument { value: Expression::Variable(name), .. }) = arguments.get(*ordinal) {
                self.assign(name, value)?;
            }
        }
        if let Some(result) = result {
            self.assign(result, &Value::Int(outcome.status.into()))?;
        }
        self.reply.status(outcome.status);
        self.reply.done_procedure();
        Ok(())
    }

    fn procedure(&mut self, name: &str, parameters: &[Parameter]) -> Result<Outcome, Stop> {
        match own_name(name).as_str() {
            "sp_getapplock" => self.get_applock(parameters),
            "sp_releaseapplock" => self.release_applock(parameters),
            "sp_executesql" => self.execute_sql(parameters),
            "sp_prepare" => self.prepare(parameters, false),
            "sp_prepexec" => self.prepare(parameters, true),
            "sp_execute" => self.execute_prepared(parameters),
            "sp_unprepare" => {
                let handle = parameters.first().map_or(0, |parameter| parameter.value.whole());
                self.state.prepared.remove(&handle);
                Ok(Outcome::status(0))
            }
            "sp_reset_connection" => {
                self.reset();
                Ok(Outcome::status(0))
            }
            _ => {
                self.server.log_unknown(format!("EXEC {name}"));
                Err(no_procedure(name).into())
            }
        }
    }

    /// The session as new, which a connection that a pool gives out asks for.
    pub(crate) fn reset(&mut self) {
        if self.state.transactions > 0 {
            // It can't fail: there is one.
            let _ = self.rollback();
        }
        self.server.reset_session(self.session.id);
        self.state.lock_timeout = -1;
        self.state.xact_abort = false;
        self.state.prepared.clear();
    }

    fn execute_sql(&mut self, parameters: &[Parameter]) -> Result<Outcome, Stop> {
        let mut rest = parameters.iter();
        let statement = rest.next().ok_or_else(|| missing("sp_executesql", "@statement"))?.value.text();
        let declared = rest.next().map(|parameter| parameter.value.text()).unwrap_or_default();
        self.parameterised(&statement, &declared, parameters, 2)
    }

    fn prepare(&mut self, parameters: &[Parameter], execute: bool) -> Result<Outcome, Stop> {
        let text = |place: usize| parameters.get(place).map(|parameter| parameter.value.text()).unwrap_or_default();
        let prepared = Prepared { declarations: text(1), text: text(2) };
        let handle = i64::try_from(self.server.number()).unwrap_or(i64::MAX);
        let mut outcome = if execute {
            self.parameterised(&prepared.text, &prepared.declarations, parameters, 3)?
        } else {
            Outcome::status(0)
        };
        self.state.prepared.insert(handle, prepared);
        outcome.returned.insert(0, (0, Type::Int, Value::Int(handle)));
        Ok(outcome)
    }

    fn execute_prepared(&mut self, parameters: &[Parameter]) -> Result<Outcome, Stop> {
        let handle = parameters.first().map_or(0, |parameter| parameter.value.whole());
        let Some(prepared) = self.state.prepared.get(&handle).cloned() else {
            return Err(SqlError::new(8179, format!("Could not find prepared statement with handle {handle}.")).into());
        };
        self.parameterised(&prepared.text, &prepared.declarations, parameters, 1)
    }

    /// Carries out a batch whose parameters follow those of the procedure, the first of them at `first`.
    fn parameterised(
        &mut self,
        statement: &str,
        declared: &str,
        parameters: &[Parameter],
        first: usize,
    ) -> Result<Outcome, Stop> {
        let declared = declarations(declared)?;
        let given = parameters.iter().enumerate().skip(first);
        let mut variables = BTreeMap::new();
        for (place, (name, kind, _)) in declared.iter().enumerate() {
            let by_name = given.clone().find(|(_, parameter)| parameter.name.to_lowercase() == *name);
            let by_place = given.clone().nth(place).filter(|(_, parameter)| parameter.name.is_empty());
            let Some((_, parameter)) = by_name.or(by_place) else {
                let message = format!(
                    "The parameterized query '({name})' expects the parameter '{name}', which was not supplied."
                );
                return Err(SqlError::new(8178, message).into());
            };
            variables.insert(name.clone(), (*kind, cast(&parameter.value, *kind)));
        }
        for (_, parameter) in given.clone().filter(|(_, parameter)| !parameter.name.is_empty()) {
            if !variables.contains_key(&parameter.name.to_lowercase()) {
                let message = format!("{} is not a parameter for procedure sp_executesql.", parameter.name);
                return Err(SqlError::new(8145, message).into());
            }
        }
        let variables = self.deeper(statement, variables)?;
        let mut outcome = Outcome::status(0);
        for (place, (ordinal, parameter)) in given.enumerate() {
            let name = if parameter.name.is_empty() {
                declared.get(place).map(|(name, ..)| name.clone())
            } else {
                Some(parameter.name.to_lowercase())
            };
            if let (true, Some((kind, value))) = (parameter.out, name.and_then(|name| variables.get(&name))) {
                outcome.returned.push((ordinal, *kind, value.clone()));
            }
        }
        Ok(outcome)
    }
}

pub(super) fn missing(procedure: &str, parameter: &str) -> SqlError {
    let message =
        format!("Procedure or function '{procedure}' expects parameter '{parameter}', which was not supplied.");
    SqlError::new(201, message).state(4).of(procedure)
}
