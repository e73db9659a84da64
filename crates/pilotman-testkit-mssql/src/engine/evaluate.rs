//! The value of an expression.

use std::cmp::Ordering;

use super::error::{Stop, no_column, no_variable};
use super::run::{Run, cast};
use super::views::Column;
use crate::sql::ast::{Expression, Operator};
use crate::wire::tokens::SqlError;
use crate::wire::types::Value;

/// One row of what is selected from: the parts of each source.
#[derive(Debug, Clone, Default)]
pub(super) struct Row<'a> {
    pub(super) parts: Vec<(&'a str, &'a [Column], Vec<Value>)>,
}

impl Row<'_> {
    fn column(&self, alias: Option<&str>, name: &str) -> Option<&Value> {
        let parts = self.parts.iter().filter(|(own, ..)| alias.is_none_or(|alias| alias.eq_ignore_ascii_case(own)));
        parts.into_iter().find_map(|(_, columns, values)| {
            let place = columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))?;
            values.get(place)
        })
    }
}

/// Whether a condition holds. What is unknown doesn't.
pub(super) fn truth(value: &Value) -> bool {
    *value != Value::Null && value.whole() != 0
}

impl Run<'_> {
    pub(super) fn evaluate(&mut self, expression: &Expression, row: &Row<'_>) -> Result<Value, Stop> {
        match expression {
            Expression::Value(value) => Ok(value.clone()),
            Expression::Variable(name) => {
                let found = self.variables.get(name).map(|(_, value)| value.clone());
                Ok(found.ok_or_else(|| no_variable(name))?)
            }
            Expression::Global(name) => self.global(name),
            Expression::Column(alias, name) => match row.column(alias.as_deref(), name) {
                Some(value) => Ok(value.clone()),
                None if alias.is_none() => self.bare(name),
                None => Err(no_column(name).into()),
            },
            Expression::Call(name, arguments) => self.function(name, arguments, row),
            Expression::Not(inner) => Ok(match self.evaluate(inner, row)? {
                Value::Null => Value::Null,
                value => Value::Bit(!truth(&value)),
            }),
            Expression::Negative(inner) => Ok(match self.evaluate(inner, row)? {
                Value::Null => Value::Null,
                Value::Float(number) => Value::Float(-number),
                value => Value::Int(-value.whole()),
            }),
            Expression::Operation(operator, left, right) => self.operation(*operator, left, right, row),
            Expression::IsNull(inner, not) => {
                let null = self.evaluate(inner, row)? == Value::Null;
                Ok(Value::Bit(null != *not))
            }
            Expression::In(left, list, not) => {
                let value = self.evaluate(left, row)?;
                let mut found = false;
                for item in list {
                    let item = self.evaluate(item, row)?;
                    found |= compare(&value, &item, false) == Some(Ordering::Equal);
                }
                Ok(if value == Value::Null { Value::Null } else { Value::Bit(found != *not) })
            }
            Expression::Like(left, pattern, not) => {
                let (text, pattern) = (self.evaluate(left, row)?, self.evaluate(pattern, row)?);
                if text == Value::Null || pattern == Value::Null {
                    return Ok(Value::Null);
                }
                let text: Vec<char> = text.text().to_lowercase().chars().collect();
                let pattern: Vec<char> = pattern.text().to_lowercase().chars().collect();
                Ok(Value::Bit(like(&text, &pattern) != *not))
            }
            Expression::Cast(inner, kind) => Ok(cast(&self.evaluate(inner, row)?, *kind)),
            Expression::Case { of, when, otherwise } => self.case(of.as_deref(), when, otherwise.as_deref(), row),
            Expression::NextValue(name) => Ok(Value::Int(self.next_value(name)?)),
            Expression::Exists(select) => Ok(Value::Bit(!self.rows(select)?.1.is_empty())),
            Expression::Query(select) => {
                let first = self.rows(select)?.1.into_iter().next();
                Ok(first.and_then(|row| row.into_iter().next()).unwrap_or(Value::Null))
            }
            Expression::Count => Err(SqlError::new(10752, "COUNT is served as the only value of a SELECT.").into()),
            Expression::Binary(inner) => self.evaluate(inner, row),
        }
    }

    fn operation(
        &mut self,
        operator: Operator,
        left: &Expression,
        right: &Expression,
        row: &Row<'_>,
    ) -> Result<Value, Stop> {
        let binary = matches!(left, Expression::Binary(_)) || matches!(right, Expression::Binary(_));
        let left = self.evaluate(left, row)?;
        // What is decided isn't asked: a function on the right may have an effect.
        match (operator, &left) {
            (Operator::And, value) if *value != Value::Null && !truth(value) => return Ok(Value::Bit(false)),
            (Operator::Or, value) if truth(value) => return Ok(Value::Bit(true)),
            _ => {}
        }
        let right = self.evaluate(right, row)?;
        match operator {
            Operator::And => Ok(match (truth(&left), truth(&right)) {
                (true, true) => Value::Bit(true),
                (_, false) if right != Value::Null => Value::Bit(false),
                _ => Value::Null,
            }),
            Operator::Or => Ok(match truth(&right) {
                true => Value::Bit(true),
                false if left == Value::Null || right == Value::Null => Value::Null,
                false => Value::Bit(false),
            }),
            _ if left == Value::Null || right == Value::Null => Ok(Value::Null),
            Operator::Equal => Ok(order(&left, &right, binary, |order| order == Ordering::Equal)),
            Operator::Unequal => Ok(order(&left, &right, binary, |order| order != Ordering::Equal)),
            Operator::Less => Ok(order(&left, &right, binary, |order| order == Ordering::Less)),
            Operator::AtMost => Ok(order(&left, &right, binary, |order| order != Ordering::Greater)),
            Operator::Greater => Ok(order(&left, &right, binary, |order| order == Ordering::Greater)),
            Operator::AtLeast => Ok(order(&left, &right, binary, |order| order != Ordering::Less)),
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                Ok(arithmetic(operator, &left, &right)?)
            }
        }
    }

    fn case(
        &mut self,
        of: Option<&Expression>,
        when: &[(Expression, Expression)],
        otherwise: Option<&Expression>,
        row: &Row<'_>,
    ) -> Result<Value, Stop> {
        let of = of.map(|of| self.evaluate(of, row)).transpose()?;
        for (condition, value) in when {
            let condition = self.evaluate(condition, row)?;
            let chosen = match &of {
                Some(of) => compare(of, &condition, false) == Some(Ordering::Equal),
                None => truth(&condition),
            };
            if chosen {
                return self.evaluate(value, row);
            }
        }
        otherwise.map_or(Ok(Value::Null), |otherwise| self.evaluate(otherwise, row))
    }
}

fn order(left: &Value, right: &Value, binary: bool, holds: impl Fn(Ordering) -> bool) -> Value {
    compare(left, right, binary).map_or(Value::Null, |order| Value::Bit(holds(order)))
}

/// As the default collation compares: without regard to case and to blanks at the end.
pub(super) fn compare(left: &Value, right: &Value, binary: bool) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Text(left), Value::Text(right)) if binary => Some(left.trim_end().cmp(right.trim_end())),
        (Value::Text(left), Value::Text(right)) => {
            Some(left.trim_end().to_lowercase().cmp(&right.trim_end().to_lowercase()))
        }
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Binary(left), Value::Binary(right)) => Some(left.cmp(right)),
        (Value::DateTime(day, tick), Value::DateTime(other_day, other_tick)) => {
            Some((day, tick).cmp(&(other_day, other_tick)))
        }
        (Value::Guid(left), Value::Guid(right)) => Some(left.cmp(right)),
        (left, right) => Some(left.whole().cmp(&right.whole())),
    }
}

fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Result<Value, SqlError> {
    if let (Operator::Add, Value::Text(left), Value::Text(right)) = (operator, left, right) {
        return Ok(Value::Text(format!("{left}{right}")));
    }
    for value in [left, right] {
        if let Value::Text(text) = value
            && text.trim().parse::<i64>().is_err()
        {
            let message = format!("Conversion failed when converting the nvarchar value '{text}' to data type int.");
            return Err(SqlError::new(245, message));
        }
    }
    let (left, right) = (left.whole(), right.whole());
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide | Operator::Modulo if right == 0 => {
            return Err(SqlError::new(8134, "Divide by zero error encountered."));
        }
        Operator::Divide => left.checked_div(right),
        _ => left.checked_rem(right),
    };
    result
        .map(Value::Int)
        .ok_or_else(|| SqlError::new(8115, "Arithmetic overflow error converting expression to data type bigint."))
}

/// `%` is anything, `_` one sign, `[x]` the sign itself.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skipped| like(&text[skipped..], rest)),
        ['[', sign, ']', rest @ ..] => text.first() == Some(sign) && like(&text[1..], rest),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        [sign, rest @ ..] => text.first() == Some(sign) && like(&text[1..], rest),
    }
}
