//! `SELECT`, with sources, joins, a condition and an order.

use super::ast::{Expression, Item, Select, Source};
use super::expression::reserved;
use super::lexer::Token;
use super::parser::{Parsed, Parser};

/// How deep one may stand in another: a client can't overflow the stack.
const DEEPEST: usize = 32;

impl Parser {
    pub(super) fn select(&mut self, depth: usize) -> Parsed<Select> {
        if depth > DEEPEST {
            return Err(self.unexpected());
        }
        self.need_word("SELECT")?;
        let top = if self.word("TOP") {
            let bracket = self.skip("(");
            let count = self.expression()?;
            if bracket {
                self.need(")")?;
            }
            Some(count)
        } else {
            None
        };
        let mut items = Vec::new();
        loop {
            items.push(self.item()?);
            if !self.skip(",") {
                break;
            }
        }
        let from = if self.word("FROM") { self.sources()? } else { Vec::new() };
        let condition = if self.word("WHERE") { Some(self.expression()?) } else { None };
        let mut order = Vec::new();
        if self.words(&["ORDER", "BY"]) {
            loop {
                let by = self.expression()?;
                let down = self.word("DESC");
                if !down {
                    self.word("ASC");
                }
                order.push((by, down));
                if !self.skip(",") {
                    break;
                }
            }
        }
        Ok(Select { top, items, from, condition, order })
    }

    fn item(&mut self) -> Parsed<Item> {
        if self.skip("*") {
            return Ok(Item::All(None));
        }
        if self.is_sign(1, ".") && self.is_sign(2, "*") {
            let alias = self.name()?;
            self.skip(".");
            self.skip("*");
            return Ok(Item::All(Some(alias)));
        }
        if matches!(self.peek(), Some(Token::Variable(name)) if !name.starts_with("@@")) && self.is_sign(1, "=") {
            let name = self.variable()?;
            self.need("=")?;
            return Ok(Item::Assign(name, self.expression()?));
        }
        if matches!(self.peek(), Some(Token::Word(_) | Token::Name(_)))
            && self.is_sign(1, "=")
            && !reserved(self.peek())
        {
            let name = self.name()?;
            self.need("=")?;
            return Ok(Item::Value(self.expression()?, name));
        }
        let value = self.expression()?;
        let name = if self.word("AS") {
            match self.peek() {
                Some(Token::Text(text)) => {
                    let text = text.clone();
                    self.next();
                    text
                }
                _ => self.name()?,
            }
        } else if self.alias_follows() {
            self.name()?
        } else if let Expression::Column(_, name) = &value {
            name.clone()
        } else {
            String::new()
        };
        Ok(Item::Value(value, name))
    }

    fn alias_follows(&self) -> bool {
        match self.peek() {
            Some(Token::Name(_)) => true,
            Some(Token::Word(word)) => {
                let other = ["WITH", "THROW", "RAISERROR", "BREAK", "CONTINUE"];
                !reserved(self.peek()) && !other.iter().any(|known| word.eq_ignore_ascii_case(known))
            }
            _ => false,
        }
    }

    fn sources(&mut self) -> Parsed<Vec<Source>> {
        let mut sources = vec![self.source(false)?];
        loop {
            let outer = if self.skip(",") {
                sources.push(self.source(false)?);
                continue;
            } else if self.words(&["LEFT", "OUTER", "JOIN"]) || self.words(&["LEFT", "JOIN"]) {
                true
            } else if self.words(&["INNER", "JOIN"]) || self.word("JOIN") {
                false
            } else {
                return Ok(sources);
            };
            let mut source = self.source(outer)?;
            self.need_word("ON")?;
            source.on = Some(self.expression()?);
            sources.push(source);
        }
    }

    fn source(&mut self, outer: bool) -> Parsed<Source> {
        let path = self.path()?;
        let view = path.join(".");
        self.word("AS");
        let alias = if self.alias_follows() { self.name()? } else { path.last().cloned().unwrap_or_default() };
        if self.word("WITH") {
            self.need("(")?;
            self.name()?;
            self.need(")")?;
        }
        Ok(Source { view, alias, on: None, outer })
    }
}
