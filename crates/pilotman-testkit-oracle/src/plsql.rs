//! Reads the little of SQL and PL/SQL that the stand-in executes.

use crate::database::OraError;

#[derive(Debug)]
pub(crate) enum Sql {
    Block(Vec<Statement>),
    Select(Vec<(String, Expression)>),
}

#[derive(Debug)]
pub(crate) enum Statement {
    Assign(Place, Expression),
    Call(Call),
    Immediate(String, Option<Place>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By its number in the order of first appearance.
    Bind(usize),
    Variable(String),
}

#[derive(Debug)]
pub(crate) enum Expression {
    Place(Place),
    Text(String),
    Number(i64),
    Null,
    Call(Call),
}

#[derive(Debug)]
pub(crate) struct Call {
    /// In capitals, without "SYS.".
    pub(crate) routine: String,
    pub(crate) arguments: Vec<(Option<String>, Expression)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// In capitals, except within double quotes.
    Word(String),
    Text(String),
    Number(i64),
    Bind(String),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 8] = [":=", "=>", "(", ")", ",", ";", ".", "="];

/// A block, or a query of DUAL.
pub(crate) fn parse(sql: &str) -> Result<Sql, OraError> {
    let mut parser = Parser { tokens: tokens(sql)?, at: 0, binds: Vec::new(), variables: Vec::new() };
    let sql = if parser.takes_word("SELECT") { parser.select()? } else { parser.block()? };
    parser.end()?;
    Ok(sql)
}

fn tokens(sql: &str) -> Result<Vec<Token>, OraError> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '$' | '#');
        let word = |text: &str| text.find(|char| !is_word(char)).unwrap_or(text.len());
        let length = if first == '\'' {
            let (text, length) = quoted(rest, '\'')?;
            tokens.push(Token::Text(text));
            length
        } else if first == '"' {
            let (name, length) = quoted(rest, '"')?;
            tokens.push(Token::Word(name));
            length
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        } else if let Some(name) = rest.strip_prefix(':') {
            let length = word(name);
            tokens.push(Token::Bind(name[..length].to_uppercase()));
            length + 1
        } else {
            let length = word(rest);
            let text = &rest[..length];
            tokens.push(match text.parse() {
                Ok(number) => Token::Number(number),
                Err(_) if length == 0 || first.is_ascii_digit() => return Err(unexpected(first)),
                Err(_) => Token::Word(text.to_uppercase()),
            });
            length
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// The text in quotes that begins `rest`, and how far it reaches; two quotes stand for one.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), OraError> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char != quote {
            text.push(char);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, at + 1));
        }
    }
    Err(unexpected("end of file"))
}

fn unexpected(found: impl std::fmt::Display) -> OraError {
    OraError::not_compiled(format_args!("PLS-00103: Encountered the symbol \"{found}\""))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    binds: Vec<String>,
    variables: Vec<String>,
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, token: &Token) -> bool {
        let takes = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.takes(&Token::Word(word.into()))
    }

    fn takes_symbol(&mut self, symbol: &'static str) -> bool {
        self.takes(&Token::Symbol(symbol))
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), OraError> {
        if self.takes_symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn keyword(&mut self, word: &str) -> Result<(), OraError> {
        if self.takes_word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> Result<String, OraError> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(self.previous_unexpected()),
        }
    }

    fn end(&self) -> Result<(), OraError> {
        if self.at == self.tokens.len() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> OraError {
        unexpected(self.tokens.get(self.at).map_or("end of file".into(), |token| format!("{token:?}")))
    }

    fn previous_unexpected(&mut self) -> OraError {
        self.at -= 1;
        self.unexpected()
    }

    fn select(&mut self) -> Result<Sql, OraError> {
        let mut columns = Vec::new();
        loop {
            let expression = self.expression()?;
            columns.push((format!("COLUMN{}", columns.len() + 1), expression));
            if self.takes_word("AS") {
                let name = self.word()?;
                columns.last_mut().expect("just pushed").0 = name;
            }
            if !self.takes_symbol(",") {
                break;
            }
        }
        self.keyword("FROM")?;
        if !self.takes_word("DUAL") {
            return Err(OraError::new(942, "table or view does not exist"));
        }
        Ok(Sql::Select(columns))
    }

    fn block(&mut self) -> Result<Sql, OraError> {
        if self.takes_word("DECLARE") {
            while !self.takes_word("BEGIN") {
                let name = self.word()?;
                self.variables.push(name);
                // Any type is as good as another here.
                while !self.takes_symbol(";") {
                    self.next().ok_or_else(|| unexpected("end of file"))?;
                }
            }
        } else {
            self.keyword("BEGIN")?;
        }
        let mut statements = Vec::new();
        while !self.takes_word("END") {
            statements.push(self.statement()?);
            self.symbol(";")?;
        }
        self.symbol(";")?;
        Ok(Sql::Block(statements))
    }

    fn statement(&mut self) -> Result<Statement, OraError> {
        if self.takes_word("EXECUTE") {
            self.keyword("IMMEDIATE")?;
            let Some(Token::Text(text)) = self.next() else { return Err(self.previous_unexpected()) };
            let into = if self.takes_word("INTO") { Some(self.expression()?) } else { None };
            return match into {
                None => Ok(Statement::Immediate(text, None)),
                Some(Expression::Place(place)) => Ok(Statement::Immediate(text, Some(place))),
                Some(_) => Err(self.previous_unexpected()),
            };
        }
        match self.expression()? {
            Expression::Call(call) => Ok(Statement::Call(call)),
            Expression::Place(place) => {
                self.symbol(":=")?;
                Ok(Statement::Assign(place, self.expression()?))
            }
            _ => Err(self.previous_unexpected()),
        }
    }

    fn expression(&mut self) -> Result<Expression, OraError> {
        Ok(match self.next() {
            Some(Token::Text(text)) => Expression::Text(text),
            Some(Token::Number(number)) => Expression::Number(number),
            Some(Token::Bind(name)) => {
                let number = self.binds.iter().position(|bind| *bind == name).unwrap_or_else(|| {
                    self.binds.push(name);
                    self.binds.len() - 1
                });
                Expression::Place(Place::Bind(number))
            }
            Some(Token::Word(word)) => match word.as_str() {
                "NULL" => Expression::Null,
                "TRUE" => Expression::Number(1),
                "FALSE" => Expression::Number(0),
                _ => self.named(word)?,
            },
            _ => return Err(self.previous_unexpected()),
        })
    }

    fn named(&mut self, mut name: String) -> Result<Expression, OraError> {
        while self.takes_symbol(".") {
            name = format!("{name}.{}", self.word()?);
        }
        if self.variables.contains(&name) {
            return Ok(Expression::Place(Place::Variable(name)));
        }
        let routine = name.strip_prefix("SYS.").unwrap_or(&name).to_owned();
        let mut arguments = Vec::new();
        if self.takes_symbol("(") {
            while !self.takes_symbol(")") {
                let is_named = self.tokens.get(self.at + 1) == Some(&Token::Symbol("=>"));
                let parameter = if is_named { Some(self.word()?) } else { None };
                if is_named {
                    self.symbol("=>")?;
                }
                arguments.push((parameter, self.expression()?));
                if !self.takes_symbol(",") {
                    self.symbol(")")?;
                    break;
                }
            }
        }
        Ok(Expression::Call(Call { routine, arguments }))
    }
}
