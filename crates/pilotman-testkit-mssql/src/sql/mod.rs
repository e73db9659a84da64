//! A narrow part of Transact-SQL: what a lock backend, its tests and a person at a prompt ask.

pub(crate) mod ast;
mod expression;
mod lexer;
mod parser;
mod select;
mod statement;

pub(crate) use parser::{declarations, parse};
