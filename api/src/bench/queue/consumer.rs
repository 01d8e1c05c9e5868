//! A consumer that costs little: it finds the receipts in an answer without parsing the messages.

use std::ops::Range;

use bytes::Bytes;

use super::Failure;
use crate::bench::connection::{Connection, Outcome, Target};

const JSON: &str = "application/json";

/// What comes before a receipt. No value can hold it: quotes in JSON strings are escaped.
const BEFORE: &[u8] = b"\"receipt\":\"";

/// What the answer of an ack has for each receipt that was good.
const GOOD: &[u8] = b"\"status\":\"acknowledged\"";

/// How polls ask.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) max_messages: u32,
    pub(super) wait_ms: u32,
    /// Every value has at least so many bytes: they need not be looked through.
    pub(super) value_bytes: usize,
}

/// One connection to one queue subscription.
#[derive(Debug)]
pub(super) struct Consumer {
    connection: Connection,
    poll_path: String,
    ack_path: String,
    poll_body: Bytes,
    value_bytes: usize,
    /// Body of the last poll.
    polled: Vec<u8>,
    answer: Vec<u8>,
}

/// Receipts of a poll: where they are in [`Consumer::polled`].
pub(super) type Receipts = Vec<Range<usize>>;

impl Consumer {
    pub(super) fn new(target: Target, subscription: &str, ask: &Ask) -> Self {
        let Ask { max_messages, wait_ms, value_bytes } = *ask;
        let body = format!("{{\"max_messages\":{max_messages},\"max_bytes\":4194304,\"wait_ms\":{wait_ms}}}");
        Self {
            connection: Connection::new(target),
            poll_path: format!("subscriptions/{subscription}/poll"),
            ack_path: format!("subscriptions/{subscription}/ack"),
            poll_body: Bytes::from(body),
            value_bytes,
            polled: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Receives messages: their receipts and the bytes of the answer.
    pub(super) async fn poll(&mut self) -> Result<(Receipts, u64), Failure> {
        let request = self.connection.target().post(&self.poll_path, JSON, self.poll_body.clone());
        let length = done(self.connection.exchange_into(request, Some(&mut self.polled)).await)?;
        Ok((receipts(&self.polled, self.value_bytes), length))
    }

    /// Polls without waiting, and without taking anything that matters: before there is anything.
    pub(super) async fn poll_nothing(&mut self) -> Result<(), Failure> {
        let request = self.connection.target().post(&self.poll_path, JSON, Bytes::new());
        done(self.connection.exchange(request).await).map(drop)
    }

    /// Body of the last poll.
    pub(super) fn polled(&self) -> &[u8] {
        &self.polled
    }

    /// Acknowledges messages of the last poll; all of their receipts have to be good.
    pub(super) async fn ack(&mut self, receipts: &[Range<usize>]) -> Result<u64, Failure> {
        let body = ack_body(receipts.iter().map(|receipt| &self.polled[receipt.clone()]));
        self.ack_all(body, receipts.len()).await
    }

    /// Sends the body of an ack; all of its receipts have to be good.
    pub(super) async fn ack_all(&mut self, body: Bytes, receipts: usize) -> Result<u64, Failure> {
        let request = self.connection.target().post(&self.ack_path, JSON, body);
        let length = done(self.connection.exchange_into(request, Some(&mut self.answer)).await)?;
        if self.answer.windows(GOOD.len()).filter(|window| *window == GOOD).count() != receipts {
            return Err(Failure::new("receipt_refused"));
        }
        Ok(length)
    }
}

/// Bytes of an answer, if it is one.
pub(super) fn done(outcome: Outcome) -> Result<u64, Failure> {
    match outcome {
        Outcome::Done(_, length) => Ok(length),
        Outcome::Refused(code, wait) => Err(Failure { code, wait }),
        Outcome::Broken => Err(Failure::new("connection_broken")),
    }
}

/// The body of an ack.
pub(super) fn ack_body<'a>(receipts: impl ExactSizeIterator<Item = &'a [u8]>) -> Bytes {
    let mut body = Vec::with_capacity(16 + 96 * receipts.len());
    body.extend_from_slice(b"{\"receipts\":[");
    for (at, receipt) in receipts.enumerate() {
        body.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        body.extend_from_slice(receipt);
        body.push(b'"');
    }
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}

/// Where the receipts are in the answer of a poll.
fn receipts(answer: &[u8], value_bytes: usize) -> Receipts {
    let mut receipts = Receipts::new();
    let mut from = value_bytes;
    while let Some(at) = find(answer, from) {
        let start = at + BEFORE.len();
        let Some(length) = answer[start..].iter().position(|byte| *byte == b'"') else { break };
        receipts.push(start..start + length);
        from = start + length + value_bytes;
    }
    receipts
}

fn find(answer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let quote = answer.get(at..)?.iter().position(|byte| *byte == b'"')?;
        at += quote;
        if answer[at..].starts_with(BEFORE) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_found_behind_values_that_look_like_them() {
        let answer = br#"{"messages":[{"value":"{\"receipt\":\"no\"}","receipt":"a-_1","deadline":1},{"value":"0123456789012345","receipt":"b"}]}"#;
        let found = |value_bytes| {
            let found = receipts(answer, value_bytes);
            found.into_iter().map(|at| std::str::from_utf8(&answer[at]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found(0), ["a-_1", "b"]);
        assert_eq!(found(16), ["a-_1", "b"]);
        assert_eq!(receipts(b"{\"messages\":[]}", 16), Receipts::new());
        let body = ack_body([&b"a"[..], b"b"].into_iter());
        assert_eq!(&body[..], br#"{"receipts":["a","b"]}"#);
    }
}
