//! One keep-alive HTTP/1.1 connection with one request in flight, directly on a socket: a load generator that shares its
//! processors with the server it measures must cost little beside it.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

use crate::client::ClientError;

/// Longest error body that is kept for its code.
const MAX_ERROR_BYTES: u64 = 64 * 1024;

/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// Bodies up to this size are copied behind the head, so that a request is one write.
const COPIED_BODY_BYTES: usize = 16 * 1024;

/// Most header fields of an answer.
const MAX_FIELDS: usize = 32;

/// Where connections go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `HOST:PORT`.
    authority: String,
    /// Path of the topic.
    topic: String,
}

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Request {
    head: Vec<u8>,
    body: Bytes,
}

impl Target {
    pub(super) fn new(base: &Url, topic: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::Address { address: base.to_string(), why: why.to_owned() };
        let host = base.host_str().ok_or_else(|| wrong("it names no host"))?;
        let port = base.port_or_known_default().ok_or_else(|| wrong("it names no port"))?;
        let topic = format!("{}/v1/topics/{topic}", base.path().trim_end_matches('/'));
        Ok(Self { authority: format!("{host}:{port}"), topic })
    }

    /// A publish request.
    pub(super) fn publish(&self, media_type: &str, body: Bytes) -> Request {
        self.post("messages", media_type, body)
    }

    /// A request to the topic's resource at `path`.
    pub(super) fn post(&self, path: &str, media_type: &str, body: Bytes) -> Request {
        let Self { authority, topic } = self;
        let length = body.len();
        let head = format!(
            "POST {topic}/{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        Request { head: head.into_bytes(), body }
    }

    /// A read request.
    pub(super) fn read(&self, media_type: &str, query: &str) -> Request {
        let Self { authority, topic } = self;
        let head =
            format!("GET {topic}/messages?{query} HTTP/1.1\r\nhost: {authority}\r\naccept: {media_type}\r\n\r\n");
        Request { head: head.into_bytes(), body: Bytes::new() }
    }
}

/// What an answer's head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    status: u16,
    length: u64,
    retry_after: Option<u64>,
    /// Offset to read next.
    pub(super) next_offset: Option<u64>,
    /// Offset behind the last committed message.
    pub(super) high_watermark: Option<u64>,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Status 2xx, its head and the bytes of its body.
    Done(Head, u64),
    /// Another status: the error's code and how long the server asks to wait.
    Refused(String, Option<Duration>),
    /// No answer.
    Broken,
}

/// A connection that is opened when needed and again after it broke.
#[derive(Debug)]
pub(super) struct Connection {
    target: Target,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn new(target: Target) -> Self {
        Self { target, stream: None, buffer: vec![0; READ_BYTES] }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and reads its answer to the end, which is thrown away.
    pub(super) async fn exchange(&mut self, request: Request) -> Outcome {
        self.exchange_into(request, None).await
    }

    /// Sends a request and reads its answer to the end; its body comes into `keep` if its status is 2xx.
    pub(super) async fn exchange_into(&mut self, request: Request, keep: Option<&mut Vec<u8>>) -> Outcome {
        match self.try_exchange(request, keep).await {
            Some(outcome) => outcome,
            None => {
                self.stream = None;
                Outcome::Broken
            }
        }
    }

    async fn try_exchange(&mut self, request: Request, keep: Option<&mut Vec<u8>>) -> Option<Outcome> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.target.authority).await.ok()?;
            stream.set_nodelay(true).ok()?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut()?;
        send(stream, request).await?;
        let (head, begun) = read_head(stream, &mut self.buffer).await?;
        if (200..300).contains(&head.status) {
            let left = head.length.checked_sub(begun.len() as u64)?;
            match keep {
                None => drain(stream, &mut self.buffer, left).await?,
                Some(body) => {
                    body.clear();
                    body.extend_from_slice(&self.buffer[begun]);
                    collect(stream, body, left).await?;
                }
            }
            return Some(Outcome::Done(head, head.length));
        }
        let mut body = self.buffer[begun].to_vec();
        let rest = head.length.min(MAX_ERROR_BYTES).checked_sub(body.len() as u64)?;
        stream.take(rest).read_to_end(&mut body).await.ok()?;
        let code = crate::client::parse_refusal(head.status, None, &body).code;
        // What is left of the body, or a server that closes after a refusal, must not meet the next request.
        self.stream = None;
        Some(Outcome::Refused(code, head.retry_after.map(Duration::from_secs)))
    }
}

async fn send(stream: &mut TcpStream, mut request: Request) -> Option<()> {
    if request.body.len() <= COPIED_BODY_BYTES {
        request.head.extend_from_slice(&request.body);
        return stream.write_all(&request.head).await.ok();
    }
    stream.write_all(&request.head).await.ok()?;
    stream.write_all(&request.body).await.ok()
}

/// Reads an answer's head into the buffer. Gives it and where in the buffer the part of the body is that came along.
async fn read_head(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<(Head, std::ops::Range<usize>)> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..)?).await.ok()?;
        if read == 0 {
            return None;
        }
        filled += read;
        if let Some((head, length)) = parse_head(&buffer[..filled])? {
            return Some((head, length..filled));
        }
    }
}

/// `None` when it is no head, `Some(None)` when it is not whole yet.
fn parse_head(bytes: &[u8]) -> Option<Option<(Head, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = answer.parse(bytes).ok()? else { return Some(None) };
    let mut head = Head { status: answer.code?, ..Head::default() };
    for field in answer.headers.iter() {
        let number = || std::str::from_utf8(field.value).ok()?.trim().parse().ok();
        match field.name {
            name if name.eq_ignore_ascii_case("content-length") => head.length = number()?,
            name if name.eq_ignore_ascii_case("retry-after") => head.retry_after = number(),
            name if name.eq_ignore_ascii_case("brigade-next-offset") => head.next_offset = number(),
            name if name.eq_ignore_ascii_case("brigade-high-watermark") => head.high_watermark = number(),
            _ => {}
        }
    }
    Some(Some((head, length)))
}

async fn drain(stream: &mut TcpStream, buffer: &mut [u8], mut left: u64) -> Option<()> {
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = stream.read(&mut buffer[..most]).await.ok()?;
        if read == 0 {
            return None;
        }
        left -= read as u64;
    }
    Some(())
}

async fn collect(stream: &mut TcpStream, body: &mut Vec<u8>, left: u64) -> Option<()> {
    body.reserve(usize::try_from(left).ok()?);
    let read = stream.take(left).read_to_end(body).await.ok()?;
    (read as u64 == left).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nbrigade-next-offset: 12\r\n\r\n{\"a\":1}";
        let (head, length) = parse_head(bytes).unwrap().unwrap();
        assert_eq!((head.status, head.length, head.next_offset, head.high_watermark), (200, 7, Some(12), None));
        assert_eq!(&bytes[length..], b"{\"a\":1}");
        assert_eq!(parse_head(&bytes[..20]), Some(None));
        assert_eq!(parse_head(b"\x00\x01nonsense\r\n\r\n"), None);
    }
}
