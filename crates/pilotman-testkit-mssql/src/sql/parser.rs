//! The place in the words, and what it can be asked.

use super::ast::Statement;
use super::lexer::{Token, tokens};
use crate::wire::tokens::SqlError;
use crate::wire::types::Type;

/// What is known when a batch is read.
#[derive(Debug)]
pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

pub(super) type Parsed<T> = Result<T, SqlError>;

/// The statements of a batch.
///
/// # Errors
///
/// Error 102, near the word that isn't understood.
pub(crate) fn parse(text: &str) -> Result<Vec<Statement>, SqlError> {
    let mut parser = Parser::new(text)?;
    let mut statements = Vec::new();
    while !parser.at_end() {
        if !parser.skip(";") {
            statements.push(parser.statement()?);
        }
    }
    Ok(statements)
}

/// The parameters that `sp_executesql` declares: their names, types, and which are OUT.
pub(crate) fn declarations(text: &str) -> Result<Vec<(String, Type, bool)>, SqlError> {
    let mut parser = Parser::new(text)?;
    let mut declared = Vec::new();
    while !parser.at_end() {
        let name = parser.variable()?;
        parser.word("AS");
        let kind = parser.kind()?;
        let out = parser.word("OUTPUT") || parser.word("OUT");
        declared.push((name, kind, out));
        if !parser.skip(",") {
            break;
        }
    }
    if parser.at_end() { Ok(declared) } else { Err(parser.unexpected()) }
}

impl Parser {
    fn new(text: &str) -> Parsed<Self> {
        let tokens = tokens(text).map_err(|near| syntax(&near))?;
        Ok(Self { tokens, at: 0 })
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    pub(super) fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_sign(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Token::Sign(found)) if *found == sign)
    }

    /// Takes the word, if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        self.at += usize::from(found);
        found
    }

    /// Takes all of the words, if they are next.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(ahead, word)| self.is_word(ahead, word));
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub(super) fn skip(&mut self, sign: &str) -> bool {
        let found = self.is_sign(0, sign);
        self.at += usize::from(found);
        found
    }

    pub(super) fn need_word(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn need(&mut self, sign: &str) -> Parsed<()> {
        if self.skip(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn variable(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Variable(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A word or a quoted name.
    pub(super) fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Word(name) | Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A name with its owners before it: `master..sp_who` has an empty one.
    pub(super) fn path(&mut self) -> Parsed<Vec<String>> {
        let mut path = vec![self.name()?];
        while self.skip(".") {
            path.push(if self.is_sign(0, ".") { String::new() } else { self.name()? });
        }
        Ok(path)
    }

    pub(super) fn number(&mut self) -> Parsed<i64> {
        let negative = self.skip("-");
        match self.peek() {
            Some(&Token::Number(number)) => {
                self.at += 1;
                Ok(if negative { -number } else { number })
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn kind(&mut self) -> Parsed<Type> {
        let path = self.path()?;
        let name = path.last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let mut length = None;
        let mut sized = false;
        if self.skip("(") {
            sized = true;
            if !self.word("MAX") {
                length = u16::try_from(self.number()?).ok();
                if self.skip(",") {
                    self.number()?;
                }
            }
            self.need(")")?;
        }
        Ok(match name.as_str() {
            "bit" => Type::Bit,
            "tinyint" => Type::TinyInt,
            "smallint" => Type::SmallInt,
            "int" | "integer" => Type::Int,
            "bigint" => Type::BigInt,
            "float" | "real" | "decimal" | "numeric" => Type::Float,
            "char" | "varchar" | "nchar" | "nvarchar" => Type::Text(if sized { length } else { Some(30) }),
            "sysname" => Type::Text(Some(128)),
            "binary" | "varbinary" => Type::Binary,
            "datetime" | "datetime2" => Type::DateTime,
            "uniqueidentifier" => Type::Guid,
            _ => {
                return Err(SqlError::new(
                    2715,
                    format!("Column, parameter, or variable #1: Cannot find data type {name}."),
                ));
            }
        })
    }

    /// Error 102 at the next word.
    pub(super) fn unexpected(&self) -> SqlError {
        match self.peek() {
            None => syntax("end of the statement"),
            Some(Token::Word(word) | Token::Name(word) | Token::Variable(word) | Token::Text(word)) => syntax(word),
            Some(Token::Sign(sign)) => syntax(sign),
            Some(Token::Number(number)) => syntax(&number.to_string()),
            Some(Token::Float(number)) => syntax(&number.to_string()),
            Some(Token::Binary(_)) => syntax("a binary constant"),
        }
    }
}

fn syntax(near: &str) -> SqlError {
    SqlError::new(102, format!("Incorrect syntax near '{near}'.")).class(15)
}
