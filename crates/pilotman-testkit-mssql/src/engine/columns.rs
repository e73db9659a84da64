//! The types of what a `SELECT` gives, which a value alone doesn't tell: NULL has none.

use super::run::Run;
use super::views::Column;
use crate::sql::ast::{Expression, Item, Operator, Select};
use crate::wire::types::{Type, Value};

/// What is selected from, by alias.
pub(super) type Shapes<'a> = [(&'a str, &'a [Column])];

impl Run<'_> {
    /// The type of an expression, if it is known before there is a value.
    pub(super) fn type_of(&self, expression: &Expression, shapes: &Shapes<'_>) -> Option<Type> {
        match expression {
            Expression::Value(Value::Null) => None,
            Expression::Value(value) => Some(value.kind()),
            Expression::Variable(name) => self.variables.get(name).map(|(kind, _)| *kind),
            Expression::Global(name) => Some(match name.as_str() {
                "spid" => Type::SmallInt,
                "version" | "servername" | "servicename" => Type::Text(Some(300)),
                _ => Type::Int,
            }),
            Expression::Column(alias, name) => {
                let mut parts = shapes.iter();
                let own = |own: &str| alias.as_ref().is_none_or(|alias| alias.eq_ignore_ascii_case(own));
                let found = parts.find_map(|(alias, columns)| {
                    let mut columns = columns.iter().filter(|_| own(alias));
                    columns.find(|column| column.name.eq_ignore_ascii_case(name)).map(|column| column.kind)
                });
                found.or(Some(Type::Text(Some(128))))
            }
            Expression::Call(name, arguments) => self.type_of_call(name, arguments, shapes),
            Expression::Not(_)
            | Expression::IsNull(..)
            | Expression::In(..)
            | Expression::Like(..)
            | Expression::Exists(_) => Some(Type::Bit),
            Expression::Negative(inner) | Expression::Binary(inner) => self.type_of(inner, shapes),
            Expression::Operation(operator, left, right) => match operator {
                Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                    wider(self.type_of(left, shapes), self.type_of(right, shapes))
                }
                _ => Some(Type::Bit),
            },
            Expression::Cast(_, kind) => Some(*kind),
            Expression::Case { when, otherwise, .. } => {
                let branches = when.iter().map(|(_, value)| value).chain(otherwise.as_deref());
                branches.map(|value| self.type_of(value, shapes)).fold(None, wider)
            }
            Expression::NextValue(name) => {
                let found = self.server.sequences().get(&self.state.database, name).map(|sequence| sequence.kind);
                found.or(Some(Type::BigInt))
            }
            Expression::Query(select) => self.type_of_query(select),
            Expression::Count => Some(Type::Int),
        }
    }

    fn type_of_query(&self, select: &Select) -> Option<Type> {
        match select.items.first() {
            Some(Item::Value(value, _)) => self.type_of(value, &[]),
            _ => None,
        }
    }

    fn type_of_call(&self, name: &str, arguments: &[Expression], shapes: &Shapes<'_>) -> Option<Type> {
        let own = name.rsplit('.').next().unwrap_or(name).to_uppercase();
        match own.as_str() {
            "DB_ID" | "OBJECT_ID" | "LEN" | "DATALENGTH" | "CHARINDEX" | "HAS_PERMS_BY_NAME" | "ERROR_NUMBER"
            | "ERROR_SEVERITY" | "ERROR_STATE" | "ERROR_LINE" | "IS_SRVROLEMEMBER" | "IS_MEMBER"
            | "SESSIONPROPERTY" | "SCHEMA_ID" => Some(Type::Int),
            "XACT_STATE" | "APPLOCK_TEST" => Some(Type::SmallInt),
            "FN_HADR_IS_PRIMARY_REPLICA" => Some(Type::Bit),
            "GETDATE" | "GETUTCDATE" | "SYSDATETIME" | "SYSUTCDATETIME" => Some(Type::DateTime),
            "NEWID" => Some(Type::Guid),
            "ISNULL" | "COALESCE" | "NULLIF" => arguments.iter().find_map(|argument| self.type_of(argument, shapes)),
            "IIF" => {
                let branches = arguments.iter().skip(1);
                branches.map(|value| self.type_of(value, shapes)).fold(None, wider)
            }
            // Their real type depends on what is asked for.
            "SERVERPROPERTY" | "DATABASEPROPERTYEX" | "CONNECTIONPROPERTY" => None,
            _ => Some(Type::Text(Some(4000))),
        }
    }
}

/// The type that holds both.
fn wider(left: Option<Type>, right: Option<Type>) -> Option<Type> {
    let rank = |kind: &Type| match kind {
        Type::Bit => 0,
        Type::TinyInt => 1,
        Type::SmallInt => 2,
        Type::Int => 3,
        Type::BigInt => 4,
        Type::Float => 5,
        Type::Binary => 6,
        Type::Guid => 7,
        Type::DateTime => 8,
        Type::Text(_) => 9,
    };
    match (left, right) {
        (Some(Type::Text(_)), Some(Type::Text(_))) => Some(Type::Text(Some(4000))),
        (Some(left), Some(right)) => Some(if rank(&left) >= rank(&right) { left } else { right }),
        (one, other) => one.or(other),
    }
}
