//! Carries out the statements of one request.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Stop, ends_batch, no_variable};
use super::evaluate::{Row, truth};
use super::server::Server;
use super::session::Session;
use super::state::State;
use crate::sql::ast::{Expression, Statement};
use crate::sql::parse;
use crate::wire::request::Body;
use crate::wire::tokens::{Reply, SqlError};
use crate::wire::types::{Type, Value};

/// Batches that carry out batches: not deeper than this, as documented.
const DEEPEST: u32 = 32;

/// The turns that a loop may make between two looks at what interrupts it is one; this bounds a loop without end.
const MOST_TURNS: u64 = 10_000_000;

#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Server,
    pub(crate) session: &'a Session,
    pub(crate) state: &'a mut State,
    pub(crate) reply: &'a mut Reply,
    pub(crate) variables: BTreeMap<String, (Type, Value)>,
    /// How many procedures and dynamic batches this is in.
    pub(crate) depth: u32,
    /// Whether an error goes to a `CATCH` block.
    pub(crate) trying: u32,
}

impl<'a> Run<'a> {
    pub(crate) fn new(server: &'a Server, session: &'a Session, state: &'a mut State, reply: &'a mut Reply) -> Self {
        Self { server, session, state, reply, variables: BTreeMap::new(), depth: 0, trying: 0 }
    }

    /// Carries out a request.
    pub(crate) fn request(&mut self, body: &Body, named_transaction: u64) -> Result<(), Stop> {
        let result = self.check_transaction(named_transaction).map_err(Stop::from).and_then(|()| match body {
            Body::Batch(text) => self.text(text),
            Body::Call(call) => self.remote_call(call),
            Body::Transaction(request) => self.transaction_request(request).map_err(Stop::from),
        });
        match result {
            Err(Stop::Failed(error)) => {
                self.tell(&error);
                Ok(())
            }
            Err(Stop::Abort | Stop::Return | Stop::Break | Stop::Continue) => Ok(()),
            other => other,
        }
    }

    /// Tells an error, and that its statement is done.
    pub(crate) fn tell(&mut self, error: &SqlError) {
        self.state.error = error.number;
        self.reply.error(error);
        self.done(None);
    }

    /// A statement ended.
    pub(super) fn done(&mut self, rows: Option<u64>) {
        if self.depth == 0 { self.reply.done(rows) } else { self.reply.done_in_procedure(rows) }
    }

    /// Carries out a batch.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Stop> {
        match parse(text) {
            Ok(statements) => self.all(&statements),
            Err(error) => {
                self.server.log_unknown(text.to_owned());
                Err(error.into())
            }
        }
    }

    /// Carries out a batch in a batch.
    pub(super) fn deeper(
        &mut self,
        text: &str,
        variables: BTreeMap<String, (Type, Value)>,
    ) -> Result<BTreeMap<String, (Type, Value)>, Stop> {
        if self.depth >= DEEPEST {
            let message = "Maximum stored procedure, function, trigger, or view nesting level exceeded (limit 32).";
            return Err(SqlError::new(217, message).into());
        }
        let own = std::mem::replace(&mut self.variables, variables);
        self.depth += 1;
        let result = self.text(text);
        self.depth -= 1;
        let variables = std::mem::replace(&mut self.variables, own);
        match result {
            Ok(()) | Err(Stop::Return) => Ok(variables),
            Err(stop) => Err(stop),
        }
    }

    pub(super) fn all(&mut self, statements: &[Statement]) -> Result<(), Stop> {
        for statement in statements {
            if let Some(interrupt) = self.session.interrupted() {
                return Err(interrupt.into());
            }
            match self.statement(statement) {
                Ok(()) => {}
                Err(Stop::Failed(error)) if self.trying == 0 => {
                    self.tell(&error);
                    if self.state.xact_abort {
                        if self.state.transactions > 0 {
                            self.rollback()?;
                        }
                        return Err(Stop::Abort);
                    }
                    if ends_batch(&error) {
                        return Err(Stop::Abort);
                    }
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Stop> {
        match statement {
            Statement::Block(statements) => return self.all(statements),
            Statement::If { condition, then, otherwise } => {
                let chosen = if self.condition(condition)? { Some(then) } else { otherwise.as_ref() };
                return chosen.map_or(Ok(()), |chosen| self.all(std::slice::from_ref(chosen)));
            }
            Statement::While { condition, body } => return self.turns(condition, body),
            Statement::Break => return Err(Stop::Break),
            Statement::Continue => return Err(Stop::Continue),
            Statement::Return(None) => return Err(Stop::Return),
            Statement::Return(Some(_)) => {
                let message = "A RETURN statement with a return value cannot be used in this context.";
                return Err(SqlError::new(178, message).class(15).into());
            }
            Statement::Try { body, catch } => return self.attempt(body, catch),
            Statement::Throw(thrown) => return self.throw(thrown.as_ref()),
            Statement::RaiseError(parts) => return self.raise(parts),
            Statement::Print(text) => {
                let text = self.value(text)?.text();
                self.reply.info(&SqlError::new(0, text).class(0));
            }
            Statement::Declare(declared) => {
                for (name, kind, value) in declared {
                    let value = value.as_ref().map_or(Ok(Value::Null), |value| self.value(value))?;
                    self.variables.insert(name.clone(), (*kind, cast(&value, *kind)));
                }
                return Ok(());
            }
            Statement::Set(name, value) => {
                let value = self.value(value)?;
                self.assign(name, &value)?;
            }
            Statement::Option(option, values) => self.option(option, values)?,
            Statement::Select(select) => return self.select_statement(select),
            Statement::Call { result, procedure, arguments } => {
                return self.local_call(result.as_deref(), procedure, arguments);
            }
            Statement::Dynamic(text) => {
                let text = self.value(text)?.text();
                self.deeper(&text, BTreeMap::new())?;
                return Ok(());
            }
            Statement::Begin => self.begin(),
            Statement::Commit => self.commit()?,
            Statement::Rollback => self.rollback()?,
            Statement::Kill(session) => self.kill(*session)?,
            Statement::Wait(time) => {
                let time = self.value(time)?.text();
                let time = delay(&time).ok_or_else(|| bad_delay(&time))?;
                self.server.sleep(self.session, time)?;
            }
            Statement::Use(database) => self.use_database(database)?,
            Statement::CreateSequence(new) => self.create_sequence(new)?,
            Statement::DropSequence { name, if_exists } => self.drop_sequence(name, *if_exists)?,
        }
        self.state.error = 0;
        self.done(None);
        Ok(())
    }

    pub(super) fn condition(&mut self, condition: &Expression) -> Result<bool, Stop> {
        Ok(truth(&self.value(condition)?))
    }

    /// A value that doesn't depend on a row.
    pub(super) fn value(&mut self, expression: &Expression) -> Result<Value, Stop> {
        self.evaluate(expression, &Row::default())
    }

    pub(super) fn assign(&mut self, name: &str, value: &Value) -> Result<(), Stop> {
        let (kind, place) = self.variables.get_mut(name).ok_or_else(|| no_variable(name))?;
        *place = cast(value, *kind);
        Ok(())
    }

    fn turns(&mut self, condition: &Expression, body: &Statement) -> Result<(), Stop> {
        for _ in 0..MOST_TURNS {
            if let Some(interrupt) = self.session.interrupted() {
                return Err(interrupt.into());
            }
            if !self.condition(condition)? {
                return Ok(());
            }
            match self.all(std::slice::from_ref(body)) {
                Ok(()) | Err(Stop::Continue) => {}
                Err(Stop::Break) => return Ok(()),
                Err(stop) => return Err(stop),
            }
        }
        Err(SqlError::new(50_000, "The stand-in doesn't go on with a loop of so many turns.").into())
    }

    fn attempt(&mut self, body: &[Statement], catch: &[Statement]) -> Result<(), Stop> {
        self.trying += 1;
        let result = self.all(body);
        self.trying -= 1;
        match result {
            Err(Stop::Failed(error)) => {
                self.state.error = error.number;
                let before = self.state.caught.replace(error);
                let result = self.all(catch);
                self.state.caught = before;
                result
            }
            other => other,
        }
    }

    fn throw(&mut self, thrown: Option<&(Expression, Expression, Expression)>) -> Result<(), Stop> {
        let error = match thrown {
            None => {
                let outside = || {
                    SqlError::new(10704, "To rethrow an error, a THROW statement must be used inside a CATCH block.")
                };
                self.state.caught.clone().unwrap_or_else(outside)
            }
            Some((number, message, state)) => {
                let number = i32::try_from(self.value(number)?.whole()).unwrap_or(50_000);
                let message = self.value(message)?.text();
                let state = u8::try_from(self.value(state)?.whole()).unwrap_or(1);
                SqlError::new(number, message).state(state)
            }
        };
        if self.trying > 0 {
            return Err(error.into());
        }
        self.tell(&error);
        Err(Stop::Abort)
    }

    fn raise(&mut self, parts: &[Expression]) -> Result<(), Stop> {
        let mut values = Vec::new();
        for part in parts {
            values.push(self.value(part)?);
        }
        let small = |value: Option<&Value>| value.and_then(|value| u8::try_from(value.whole()).ok());
        let class = small(values.get(1)).unwrap_or(16);
        let error = match &values[0] {
            Value::Int(number) => {
                let number = i32::try_from(*number).unwrap_or(50_000);
                SqlError::new(number, format!("Error {number}, raised by a batch."))
            }
            text => SqlError::new(50_000, text.text()),
        };
        let error = error.class(class).state(small(values.get(2)).unwrap_or(1));
        if class > 10 {
            return Err(error.into());
        }
        self.reply.info(&error);
        self.done(None);
        Ok(())
    }
}

/// The value as the type has it.
pub(crate) fn cast(value: &Value, kind: Type) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        (Type::Bit, value) => Value::Bit(value.whole() != 0),
        (Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt, value) => Value::Int(value.whole()),
        (Type::Text(length), value) => {
            let text = value.text();
            match length {
                None => Value::Text(text),
                Some(length) => {
                    let mut units = 0;
                    let fits = |sign: &char| {
                        units += sign.len_utf16();
                        units <= usize::from(length)
                    };
                    Value::Text(text.chars().take_while(fits).collect())
                }
            }
        }
        (_, value) => value.clone(),
    }
}

/// `hh:mm[:ss[.mss]]`.
fn delay(text: &str) -> Option<Duration> {
    let mut parts = text.trim().split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds = parts.next().unwrap_or("0");
    let seconds: f64 = seconds.parse().ok()?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || !(0.0..60.0).contains(&seconds) {
        return None;
    }
    Some(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

fn bad_delay(text: &str) -> SqlError {
    SqlError::new(148, format!("Incorrect time syntax in time string '{text}' used with WAITFOR.")).class(15)
}
