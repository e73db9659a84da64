//! Text into words.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A word as it is written.
    Word(String),
    /// A name in brackets or double quotes.
    Name(String),
    /// `@x` or `@@x`.
    Variable(String),
    Text(String),
    Number(i64),
    Float(f64),
    Binary(Vec<u8>),
    Sign(&'static str),
}

const SIGNS: [&str; 22] = [
    "<>", "<=", ">=", "!=", "+=", "-=", "(", ")", ",", ";", ".", "=", "<", ">", "+", "-", "*", "/", "%", ":", "~", "&",
];

/// The words of `text`, or what can't be read.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let signs: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&sign) = signs.get(at) {
        let next = signs.get(at + 1).copied();
        if sign.is_whitespace() || sign == '\u{feff}' {
            at += 1;
        } else if sign == '-' && next == Some('-') {
            at = (at..signs.len()).find(|&end| signs[end] == '\n').unwrap_or(signs.len());
        } else if sign == '/' && next == Some('*') {
            at = comment(&signs, at)?;
        } else if sign == '\'' || (matches!(sign, 'N' | 'n') && next == Some('\'')) {
            let (text, end) = quoted(&signs, if sign == '\'' { at } else { at + 1 }, '\'')?;
            tokens.push(Token::Text(text));
            at = end;
        } else if sign == '[' || sign == '"' {
            let (name, end) = quoted(&signs, at, if sign == '[' { ']' } else { '"' })?;
            tokens.push(Token::Name(name));
            at = end;
        } else if sign == '0' && matches!(next, Some('x' | 'X')) {
            let end = (at + 2..signs.len()).find(|&end| !signs[end].is_ascii_hexdigit()).unwrap_or(signs.len());
            tokens.push(Token::Binary(hex(&signs[at + 2..end])));
            at = end;
        } else if sign.is_ascii_digit() {
            let end = (at..signs.len()).find(|&end| !matches!(signs[end], '0'..='9' | '.')).unwrap_or(signs.len());
            tokens.push(number(&signs[at..end].iter().collect::<String>())?);
            at = end;
        } else if sign == '@' || sign == '_' || sign == '#' || sign.is_alphabetic() {
            let part = |sign: char| sign.is_alphanumeric() || matches!(sign, '@' | '_' | '#' | '$');
            let end = (at..signs.len()).find(|&end| !part(signs[end])).unwrap_or(signs.len());
            let word: String = signs[at..end].iter().collect();
            tokens.push(if sign == '@' { Token::Variable(word.to_lowercase()) } else { Token::Word(word) });
            at = end;
        } else {
            let found = SIGNS.iter().find(|known| known.chars().eq(signs[at..].iter().copied().take(known.len())));
            let found = found.ok_or_else(|| sign.to_string())?;
            tokens.push(Token::Sign(found));
            at += found.len();
        }
    }
    Ok(tokens)
}

/// The end of a comment. Comments nest.
fn comment(signs: &[char], start: usize) -> Result<usize, String> {
    let (mut depth, mut at) = (0, start);
    while at + 1 < signs.len() {
        match (signs[at], signs[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("/*".to_owned())
}

/// What stands between the sign at `start` and the next `end` that isn't doubled, and where it goes on.
fn quoted(signs: &[char], start: usize, end: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut at = start + 1;
    while let Some(&sign) = signs.get(at) {
        if sign != end {
            text.push(sign);
            at += 1;
        } else if signs.get(at + 1) == Some(&end) {
            text.push(end);
            at += 2;
        } else {
            return Ok((text, at + 1));
        }
    }
    Err(text)
}

fn number(text: &str) -> Result<Token, String> {
    let whole = text.parse().map(Token::Number);
    whole.or_else(|_| text.parse().map(Token::Float)).map_err(|_| text.to_owned())
}

fn hex(digits: &[char]) -> Vec<u8> {
    let digit = |sign: char| u8::try_from(sign.to_digit(16).unwrap_or(0)).unwrap_or(0);
    let odd = digits.len() % 2;
    let first = digits[..odd].iter().map(|&sign| digit(sign));
    first.chain(digits[odd..].chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]))).collect()
}
