//! The tree of a filter, and what it says of a message.

use super::Subject;

/// A part of a filter. No deeper than a small multiple of the limit of depth, so that walking and dropping it may recurse.
pub(super) enum Node {
    Any(Box<[Node]>),
    All(Box<[Node]>),
    Not(Box<Node>),
    Term(Field, Test),
}

/// What a term looks at.
pub(super) enum Field {
    Key,
    Header(Box<str>),
}

/// What a term asks of a value that is there.
pub(super) enum Test {
    Exists,
    Is(Box<[u8]>),
    IsNot(Box<[u8]>),
    Prefix(Box<[u8]>),
    Number(Operator, f64),
    /// Texts are in order.
    In {
        texts: Box<[Box<[u8]>]>,
        numbers: Box<[f64]>,
    },
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Node {
    pub(super) fn holds(&self, subject: &impl Subject) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(subject)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(subject)),
            Self::Not(node) => !node.holds(subject),
            Self::Term(Field::Key, test) => subject.key().is_some_and(|key| test.holds(key)),
            Self::Term(Field::Header(name), test) => {
                subject.header(name).is_some_and(|value| test.holds(value.as_bytes()))
            }
        }
    }

    pub(super) fn needs_headers(&self) -> bool {
        match self {
            Self::Any(nodes) | Self::All(nodes) => nodes.iter().any(Self::needs_headers),
            Self::Not(node) => node.needs_headers(),
            Self::Term(field, _) => matches!(field, Field::Header(_)),
        }
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exists => true,
            Self::Is(text) => value == &**text,
            Self::IsNot(text) => value != &**text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Number(operator, right) => decimal(value).is_some_and(|left| operator.holds(left, *right)),
            Self::In { texts, numbers } => {
                let is_text = texts.binary_search_by(|text| (**text).cmp(value)).is_ok();
                is_text || (!numbers.is_empty() && decimal(value).is_some_and(|value| numbers.contains(&value)))
            }
        }
    }
}

impl Operator {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Different => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

/// A finite number in decimal, with sign, fraction and exponent as wanted. `inf` and `nan` are none, nor is anything with
/// space around it.
pub(super) fn decimal(text: &[u8]) -> Option<f64> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.iter().all(is_part) {
        return None;
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}
