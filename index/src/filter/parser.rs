//! From text to tree, by recursive descent no deeper than the limit.

use super::{
    FilterError, MAX_FILTER_BYTES, MAX_FILTER_DEPTH, MAX_FILTER_TERMS,
    eval::{Field, Node, Operator, Test},
    lexer::{Keyword, Kind, Lexer, Token, shown},
};

const EXAMPLE: &str = "a comparison is, for example, region = \"eu\", amount >= 10, key prefix \"a\" or trace exists";

/// Reads a whole filter.
pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    if text.len() > MAX_FILTER_BYTES {
        let position = text.floor_char_boundary(MAX_FILTER_BYTES);
        let problem = format!("it has {} bytes, the limit is {MAX_FILTER_BYTES}", text.len());
        return Err(FilterError::new(position, problem, "make it shorter, or split the subscription"));
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.next()?;
    if next.kind == Kind::End {
        return Err(FilterError::new(0, "it is empty", "leave it out to get every message"));
    }
    let mut parser = Parser { text, lexer, next, depth: 0, terms: 0 };
    let root = parser.any()?;
    match parser.next.kind {
        Kind::End => Ok(root),
        Kind::Close => Err(parser.wrong("this parenthesis closes none", "leave it out, or open one before")),
        _ => Err(parser.unexpected("and, or or the end", "join comparisons with and or or")),
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Token<'a>,
    /// Parentheses and `not`s that are open.
    depth: usize,
    terms: usize,
}

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Result<Token<'a>, FilterError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// Goes on if the next token is this one.
    fn take(&mut self, kind: &Kind<'_>) -> Result<bool, FilterError> {
        let is_next = self.next.kind == *kind;
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn wrong(&self, problem: impl Into<String>, hint: impl Into<String>) -> FilterError {
        FilterError::new(self.next.at, problem, hint)
    }

    fn unexpected(&self, expected: &str, hint: impl Into<String>) -> FilterError {
        self.wrong(format!("expected {expected}, found {}", self.found()), hint)
    }

    /// The next token for a message.
    fn found(&self) -> String {
        match self.next.kind {
            Kind::End => "the end".to_owned(),
            // It has quotes already.
            Kind::Text(_) => "a text in quotes".to_owned(),
            _ => shown(self.word()),
        }
    }

    /// The next token as it is written.
    fn word(&self) -> &'a str {
        &self.text[self.next.at..self.next.end]
    }

    fn any(&mut self) -> Result<Node, FilterError> {
        self.joined(Keyword::Or, Self::all, Node::Any)
    }

    fn all(&mut self) -> Result<Node, FilterError> {
        self.joined(Keyword::And, Self::single, Node::All)
    }

    /// One part or more, joined by `keyword`.
    fn joined(
        &mut self,
        keyword: Keyword,
        part: fn(&mut Self) -> Result<Node, FilterError>,
        join: fn(Box<[Node]>) -> Node,
    ) -> Result<Node, FilterError> {
        let first = part(self)?;
        if self.next.kind != Kind::Keyword(keyword) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take(&Kind::Keyword(keyword))? {
            parts.push(part(self)?);
        }
        Ok(join(parts.into()))
    }

    fn single(&mut self) -> Result<Node, FilterError> {
        let is_not = match self.next.kind {
            Kind::Keyword(Keyword::Not) => true,
            Kind::Open => false,
            _ => return self.term(),
        };
        if self.depth == MAX_FILTER_DEPTH {
            let problem = format!("more than {MAX_FILTER_DEPTH} parentheses and nots are open here");
            return Err(self.wrong(problem, "write it flatter: a and (b and c) is a and b and c"));
        }
        let at = self.advance()?.at;
        self.depth += 1;
        let node = if is_not {
            Node::Not(Box::new(self.single()?))
        } else {
            let node = self.any()?;
            if !self.take(&Kind::Close)? {
                let expected = format!("and, or or the ) for the ( at byte {at}");
                return Err(self.unexpected(&expected, "close the parenthesis, or join comparisons with and or or"));
            }
            node
        };
        self.depth -= 1;
        Ok(node)
    }

    fn count_term(&mut self) -> Result<(), FilterError> {
        self.terms += 1;
        if self.terms <= MAX_FILTER_TERMS {
            return Ok(());
        }
        let problem = format!("more than {MAX_FILTER_TERMS} comparisons and values of in (…)");
        Err(self.wrong(problem, "use fewer: give what belongs together a header of its own"))
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        self.count_term()?;
        let field = self.field()?;
        Ok(Node::Term(field, self.test()?))
    }

    fn field(&mut self) -> Result<Field, FilterError> {
        let field = match self.next.kind {
            Kind::Keyword(Keyword::Key) => Field::Key,
            Kind::Name(name) => Field::Header(name.into()),
            Kind::Keyword(Keyword::Header) => return self.header(),
            Kind::Keyword(_) => {
                let hint = format!("{EXAMPLE}; a header of this name is written header({})", shown(self.word()));
                return Err(self.unexpected("a comparison", hint));
            }
            Kind::Text(_) | Kind::Number(_) => {
                let hint = "what is compared comes first, as in region = \"eu\"; a header with a name that is no plain \
                            word is written header(\"any name\")";
                return Err(self.unexpected("key or the name of a header", hint));
            }
            _ => return Err(self.unexpected("a comparison", EXAMPLE)),
        };
        self.advance()?;
        Ok(field)
    }

    /// `header("any name")`.
    fn header(&mut self) -> Result<Field, FilterError> {
        let hint = "a header is named like header(\"any name\"), also one that is named header";
        self.advance()?;
        if !self.take(&Kind::Open)? {
            return Err(self.unexpected("( after header", hint));
        }
        let Kind::Text(name) = &mut self.next.kind else {
            return Err(self.unexpected("the name of a header in quotes", hint));
        };
        let Ok(name) = String::from_utf8(std::mem::take(name)) else {
            return Err(self.wrong("the name of a header is always UTF-8", "leave \\x out of it"));
        };
        self.advance()?;
        if !self.take(&Kind::Close)? {
            return Err(self.unexpected(") after the name of the header", hint));
        }
        Ok(Field::Header(name.into()))
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        match self.next.kind {
            Kind::Operator(operator) => {
                self.advance()?;
                self.comparison(operator)
            }
            Kind::Keyword(Keyword::Exists) => {
                self.advance()?;
                Ok(Test::Exists)
            }
            Kind::Keyword(Keyword::Prefix) => {
                self.advance()?;
                let Kind::Text(text) = &mut self.next.kind else {
                    return Err(self.unexpected("a text in quotes after prefix", "write it like key prefix \"eu-\""));
                };
                let text = std::mem::take(text);
                self.advance()?;
                Ok(Test::Prefix(text.into()))
            }
            Kind::Keyword(Keyword::In) => {
                self.advance()?;
                self.list()
            }
            Kind::Keyword(Keyword::Not) => {
                Err(self.unexpected("an operator", "not comes first, as in not region in (\"a\", \"b\")"))
            }
            _ => {
                let hint = "it is one of = != < <= > >= prefix in exists; for one that only has to be there say exists";
                Err(self.unexpected("an operator", hint))
            }
        }
    }

    /// What follows `= != < <= > >=`.
    fn comparison(&mut self, operator: Operator) -> Result<Test, FilterError> {
        let is_order = !matches!(operator, Operator::Equal | Operator::Different);
        if is_order && matches!(self.next.kind, Kind::Text(_)) {
            let hint = "write the number without quotes; texts have no order here, only = != prefix and in";
            return Err(self.unexpected("a number, since < <= > >= compare numbers", hint));
        }
        Ok(match self.value()? {
            Value::Number(number) => Test::Number(operator, number),
            Value::Text(text) if operator == Operator::Equal => Test::Is(text),
            Value::Text(text) => Test::IsNot(text),
        })
    }

    /// What follows `in`.
    fn list(&mut self) -> Result<Test, FilterError> {
        let hint = "write it like region in (\"a\", \"b\", 3)";
        if !self.take(&Kind::Open)? {
            return Err(self.unexpected("( after in", hint));
        }
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        loop {
            match self.value()? {
                Value::Text(text) => texts.push(text),
                Value::Number(number) => numbers.push(number),
            }
            if self.take(&Kind::Close)? {
                break;
            }
            if !self.take(&Kind::Comma)? {
                return Err(self.unexpected(", or ) after a value of in", hint));
            }
            // The first one is counted as the comparison.
            self.count_term()?;
        }
        texts.sort_unstable();
        Ok(Test::In { texts: texts.into(), numbers: numbers.into() })
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        let value = match &mut self.next.kind {
            Kind::Text(text) => Value::Text(std::mem::take(text).into()),
            Kind::Number(number) => Value::Number(*number),
            Kind::Name(_) | Kind::Keyword(_) => {
                let word = shown(self.word());
                let hint =
                    format!("texts are written in quotes, like {word}; a header cannot be compared with another");
                return Err(self.unexpected("a number or a text in quotes", hint));
            }
            _ => return Err(self.unexpected("a number or a text in quotes", EXAMPLE)),
        };
        self.advance()?;
        Ok(value)
    }
}

enum Value {
    Text(Box<[u8]>),
    Number(f64),
}
