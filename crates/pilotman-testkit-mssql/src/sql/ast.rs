//! Statements and expressions.

use crate::wire::types::{Type, Value};

#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Block(Vec<Self>),
    If { condition: Expression, then: Box<Self>, otherwise: Option<Box<Self>> },
    While { condition: Expression, body: Box<Self> },
    Break,
    Continue,
    Return(Option<Expression>),
    Try { body: Vec<Self>, catch: Vec<Self> },
    Throw(Option<(Expression, Expression, Expression)>),
    RaiseError(Vec<Expression>),
    Print(Expression),
    Declare(Vec<(String, Type, Option<Expression>)>),
    Set(String, Expression),
    Option(String, Vec<String>),
    Select(Box<Select>),
    Call { result: Option<String>, procedure: String, arguments: Vec<Argument> },
    Dynamic(Expression),
    Begin,
    Commit,
    Rollback,
    Kill(i64),
    Wait(Expression),
    Use(String),
    CreateSequence(NewSequence),
    DropSequence { name: String, if_exists: bool },
}

/// What `CREATE SEQUENCE` says.
#[derive(Debug, Clone)]
pub(crate) struct NewSequence {
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) start: i64,
    pub(crate) increment: i64,
    pub(crate) lowest: i64,
    pub(crate) cycles: bool,
}

/// An argument of `EXEC`.
#[derive(Debug, Clone)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) value: Expression,
    pub(crate) out: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) top: Option<Expression>,
    pub(crate) items: Vec<Item>,
    pub(crate) from: Vec<Source>,
    pub(crate) condition: Option<Expression>,
    pub(crate) order: Vec<(Expression, bool)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// `*`, or `alias.*`.
    All(Option<String>),
    Value(Expression, String),
    /// `@variable = value`.
    Assign(String, Expression),
}

/// A view to read from, with how it is joined to those before it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) view: String,
    pub(crate) alias: String,
    pub(crate) on: Option<Expression>,
    /// Rows before it are kept when none of its own fits.
    pub(crate) outer: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Value(Value),
    Variable(String),
    /// `@@NAME`.
    Global(String),
    Column(Option<String>, String),
    Call(String, Vec<Self>),
    Not(Box<Self>),
    Negative(Box<Self>),
    Operation(Operator, Box<Self>, Box<Self>),
    IsNull(Box<Self>, bool),
    In(Box<Self>, Vec<Self>, bool),
    Like(Box<Self>, Box<Self>, bool),
    Cast(Box<Self>, Type),
    Case {
        of: Option<Box<Self>>,
        when: Vec<(Self, Self)>,
        otherwise: Option<Box<Self>>,
    },
    NextValue(String),
    Exists(Box<Select>),
    Query(Box<Select>),
    /// `COUNT(*)`.
    Count,
    /// A comparison by bytes instead of one that ignores case.
    Binary(Box<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}
