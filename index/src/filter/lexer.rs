//! The words of a filter, one at a time, so that the first mistake in the text is the one that is told.

use super::{
    FilterError,
    eval::{Operator, decimal},
};

/// A word, and where in the text it is: from `at` up to `end`.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    Keyword(Keyword),
    /// A name that is no keyword.
    Name(&'a str),
    Text(Vec<u8>),
    Number(f64),
    Operator(Operator),
    Open,
    Close,
    Comma,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    In,
    Prefix,
    Exists,
    Key,
    Header,
}

impl Keyword {
    fn of(word: &str) -> Option<Self> {
        let keywords = [
            ("and", Self::And),
            ("or", Self::Or),
            ("not", Self::Not),
            ("in", Self::In),
            ("prefix", Self::Prefix),
            ("exists", Self::Exists),
            ("key", Self::Key),
            ("header", Self::Header),
        ];
        keywords.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, keyword)| keyword)
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where the next token is looked for, always between two characters.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; [`Kind::End`] from the end on.
    pub(super) fn next(&mut self) -> Result<Token<'a>, FilterError> {
        self.at += self.run(self.at, |byte| byte.is_ascii_whitespace()).len();
        let at = self.at;
        let Some(first) = self.text[at..].chars().next() else { return Ok(Token { at, end: at, kind: Kind::End }) };
        let (kind, end) = match first {
            '(' => (Kind::Open, at + 1),
            ')' => (Kind::Close, at + 1),
            ',' => (Kind::Comma, at + 1),
            '"' | '\'' => self.quoted(at)?,
            '=' | '!' | '<' | '>' | '&' | '|' => self.operator(at)?,
            '0'..='9' | '+' | '-' | '.' => self.number(at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let word = self.run(at, is_name);
                (Keyword::of(word).map_or(Kind::Name(word), Kind::Keyword), at + word.len())
            }
            other => {
                let hint = "names are of A-Z a-z 0-9 _ . - only: write header(\"any name\") for others, and values in \
                            quotes, \" or '";
                return Err(FilterError::new(at, format!("the character {other:?} has no meaning here"), hint));
            }
        };
        self.at = end;
        Ok(Token { at, end, kind })
    }

    /// The bytes from `at` on of which `is_part` is true; they must be ASCII.
    fn run(&self, at: usize, is_part: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[at..];
        &rest[..rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len())]
    }

    fn operator(&self, at: usize) -> Result<(Kind<'a>, usize), FilterError> {
        let word = self.run(at, |byte| b"=!<>&|".contains(&byte));
        let operator = match word {
            "=" => Operator::Equal,
            "!=" => Operator::Different,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            _ => {
                let hint = match word {
                    "==" => "write =",
                    "<>" => "write !=",
                    "&" | "&&" => "write and",
                    "|" | "||" => "write or",
                    "!" => "write not",
                    _ => "there are = != < <= > >=",
                };
                return Err(FilterError::new(at, format!("there is no operator {}", shown(word)), hint));
            }
        };
        Ok((Kind::Operator(operator), at + word.len()))
    }

    fn number(&self, at: usize) -> Result<(Kind<'a>, usize), FilterError> {
        let word = self.run(at, |byte| is_name(byte) || byte == b'+');
        let Some(number) = decimal(word.as_bytes()) else {
            let hint = format!(
                "numbers are decimal, like -1.5e3, and within the range of 64-bit floats; a text is written in quotes, and \
                 a header whose name does not begin with a letter header({})",
                shown(word)
            );
            return Err(FilterError::new(at, format!("{} is not a number", shown(word)), hint));
        };
        Ok((Kind::Number(number), at + word.len()))
    }

    fn quoted(&self, at: usize) -> Result<(Kind<'a>, usize), FilterError> {
        let bytes = self.text.as_bytes();
        let quote = bytes[at];
        let (mut content, mut next) = (Vec::new(), at + 1);
        loop {
            match bytes.get(next) {
                Some(byte) if *byte == quote => return Ok((Kind::Text(content), next + 1)),
                Some(b'\\') => {
                    let Some((byte, length)) = escape(&bytes[next + 1..]) else {
                        let hint = "there are \\\\ \\\" \\' \\n \\r \\t and \\xHH, where HH is a byte in hexadecimal";
                        return Err(FilterError::new(next, "the backslash begins no known escape", hint));
                    };
                    content.push(byte);
                    next += 1 + length;
                }
                Some(byte) => {
                    content.push(*byte);
                    next += 1;
                }
                None => {
                    let quote = char::from(quote);
                    let hint = format!("close it with {quote}; one that is part of the text is written \\{quote}");
                    return Err(FilterError::new(at, "the text in quotes has no end", hint));
                }
            }
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// The byte that an escape stands for, and the length of the escape, both without its backslash.
fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    let byte = match rest.first()? {
        byte @ (b'\\' | b'"' | b'\'') => *byte,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
            let value = digit(1)? * 16 + digit(2)?;
            return Some((u8::try_from(value).ok()?, 3));
        }
        _ => return None,
    };
    Some((byte, 1))
}

/// A piece of the text for a message: quoted, and not too long.
pub(super) fn shown(piece: &str) -> String {
    const MOST: usize = 40;
    match piece.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &piece[..end]),
        None => format!("{piece:?}"),
    }
}
