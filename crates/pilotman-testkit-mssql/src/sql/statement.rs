//! Statements.

use super::ast::{Argument, Expression, NewSequence, Statement};
use super::expression::reserved;
use super::lexer::Token;
use super::parser::{Parsed, Parser};
use crate::wire::types::{Type, Value};

/// How deep statements may nest: a client can't overflow the stack.
const DEEPEST: usize = 32;

impl Parser {
    pub(super) fn statement(&mut self) -> Parsed<Statement> {
        self.nested(0)
    }

    fn nested(&mut self, depth: usize) -> Parsed<Statement> {
        if depth > DEEPEST {
            return Err(self.unexpected());
        }
        if self.word("BEGIN") {
            return self.begin(depth);
        }
        if self.word("IF") {
            return self.condition(depth);
        }
        if self.word("WHILE") {
            let condition = self.expression()?;
            return Ok(Statement::While { condition, body: Box::new(self.nested(depth + 1)?) });
        }
        self.simple()
    }

    fn simple(&mut self) -> Parsed<Statement> {
        if self.is_word(0, "SELECT") {
            return Ok(Statement::Select(Box::new(self.select(0)?)));
        }
        if self.word("BREAK") {
            return Ok(Statement::Break);
        }
        if self.word("CONTINUE") {
            return Ok(Statement::Continue);
        }
        if self.word("RETURN") {
            return self.returned();
        }
        if self.word("THROW") {
            return self.throw();
        }
        if self.word("RAISERROR") {
            return self.raise();
        }
        if self.word("PRINT") {
            return Ok(Statement::Print(self.expression()?));
        }
        if self.word("DECLARE") {
            return self.declare();
        }
        if self.word("SET") {
            return self.set();
        }
        if self.word("EXEC") || self.word("EXECUTE") {
            return self.call();
        }
        if self.word("COMMIT") {
            self.transaction_name()?;
            return Ok(Statement::Commit);
        }
        if self.word("ROLLBACK") {
            self.transaction_name()?;
            return Ok(Statement::Rollback);
        }
        if self.word("KILL") {
            return Ok(Statement::Kill(self.number()?));
        }
        if self.words(&["WAITFOR", "DELAY"]) {
            return Ok(Statement::Wait(self.expression()?));
        }
        if self.word("USE") {
            return Ok(Statement::Use(self.name()?));
        }
        if self.words(&["CREATE", "SEQUENCE"]) {
            return self.create_sequence();
        }
        if self.words(&["DROP", "SEQUENCE"]) {
            let if_exists = self.words(&["IF", "EXISTS"]);
            return Ok(Statement::DropSequence { name: self.path()?.join("."), if_exists });
        }
        Err(self.unexpected())
    }

    fn begin(&mut self, depth: usize) -> Parsed<Statement> {
        if self.word("TRAN") || self.word("TRANSACTION") {
            self.own_name();
            return Ok(Statement::Begin);
        }
        if self.word("TRY") {
            let body = self.until_end(depth)?;
            self.need_word("TRY")?;
            self.skip(";");
            self.need_word("BEGIN")?;
            self.need_word("CATCH")?;
            let catch = self.until_end(depth)?;
            self.need_word("CATCH")?;
            return Ok(Statement::Try { body, catch });
        }
        Ok(Statement::Block(self.until_end(depth)?))
    }

    fn until_end(&mut self, depth: usize) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        while !self.word("END") {
            if self.at_end() {
                return Err(self.unexpected());
            }
            if !self.skip(";") {
                statements.push(self.nested(depth + 1)?);
            }
        }
        Ok(statements)
    }

    fn condition(&mut self, depth: usize) -> Parsed<Statement> {
        let condition = self.expression()?;
        let then = Box::new(self.nested(depth + 1)?);
        // A semicolon may stand before ELSE.
        if self.is_sign(0, ";") && self.is_word(1, "ELSE") {
            self.skip(";");
        }
        let otherwise = if self.word("ELSE") { Some(Box::new(self.nested(depth + 1)?)) } else { None };
        Ok(Statement::If { condition, then, otherwise })
    }

    fn returned(&mut self) -> Parsed<Statement> {
        let nothing = self.at_end() || self.is_sign(0, ";") || reserved(self.peek());
        Ok(Statement::Return(if nothing { None } else { Some(self.expression()?) }))
    }

    fn throw(&mut self) -> Parsed<Statement> {
        if self.at_end() || self.is_sign(0, ";") || reserved(self.peek()) {
            return Ok(Statement::Throw(None));
        }
        let number = self.expression()?;
        self.need(",")?;
        let message = self.expression()?;
        self.need(",")?;
        Ok(Statement::Throw(Some((number, message, self.expression()?))))
    }

    fn raise(&mut self) -> Parsed<Statement> {
        self.need("(")?;
        let mut parts = vec![self.expression()?];
        while self.skip(",") {
            parts.push(self.expression()?);
        }
        self.need(")")?;
        if self.word("WITH") {
            self.name()?;
        }
        Ok(Statement::RaiseError(parts))
    }

    fn declare(&mut self) -> Parsed<Statement> {
        let mut declared = Vec::new();
        loop {
            let name = self.variable()?;
            self.word("AS");
            let kind = self.kind()?;
            let value = if self.skip("=") { Some(self.expression()?) } else { None };
            declared.push((name, kind, value));
            if !self.skip(",") {
                return Ok(Statement::Declare(declared));
            }
        }
    }

    fn set(&mut self) -> Parsed<Statement> {
        if matches!(self.peek(), Some(Token::Variable(_))) {
            let name = self.variable()?;
            for (sign, operator) in [("+=", super::ast::Operator::Add), ("-=", super::ast::Operator::Subtract)] {
                if self.skip(sign) {
                    let old = Box::new(Expression::Variable(name.clone()));
                    let value = Expression::Operation(operator, old, Box::new(self.expression()?));
                    return Ok(Statement::Set(name, value));
                }
            }
            self.need("=")?;
            return Ok(Statement::Set(name, self.expression()?));
        }
        let option = self.name()?.to_ascii_uppercase();
        if !KNOWN_OPTIONS.contains(&option.as_str()) {
            return Err(self.unexpected());
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) if !reserved(self.peek()) || word.eq_ignore_ascii_case("ON") => {
                    values.push(word.to_ascii_uppercase());
                    self.next();
                }
                Some(Token::Number(_)) => values.push(self.number()?.to_string()),
                Some(Token::Sign("-")) => values.push(self.number()?.to_string()),
                Some(Token::Sign(",")) => {
                    self.next();
                }
                _ => break,
            }
        }
        if values.is_empty() { Err(self.unexpected()) } else { Ok(Statement::Option(option, values)) }
    }

    fn call(&mut self) -> Parsed<Statement> {
        if self.skip("(") {
            let text = self.expression()?;
            self.need(")")?;
            return Ok(Statement::Dynamic(text));
        }
        let result = if matches!(self.peek(), Some(Token::Variable(_))) {
            let name = self.variable()?;
            self.need("=")?;
            Some(name)
        } else {
            None
        };
        let procedure = self.path()?.join(".");
        let none = self.at_end() || self.is_sign(0, ";") || reserved(self.peek());
        let arguments = if none { Vec::new() } else { self.arguments()? };
        Ok(Statement::Call { result, procedure, arguments })
    }

    fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        let mut arguments = Vec::new();
        loop {
            let named = matches!(self.peek(), Some(Token::Variable(_))) && self.is_sign(1, "=");
            let name = if named { self.variable()? } else { String::new() };
            if named {
                self.need("=")?;
            }
            // A bare word is a string here.
            let value = match self.expression()? {
                Expression::Column(None, word) => Expression::Value(Value::Text(word)),
                other => other,
            };
            let out = self.word("OUTPUT") || self.word("OUT");
            arguments.push(Argument { name, value, out });
            if !self.skip(",") {
                return Ok(arguments);
            }
        }
    }

    fn transaction_name(&mut self) -> Parsed<()> {
        if self.word("WORK") {
            return Ok(());
        }
        if self.word("TRAN") || self.word("TRANSACTION") {
            self.own_name();
        }
        Ok(())
    }

    /// The name of a transaction, which means nothing.
    fn own_name(&mut self) {
        let named = match self.peek() {
            Some(Token::Variable(_) | Token::Name(_)) => true,
            Some(Token::Word(_)) => !reserved(self.peek()),
            _ => false,
        };
        if named {
            self.next();
        }
    }

    fn create_sequence(&mut self) -> Parsed<Statement> {
        let name = self.path()?.join(".");
        let (mut kind, mut start, mut increment) = (Type::BigInt, None, 1);
        let (mut lowest, mut cycles) = (None, false);
        loop {
            if self.word("AS") {
                kind = self.kind()?;
            } else if self.words(&["START", "WITH"]) {
                start = Some(self.number()?);
            } else if self.words(&["INCREMENT", "BY"]) {
                increment = self.number()?;
            } else if self.word("MINVALUE") {
                lowest = Some(self.number()?);
            } else if self.word("MAXVALUE") {
                self.number()?;
            } else if self.word("CACHE") {
                if matches!(self.peek(), Some(Token::Number(_))) {
                    self.number()?;
                }
            } else if self.word("CYCLE") {
                cycles = true;
            } else if self.word("NO") {
                if !(self.word("CACHE") || self.word("CYCLE") || self.word("MINVALUE") || self.word("MAXVALUE")) {
                    return Err(self.unexpected());
                }
            } else {
                break;
            }
        }
        // As documented: without START WITH it begins at the lowest value, which is the type's own.
        let lowest = lowest.unwrap_or(match kind {
            Type::Int => i32::MIN.into(),
            _ => i64::MIN,
        });
        let start = start.unwrap_or(lowest);
        Ok(Statement::CreateSequence(NewSequence { name, kind, start, increment, lowest, cycles }))
    }
}

/// Settings of a session. Those that have an effect are carried out, the others are accepted as the server does.
const KNOWN_OPTIONS: [&str; 17] = [
    "NOCOUNT",
    "XACT_ABORT",
    "LOCK_TIMEOUT",
    "DEADLOCK_PRIORITY",
    "IMPLICIT_TRANSACTIONS",
    "TRANSACTION",
    "TEXTSIZE",
    "QUOTED_IDENTIFIER",
    "ANSI_NULLS",
    "ANSI_PADDING",
    "ANSI_WARNINGS",
    "ANSI_NULL_DFLT_ON",
    "ARITHABORT",
    "CONCAT_NULL_YIELDS_NULL",
    "CURSOR_CLOSE_ON_COMMIT",
    "NUMERIC_ROUNDABORT",
    "LANGUAGE",
];
