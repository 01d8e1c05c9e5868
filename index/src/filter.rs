//! Filters: which messages a subscription is for, decided by key and headers alone.
//!
//! ```text
//! type = "order" and (key prefix "eu-" or amount >= 10) and not region in ("a", "b") and trace exists
//! ```
//!
//! # Grammar
//! `not` binds closer than `and`, `and` closer than `or`.
//!
//! ```text
//! filter  = all { "or" all }
//! all     = single { "and" single }
//! single  = "not" single | "(" filter ")" | term
//! term    = field ( "=" | "!=" ) value
//!         | field ( "<" | "<=" | ">" | ">=" ) number
//!         | field "prefix" text
//!         | field "in" "(" value { "," value } ")"
//!         | field "exists"
//! field   = "key" | name | "header" "(" text ")"
//! value   = text | number
//! name    = ( letter | "_" ) { letter | digit | "_" | "." | "-" }
//! number  = [ "+" | "-" ] ( digits [ "." [ digits ] ] | "." digits ) [ "e" [ "+" | "-" ] digits ]
//! text    = '"' … '"' | "'" … "'"
//! ```
//!
//! Keywords (`and or not in prefix exists key header`) are known in any case. A name is that of a header, in exactly this
//! case; letters are those of ASCII. A header with any other name, one that is also a keyword included, is written
//! `header("any name")`. In a text `\\ \" \' \n \r \t` and `\xHH`, a byte in hexadecimal, have their usual meaning.
//!
//! # Meaning
//! - A term about a header or key that the message does not have is false, `!=` included: for messages without the
//!   header as well say `not region = "eu"`. Of headers with the same name the first counts.
//! - A text is compared byte by byte: `amount = "10"` is false for a header `10.0`.
//! - A number is compared as a 64-bit float with what the header says in decimal: `amount = 10` is true for `10.0` and
//!   `1e1`. Where the header is no such number the term is false, `!=` included. Whole numbers above 2^53 are not
//!   exact: write identifiers as texts.
//! - An empty text is a value: `prefix ""` says the same as `exists`.
//!
//! Limits: [`MAX_FILTER_BYTES`], [`MAX_FILTER_DEPTH`], [`MAX_FILTER_TERMS`].

mod eval;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use self::eval::Node;
use crate::{
    batch::Messages,
    limits::{MAX_FILTER_BYTES, MAX_FILTER_DEPTH, MAX_FILTER_TERMS},
};

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter is wrong at byte {position}: {problem}; {hint}")]
pub struct FilterError {
    /// Where, in bytes from the beginning of the text, at most its length. Always between two characters.
    pub position: usize,
    /// What is wrong there.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl FilterError {
    fn new(position: usize, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { position, problem: problem.into(), hint: hint.into() }
    }
}

/// What a filter looks at.
pub trait Subject {
    /// The key, if there is one.
    fn key(&self) -> Option<&[u8]>;

    /// The value of the first header of this name, if there is one.
    fn header(&self, name: &str) -> Option<&str>;
}

/// A filter that was understood. Cheap to clone; equal to filters of the same text.
#[derive(Clone)]
pub struct Filter(Arc<Parsed>);

struct Parsed {
    text: Box<str>,
    root: Node,
    needs_headers: bool,
}

impl Filter {
    /// Reads a filter; the language is in the documentation of this module.
    ///
    /// # Errors
    /// When the text is not in the language, or beyond a limit.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let root = parser::parse(text)?;
        let needs_headers = root.needs_headers();
        Ok(Self(Arc::new(Parsed { text: text.into(), root, needs_headers })))
    }

    /// The text that was parsed, unchanged.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether a term is about a header; without one the key decides alone.
    pub fn needs_headers(&self) -> bool {
        self.0.needs_headers
    }

    /// Whether a message is let through. Allocates nothing.
    pub fn matches(&self, subject: &impl Subject) -> bool {
        self.0.root.holds(subject)
    }

    /// Whether row `row` of `messages` is let through. Allocates nothing.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn matches_row(&self, messages: &Messages, row: usize) -> bool {
        self.matches(&Row { messages, row })
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text()).finish()
    }
}

/// A message where it lies in its batch.
struct Row<'a> {
    messages: &'a Messages,
    row: usize,
}

impl Subject for Row<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.messages.key(self.row)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.messages.headers(self.row).find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}
