//! Reading a partition page by page.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header::ACCEPT};
use reqwest::Method;
use url::Url;

use super::{Client, ClientError, REQUEST_TIMEOUT};

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first readable message.
    Earliest,
    /// After the last message.
    Latest,
    /// At this offset.
    Offset(u64),
    /// At the first message of this time (milliseconds since the Unix epoch) or later.
    Timestamp(i64),
}

/// Format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFormat {
    /// One object with all messages.
    Json,
    /// One message object a line.
    NdJson,
    /// An Arrow IPC stream.
    Arrow,
}

impl ReadFormat {
    /// The media type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// One read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// Number of the partition.
    pub partition: u32,
    /// Where to begin.
    pub start: Start,
    /// Most messages.
    pub max_messages: u64,
    /// Most bytes of keys, values and headers; one message is returned even when it is larger.
    pub max_bytes: u64,
    /// How long the server may wait for a message when there is none; up to 60 seconds.
    pub wait: Duration,
    /// Format of the page.
    pub format: ReadFormat,
}

/// One page of messages.
#[derive(Clone, Debug)]
pub struct Page {
    /// The messages in the asked format.
    pub body: Bytes,
    /// Offset after the last message of the page.
    pub next_offset: u64,
    /// One past the last readable offset.
    pub high_watermark: u64,
}

impl Client {
    /// Reads one page.
    ///
    /// # Errors
    /// What the server refused, an unreachable server, or an answer without the documented headers.
    pub async fn read(&self, topic: &str, read: &ReadRequest) -> Result<Page, ClientError> {
        let mut url = self.url(&["v1", "topics", topic, "messages"]);
        append_query(&mut url, read);
        let request =
            self.request(Method::GET, url).timeout(REQUEST_TIMEOUT + read.wait).header(ACCEPT, read.format.as_str());
        let response = self.send(request).await?;
        let next_offset = number(response.headers(), "Brigade-Next-Offset")?;
        let high_watermark = number(response.headers(), "Brigade-High-Watermark")?;
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        Ok(Page { body, next_offset, high_watermark })
    }
}

fn append_query(url: &mut Url, read: &ReadRequest) {
    let mut query = url.query_pairs_mut();
    query.append_pair("partition", &read.partition.to_string());
    match read.start {
        Start::Earliest => query.append_pair("offset", "earliest"),
        Start::Latest => query.append_pair("offset", "latest"),
        Start::Offset(offset) => query.append_pair("offset", &offset.to_string()),
        Start::Timestamp(ms) => query.append_pair("timestamp", &ms.to_string()),
    };
    query.append_pair("max_messages", &read.max_messages.to_string());
    query.append_pair("max_bytes", &read.max_bytes.to_string());
    if !read.wait.is_zero() {
        query.append_pair("wait", &read.wait.as_millis().to_string());
    }
}

fn number(headers: &HeaderMap, name: &str) -> Result<u64, ClientError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| ClientError::Answer { why: format!("it has no number in its header {name}") })
}
