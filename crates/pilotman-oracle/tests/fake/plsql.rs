//! As much of PL/SQL as is needed: blocks without branches, whose calls are those of a few packages.

use std::collections::HashMap;

/// An error of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OraError(pub(crate) u32, pub(crate) String);

impl OraError {
    fn syntax(what: impl std::fmt::Display) -> Self {
        Self(6550, format!("ORA-06550: line 1, column 1:\nPLS-00103: {what}"))
    }
}

/// A value in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Val {
    Number(i64),
    Text(String),
    Boolean(bool),
    Null,
}

impl Val {
    pub(crate) fn number(&self) -> Result<i64, OraError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| OraError(6502, "ORA-06502: character to number".into())),
            _ => Err(OraError(6502, "ORA-06502: numeric or value error".into())),
        }
    }

    pub(crate) fn text(&self) -> Result<String, OraError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Number(number) => Ok(number.to_string()),
            _ => Err(OraError(6502, "ORA-06502: numeric or value error".into())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Bind(String),
    Number(i64),
    Text(String),
    Sign(&'static str),
}

fn tokens(text: &str) -> Result<Vec<Token>, OraError> {
    let signs: Vec<char> = text.chars().collect();
    let (mut at, mut found) = (0, Vec::new());
    let is_word = |c: char| c.is_alphanumeric() || "_$#".contains(c);
    let word = |from: usize| signs[from..].iter().take_while(|c| is_word(**c)).collect::<String>();
    while at < signs.len() {
        let c = signs[at];
        let next = signs.get(at + 1).copied().unwrap_or(' ');
        if c.is_whitespace() {
            at += 1;
        } else if c == '\'' {
            let mut literal = String::new();
            at += 1;
            loop {
                match (signs.get(at), signs.get(at + 1)) {
                    (Some('\''), Some('\'')) => {
                        literal.push('\'');
                        at += 2;
                    }
                    (Some('\''), _) => break,
                    (Some(c), _) => {
                        literal.push(*c);
                        at += 1;
                    }
                    (None, _) => return Err(OraError::syntax("a text without an end")),
                }
            }
            at += 1;
            found.push(Token::Text(literal));
        } else if c == ':' && next == '=' {
            at += 2;
            found.push(Token::Sign(":="));
        } else if c == '=' && next == '>' {
            at += 2;
            found.push(Token::Sign("=>"));
        } else if c == ':' && is_word(next) {
            let name = word(at + 1);
            at += 1 + name.chars().count();
            found.push(Token::Bind(name.to_uppercase()));
        } else if c.is_ascii_digit() {
            let digits = word(at);
            at += digits.len();
            found.push(Token::Number(digits.parse().map_err(|_| OraError::syntax(digits))?));
        } else if is_word(c) {
            let name = word(at);
            at += name.chars().count();
            found.push(Token::Word(name.to_uppercase()));
        } else if let Some(sign) = ["(", ")", ",", ";", ".", "="].into_iter().find(|sign| sign.starts_with(c)) {
            at += 1;
            found.push(Token::Sign(sign));
        } else {
            return Err(OraError::syntax(format!("encountered the symbol {c:?}")));
        }
    }
    Ok(found)
}

/// The binds of a text, in the order in which they first stand there.
pub(crate) fn binds(text: &str) -> Result<Vec<String>, OraError> {
    let mut found: Vec<String> = Vec::new();
    for token in tokens(text)? {
        match token {
            Token::Bind(name) if !found.contains(&name) => found.push(name),
            _ => {}
        }
    }
    Ok(found)
}

/// What a block can call.
pub(crate) trait Packages {
    /// Calls a function or a procedure, `SYS.DBMS_LOCK.REQUEST` say. What it returns, and what its OUT parameters are set to.
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<(Val, Vec<(String, Val)>), OraError>;

    /// `EXECUTE IMMEDIATE`.
    fn execute(&mut self, sql: &str) -> Result<Val, OraError>;
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) named: HashMap<String, Val>,
    pub(crate) positional: Vec<Val>,
}

impl Arguments {
    pub(crate) fn get(&self, name: &str) -> Result<&Val, OraError> {
        self.named.get(name).ok_or_else(|| {
            OraError(
                6550,
                format!("ORA-06550: line 1, column 8:\nPLS-00306: wrong number or types of arguments, no {name}"),
            )
        })
    }
}

/// A variable or a bind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Variable(String),
    Bind(String),
}

struct Block<'a, P> {
    tokens: Vec<Token>,
    at: usize,
    values: HashMap<Place, Val>,
    packages: &'a mut P,
}

/// Runs a block. `ins` are the values of the IN binds; what is assigned to the others is returned.
pub(crate) fn run<P: Packages>(
    text: &str,
    ins: &HashMap<String, Val>,
    packages: &mut P,
) -> Result<HashMap<String, Val>, OraError> {
    let values = ins.iter().map(|(name, value)| (Place::Bind(name.clone()), value.clone())).collect();
    let mut block = Block { tokens: tokens(text)?, at: 0, values, packages };
    if block.is_word("DECLARE") {
        while !block.peek_word("BEGIN") {
            block.declaration()?;
        }
    }
    block.word("BEGIN")?;
    while !block.peek_word("END") {
        block.statement(ins)?;
    }
    block.word("END")?;
    block.sign(";")?;
    if block.at != block.tokens.len() {
        return Err(OraError::syntax("something follows the end"));
    }
    let is_out = |name: &String| !ins.contains_key(name);
    let outs = block.values.into_iter().filter_map(|(place, value)| match place {
        Place::Bind(name) if is_out(&name) => Some((name, value)),
        _ => None,
    });
    Ok(outs.collect())
}

impl<P: Packages> Block<'_, P> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, OraError> {
        let token = self.peek().cloned().ok_or_else(|| OraError::syntax("encountered the end of the text"))?;
        self.at += 1;
        Ok(token)
    }

    fn peek_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found == word)
    }

    fn is_word(&mut self, word: &str) -> bool {
        let is = self.peek_word(word);
        self.at += usize::from(is);
        is
    }

    fn word(&mut self, word: &str) -> Result<(), OraError> {
        match self.is_word(word) {
            true => Ok(()),
            false => Err(OraError::syntax(format!("{word} is expected at {:?}", self.peek()))),
        }
    }

    fn is_sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &str) -> Result<(), OraError> {
        match self.is_sign(sign) {
            true => Ok(()),
            false => Err(OraError::syntax(format!("{sign} is expected at {:?}", self.peek()))),
        }
    }

    fn declaration(&mut self) -> Result<(), OraError> {
        let Token::Word(name) = self.next()? else { return Err(OraError::syntax("a name is expected")) };
        match self.next()? {
            Token::Word(of) if of == "NUMBER" => {}
            Token::Word(of) if of == "VARCHAR2" => {
                self.sign("(")?;
                let Token::Number(_) = self.next()? else { return Err(OraError::syntax("a length is expected")) };
                self.sign(")")?;
            }
            other => return Err(OraError::syntax(format!("{other:?} is no type"))),
        }
        self.values.insert(Place::Variable(name), Val::Null);
        self.sign(";")
    }

    fn assign(&mut self, place: Place, value: Val, ins: &HashMap<String, Val>) -> Result<(), OraError> {
        match &place {
            Place::Bind(name) if ins.contains_key(name) => {
                Err(OraError::syntax(format!("{name} is bound IN, and assigned to")))
            }
            Place::Variable(name) if !self.values.contains_key(&place) => Err(OraError(
                6550,
                format!("ORA-06550: line 1, column 1:\nPLS-00201: identifier '{name}' must be declared"),
            )),
            _ => {
                self.values.insert(place, value);
                Ok(())
            }
        }
    }

    fn statement(&mut self, ins: &HashMap<String, Val>) -> Result<(), OraError> {
        if self.is_word("EXECUTE") {
            self.word("IMMEDIATE")?;
            let Token::Text(sql) = self.next()? else { return Err(OraError::syntax("a text is expected")) };
            let value = self.packages.execute(&sql)?;
            if self.is_word("INTO") {
                let Token::Word(name) = self.next()? else { return Err(OraError::syntax("a variable is expected")) };
                self.assign(Place::Variable(name), value, ins)?;
            }
            return self.sign(";");
        }
        let place = match self.next()? {
            Token::Bind(name) => Place::Bind(name),
            Token::Word(name) => Place::Variable(name),
            other => return Err(OraError::syntax(format!("{other:?} begins no statement"))),
        };
        if self.is_sign(":=") {
            let value = self.expression()?.1;
            self.assign(place, value, ins)?;
        } else {
            let Place::Variable(first) = place else { return Err(OraError::syntax("a bind is no procedure")) };
            let (_, outs) = self.call(first)?;
            for (place, value) in outs {
                self.assign(place, value, ins)?;
            }
        }
        self.sign(";")
    }

    /// An expression, and the place that it names if it does.
    fn expression(&mut self) -> Result<(Option<Place>, Val), OraError> {
        let unset = |name: &str| OraError(1008, format!("ORA-01008: not all variables bound, {name}"));
        match self.next()? {
            Token::Number(number) => Ok((None, Val::Number(number))),
            Token::Text(text) => Ok((None, Val::Text(text))),
            Token::Bind(name) => {
                let place = Place::Bind(name.clone());
                let value = self.values.get(&place).cloned().ok_or_else(|| unset(&name))?;
                Ok((Some(place), value))
            }
            Token::Word(word) => match word.as_str() {
                "TRUE" => Ok((None, Val::Boolean(true))),
                "FALSE" => Ok((None, Val::Boolean(false))),
                "NULL" => Ok((None, Val::Null)),
                _ => {
                    let place = Place::Variable(word.clone());
                    match self.values.get(&place).cloned() {
                        Some(value) => Ok((Some(place), value)),
                        None => self.call(word).map(|(value, _)| (None, value)),
                    }
                }
            },
            other => Err(OraError::syntax(format!("{other:?} begins no expression"))),
        }
    }

    fn call(&mut self, first: String) -> Result<(Val, Vec<(Place, Val)>), OraError> {
        let mut name = first;
        while self.is_sign(".") {
            let Token::Word(part) = self.next()? else { return Err(OraError::syntax("a name is expected")) };
            name = format!("{name}.{part}");
        }
        let (mut arguments, mut places) = (Arguments::default(), HashMap::new());
        self.sign("(")?;
        while !self.is_sign(")") {
            let named = matches!(self.tokens.get(self.at + 1), Some(Token::Sign("=>")));
            if named {
                let Token::Word(parameter) = self.next()? else {
                    return Err(OraError::syntax("a parameter is expected"));
                };
                self.sign("=>")?;
                let (place, value) = self.expression()?;
                places.extend(place.map(|place| (parameter.clone(), place)));
                arguments.named.insert(parameter, value);
            } else {
                arguments.positional.push(self.expression()?.1);
            }
            if !self.is_sign(",") {
                self.sign(")")?;
                break;
            }
        }
        let (value, outs) = self.packages.call(&name, &arguments)?;
        let outs = outs.into_iter().map(|(parameter, value)| {
            let place = places.get(&parameter).cloned();
            place
                .map(|place| (place, value))
                .ok_or_else(|| OraError(6550, format!("PLS-00363: the argument of {parameter} can't be assigned to")))
        });
        Ok((value, outs.collect::<Result<_, _>>()?))
    }
}
