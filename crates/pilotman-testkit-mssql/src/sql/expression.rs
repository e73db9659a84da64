//! Expressions, by precedence.

use super::ast::{Expression, Operator};
use super::lexer::Token;
use super::parser::{Parsed, Parser};
use crate::wire::types::Value;

/// How deep expressions may nest: a client can't overflow the stack.
const DEEPEST: usize = 64;

impl Parser {
    pub(super) fn expression(&mut self) -> Parsed<Expression> {
        self.or(0)
    }

    fn or(&mut self, depth: usize) -> Parsed<Expression> {
        if depth > DEEPEST {
            return Err(self.unexpected());
        }
        let mut left = self.and(depth)?;
        while self.word("OR") {
            left = operation(Operator::Or, left, self.and(depth)?);
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Parsed<Expression> {
        let mut left = self.not(depth)?;
        while self.word("AND") {
            left = operation(Operator::And, left, self.not(depth)?);
        }
        Ok(left)
    }

    fn not(&mut self, depth: usize) -> Parsed<Expression> {
        if depth > DEEPEST {
            return Err(self.unexpected());
        }
        if self.word("NOT") {
            return Ok(Expression::Not(Box::new(self.not(depth + 1)?)));
        }
        self.comparison(depth)
    }

    fn comparison(&mut self, depth: usize) -> Parsed<Expression> {
        let left = self.sum(depth)?;
        let operators = [
            ("=", Operator::Equal),
            ("<>", Operator::Unequal),
            ("!=", Operator::Unequal),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        for (sign, operator) in operators {
            if self.skip(sign) {
                return Ok(operation(operator, left, self.sum(depth)?));
            }
        }
        if self.word("IS") {
            let not = self.word("NOT");
            self.need_word("NULL")?;
            return Ok(Expression::IsNull(Box::new(left), not));
        }
        let not = (self.is_word(1, "IN") || self.is_word(1, "LIKE") || self.is_word(1, "BETWEEN")) && self.word("NOT");
        if self.word("IN") {
            self.need("(")?;
            let list = self.list(depth)?;
            return Ok(Expression::In(Box::new(left), list, not));
        }
        if self.word("LIKE") {
            return Ok(Expression::Like(Box::new(left), Box::new(self.sum(depth)?), not));
        }
        if self.word("BETWEEN") {
            let low = operation(Operator::AtLeast, left.clone(), self.sum(depth)?);
            self.need_word("AND")?;
            let both = operation(Operator::And, low, operation(Operator::AtMost, left, self.sum(depth)?));
            return Ok(if not { Expression::Not(Box::new(both)) } else { both });
        }
        Ok(left)
    }

    fn sum(&mut self, depth: usize) -> Parsed<Expression> {
        let mut left = self.product(depth)?;
        loop {
            let operator = match () {
                () if self.skip("+") => Operator::Add,
                () if self.skip("-") => Operator::Subtract,
                () => return Ok(left),
            };
            left = operation(operator, left, self.product(depth)?);
        }
    }

    fn product(&mut self, depth: usize) -> Parsed<Expression> {
        let mut left = self.unary(depth)?;
        loop {
            let operator = match () {
                () if self.skip("*") => Operator::Multiply,
                () if self.skip("/") => Operator::Divide,
                () if self.skip("%") => Operator::Modulo,
                () => return Ok(left),
            };
            left = operation(operator, left, self.unary(depth)?);
        }
    }

    fn unary(&mut self, depth: usize) -> Parsed<Expression> {
        if depth > DEEPEST {
            return Err(self.unexpected());
        }
        if self.skip("-") {
            return Ok(Expression::Negative(Box::new(self.unary(depth + 1)?)));
        }
        if self.skip("+") {
            return self.unary(depth + 1);
        }
        let value = self.primary(depth + 1)?;
        if self.word("COLLATE") {
            let collation = self.name()?;
            let binary = collation.to_ascii_uppercase().contains("_BIN");
            return Ok(if binary { Expression::Binary(Box::new(value)) } else { value });
        }
        Ok(value)
    }

    fn primary(&mut self, depth: usize) -> Parsed<Expression> {
        if self.skip("(") {
            let inner = if self.is_word(0, "SELECT") {
                Expression::Query(Box::new(self.select(depth)?))
            } else {
                self.or(depth)?
            };
            self.need(")")?;
            return Ok(inner);
        }
        match self.peek() {
            Some(Token::Text(text)) => {
                let value = Value::Text(text.clone());
                self.next();
                Ok(Expression::Value(value))
            }
            Some(&Token::Number(number)) => {
                self.next();
                Ok(Expression::Value(Value::Int(number)))
            }
            Some(&Token::Float(number)) => {
                self.next();
                Ok(Expression::Value(Value::Float(number)))
            }
            Some(Token::Binary(bytes)) => {
                let value = Value::Binary(bytes.clone());
                self.next();
                Ok(Expression::Value(value))
            }
            Some(Token::Variable(_)) => {
                let name = self.variable()?;
                Ok(match name.strip_prefix("@@") {
                    Some(global) => Expression::Global(global.to_owned()),
                    None => Expression::Variable(name),
                })
            }
            Some(Token::Word(_)) => self.word_expression(depth),
            Some(Token::Name(_)) => self.column_or_call(depth),
            _ => Err(self.unexpected()),
        }
    }

    fn word_expression(&mut self, depth: usize) -> Parsed<Expression> {
        if self.word("NULL") {
            return Ok(Expression::Value(Value::Null));
        }
        if self.word("CASE") {
            return self.case(depth);
        }
        if self.words(&["NEXT", "VALUE", "FOR"]) {
            return Ok(Expression::NextValue(self.path()?.join(".")));
        }
        if self.is_sign(1, "(") {
            if self.word("EXISTS") {
                self.need("(")?;
                let select = self.select(depth)?;
                self.need(")")?;
                return Ok(Expression::Exists(Box::new(select)));
            }
            if self.word("CAST") || self.word("TRY_CAST") {
                self.need("(")?;
                let value = self.or(depth)?;
                self.need_word("AS")?;
                let kind = self.kind()?;
                self.need(")")?;
                return Ok(Expression::Cast(Box::new(value), kind));
            }
            if self.word("CONVERT") {
                self.need("(")?;
                let kind = self.kind()?;
                self.need(",")?;
                let value = self.or(depth)?;
                if self.skip(",") {
                    self.number()?;
                }
                self.need(")")?;
                return Ok(Expression::Cast(Box::new(value), kind));
            }
            if (self.is_word(0, "COUNT") || self.is_word(0, "COUNT_BIG")) && self.is_sign(2, "*") {
                for _ in 0..3 {
                    self.next();
                }
                self.need(")")?;
                return Ok(Expression::Count);
            }
        }
        let left = self.is_word(0, "LEFT") && self.is_sign(1, "(");
        if reserved(self.peek()) && !left {
            return Err(self.unexpected());
        }
        self.column_or_call(depth)
    }

    fn column_or_call(&mut self, depth: usize) -> Parsed<Expression> {
        let mut path = self.path()?;
        if self.skip("(") {
            return Ok(Expression::Call(path.join("."), self.list(depth)?));
        }
        let column = path.pop().unwrap_or_default();
        Ok(Expression::Column(path.pop(), column))
    }

    /// What stands in parentheses, the first of which is taken.
    fn list(&mut self, depth: usize) -> Parsed<Vec<Expression>> {
        let mut list = Vec::new();
        if self.skip(")") {
            return Ok(list);
        }
        loop {
            list.push(self.or(depth)?);
            if !self.skip(",") {
                self.need(")")?;
                return Ok(list);
            }
        }
    }

    fn case(&mut self, depth: usize) -> Parsed<Expression> {
        let of = if self.is_word(0, "WHEN") { None } else { Some(Box::new(self.or(depth)?)) };
        let mut when = Vec::new();
        while self.word("WHEN") {
            let condition = self.or(depth)?;
            self.need_word("THEN")?;
            when.push((condition, self.or(depth)?));
        }
        let otherwise = if self.word("ELSE") { Some(Box::new(self.or(depth)?)) } else { None };
        self.need_word("END")?;
        Ok(Expression::Case { of, when, otherwise })
    }
}

fn operation(operator: Operator, left: Expression, right: Expression) -> Expression {
    Expression::Operation(operator, Box::new(left), Box::new(right))
}

/// Words that end an expression or begin a statement, and are never a column.
pub(super) fn reserved(token: Option<&Token>) -> bool {
    const WORDS: [&str; 36] = [
        "SELECT", "FROM", "WHERE", "ORDER", "GROUP", "IF", "ELSE", "BEGIN", "END", "WHILE", "EXEC", "EXECUTE", "SET",
        "DECLARE", "RETURN", "KILL", "COMMIT", "ROLLBACK", "PRINT", "WAITFOR", "CREATE", "DROP", "USE", "INSERT",
        "UPDATE", "DELETE", "INTO", "ON", "JOIN", "INNER", "LEFT", "THEN", "WHEN", "AND", "OR", "UNION",
    ];
    matches!(token, Some(Token::Word(word)) if WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}
