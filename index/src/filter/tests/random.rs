//! Arbitrary filters, and texts that are none.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

/// A filter as the documentation describes it.
#[derive(Clone, Debug)]
enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Exists(Field),
    Compare(Field, &'static str, Value),
    Prefix(Field, Vec<u8>),
    In(Field, Vec<Value>),
}

/// `None` is the key.
type Field = Option<&'static str>;

#[derive(Clone, Debug)]
enum Value {
    Text(Vec<u8>),
    Number(f64),
}

#[derive(Clone, Debug)]
struct Message {
    key: Option<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
}

impl Message {
    fn value(&self, field: Field) -> Option<&[u8]> {
        match field {
            None => self.key.as_deref(),
            Some(name) => self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_bytes()),
        }
    }
}

impl Subject for Message {
    fn key(&self) -> Option<&[u8]> {
        self.value(None)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }
}

/// Names, values and numbers are few, so that filters and messages meet.
const NAMES: [&str; 6] = ["a", "b-1.c", "Key", "any name", "ä\"\\'", "not"];
const VALUES: [&str; 12] = ["", "x", "xy", "X", "ä", "'\"\\\n\t\r", "10", "10.0", "1e1", "-1.5", "inf", " 10"];
const NUMBERS: [f64; 6] = [0.0, 10.0, -1.5, 1e300, 0.1, 9.999];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = select(&VALUES).prop_map(|value| value.as_bytes().to_vec());
    prop_oneof![6 => known, 1 => vec(any::<u8>(), 0..4)]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![bytes().prop_map(Value::Text), select(&NUMBERS).prop_map(Value::Number)]
}

fn message() -> impl Strategy<Value = Message> {
    let header = (select(&NAMES), select(&VALUES)).prop_map(|(name, value)| (name, value.to_owned()));
    (option::of(bytes()), vec(header, 0..9)).prop_map(|(key, headers)| Message { key, headers })
}

fn expression() -> impl Strategy<Value = Expression> {
    use Expression::*;
    let field = || option::weighted(0.8, select(&NAMES));
    let operator = select(&["=", "!=", "<", "<=", ">", ">="]);
    let compare = (field(), operator, value()).prop_map(|(field, operator, value)| match value {
        // Texts have no order.
        Value::Text(_) if operator.contains(['<', '>']) => Compare(field, "=", value),
        value => Compare(field, operator, value),
    });
    let leaf = prop_oneof![
        1 => field().prop_map(Exists),
        4 => compare,
        1 => (field(), bytes()).prop_map(|(field, text)| Prefix(field, text)),
        1 => (field(), vec(value(), 1..4)).prop_map(|(field, values)| In(field, values)),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(And),
            vec(inner.clone(), 1..4).prop_map(Or),
            inner.prop_map(|inner| Not(Box::new(inner))),
        ]
    })
}

/// The number that a header says, in a way of its own: signs and digits are looked at before anything is converted.
fn number(value: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(value).ok()?.to_ascii_lowercase();
    let unsigned = |part: &str| part.strip_prefix(['+', '-']).unwrap_or(part).to_owned();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (mantissa, exponent) = (unsigned(mantissa), unsigned(exponent));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    let lacks_digits = exponent.is_empty() || (whole.is_empty() && fraction.is_empty());
    let is_number = !lacks_digits && [whole, fraction, &exponent].iter().all(|part| is_digits(part));
    is_number.then(|| text.parse().unwrap()).filter(|number: &f64| number.is_finite())
}

fn equals(value: &[u8], other: &Value) -> bool {
    match other {
        Value::Text(text) => value == text,
        Value::Number(other) => number(value) == Some(*other),
    }
}

impl Expression {
    fn holds(&self, message: &Message) -> bool {
        match self {
            Self::And(parts) => !parts.iter().any(|part| !part.holds(message)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(message)),
            Self::Not(inner) => !inner.holds(message),
            Self::Exists(field) => message.value(*field).is_some(),
            Self::Prefix(field, text) => {
                message.value(*field).is_some_and(|value| value.get(..text.len()) == Some(text))
            }
            Self::In(field, values) => match message.value(*field) {
                Some(found) => values.iter().any(|value| equals(found, value)),
                None => false,
            },
            Self::Compare(field, operator, value) => {
                let Some(found) = message.value(*field) else { return false };
                match (*operator, value) {
                    ("=", value) => equals(found, value),
                    ("!=", Value::Text(text)) => found != text,
                    (operator, Value::Number(right)) => number(found).is_some_and(|left| match operator {
                        "!=" => left != *right,
                        "<" => left < *right,
                        "<=" => left <= *right,
                        ">" => left > *right,
                        _ => left >= *right,
                    }),
                    (_, Value::Text(_)) => unreachable!("texts have no order"),
                }
            }
        }
    }
}

/// Writes an expression, in one of the many ways there are.
struct Printer {
    /// Where the ways come from, over and over.
    choices: Vec<u8>,
    made: usize,
    text: String,
}

impl Printer {
    fn choose(&mut self, among: usize) -> usize {
        self.made += 1;
        usize::from(self.choices[self.made % self.choices.len()]) % among
    }

    fn space(&mut self) {
        let space = [" ", "\n", "\t  "][self.choose(3)];
        self.text.push_str(space);
    }

    fn keyword(&mut self, keyword: &str) {
        self.space();
        let keyword = if self.choose(4) == 0 { keyword.to_uppercase() } else { keyword.to_owned() };
        self.text.push_str(&keyword);
        self.space();
    }

    fn quoted(&mut self, content: &[u8]) {
        let quote = ['"', '\''][self.choose(2)];
        self.text.push(quote);
        for chunk in content.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '\n' if self.choose(2) == 0 => self.text.push_str("\\n"),
                    '\t' => self.text.push_str("\\t"),
                    '\r' => self.text.push_str("\\r"),
                    _ if character == quote => self.text.extend(['\\', quote]),
                    _ => self.text.push(character),
                }
            }
            for byte in chunk.invalid() {
                self.text.push_str(&format!("\\x{byte:02x}"));
            }
        }
        self.text.push(quote);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.quoted(text),
            Value::Number(number) if self.choose(2) == 0 => self.text.push_str(&format!("{number:e}")),
            Value::Number(number) => self.text.push_str(&format!("{number:+}")),
        }
    }

    fn field(&mut self, field: Field) {
        match field {
            None => self.keyword("key"),
            Some(name @ ("a" | "b-1.c")) if self.choose(3) > 0 => self.text.push_str(name),
            Some(name) => {
                self.keyword("header");
                self.text.push('(');
                self.quoted(name.as_bytes());
                self.text.push(')');
            }
        }
    }

    /// Writes an expression where operators that bind less closely than `level` need parentheses: 0 `or`, 1 `and`, 2 `not`.
    fn print(&mut self, expression: &Expression, level: usize) {
        let own = match expression {
            Expression::Or(parts) if parts.len() > 1 => 0,
            Expression::And(parts) if parts.len() > 1 => 1,
            _ => 2,
        };
        if own < level || self.choose(8) == 0 {
            self.text.push('(');
            self.bare(expression, own);
            self.text.push(')');
        } else {
            self.bare(expression, own);
        }
    }

    fn bare(&mut self, expression: &Expression, own: usize) {
        match expression {
            Expression::Or(parts) | Expression::And(parts) => {
                let keyword = if matches!(expression, Expression::Or(_)) { "or" } else { "and" };
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        self.keyword(keyword);
                    }
                    self.print(part, own);
                }
            }
            Expression::Not(inner) => {
                self.keyword("not");
                self.print(inner, 2);
            }
            Expression::Exists(field) => {
                self.field(*field);
                self.keyword("exists");
            }
            Expression::Compare(field, operator, value) => {
                self.field(*field);
                self.text.push_str(operator);
                self.value(value);
            }
            Expression::Prefix(field, text) => {
                self.field(*field);
                self.keyword("prefix");
                self.quoted(text);
            }
            Expression::In(field, values) => {
                self.field(*field);
                self.keyword("in");
                self.text.push('(');
                for (at, value) in values.iter().enumerate() {
                    self.text.push_str(if at > 0 { ", " } else { "" });
                    self.value(value);
                }
                self.text.push(')');
            }
        }
    }
}

/// Whatever the text: a filter that says something of every message, or a mistake at a place within it.
fn is_read_or_refused(text: &str) {
    match Filter::parse(text) {
        Ok(filter) => {
            assert_eq!(filter.text(), text);
            filter.matches(&Message { key: None, headers: Vec::new() });
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.position), "{text:?}: {error}");
            assert!(!error.problem.is_empty() && !error.hint.is_empty() && error.to_string().len() < 600, "{error}");
        }
    }
}

proptest! {
    // Each takes some 50 us, and what hides behind `and` and `or` comes out only now and then.
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn printed_and_parsed_it_says_the_same(
        expression in expression(),
        choices in vec(any::<u8>(), 1..60),
        rows in vec(message(), 1..20),
    ) {
        let mut printer = Printer { choices, made: 0, text: String::new() };
        printer.print(&expression, 0);
        let text = printer.text;
        let filter = Filter::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let headers: Vec<Vec<_>> = rows
            .iter()
            .map(|row| row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect())
            .collect();
        let borrowed: Vec<_> = rows.iter().zip(&headers).map(|(row, headers)| (row.key.as_deref(), &**headers)).collect();
        let messages = messages(&borrowed);
        for (at, row) in rows.iter().enumerate() {
            let expected = expression.holds(row);
            prop_assert_eq!(filter.matches(row), expected, "{} on {:?}", &text, row);
            prop_assert_eq!(filter.matches_row(&messages, at), expected, "{} on {:?}", &text, row);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,60}") {
        is_read_or_refused(&text);
    }

    #[test]
    fn no_mix_of_words_is_too_strange(words in vec(select(&[
        "and", "or", "not", "in", "prefix", "exists", "key", "header", "a", "b.c", "(", ")", ",", "=", "!=", "<", "<=", ">",
        ">=", "1", "-1e3", "1e999", "\"x\"", "'", "\"", "\\", "\\x", "ä", " ", "!", "&&", "header(\"x\")", "key exists",
        "a = 1", "a in (1, 'x')", "((((((((", "not not not not", "\u{a0}", "\0",
    ][..]), 0..60), spaced: bool) {
        is_read_or_refused(&words.join(if spaced { " " } else { "" }));
    }
}
