//! A small HTTP client whose answers are easy to assert on.

use std::net::SocketAddr;

use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// Type of JSON bodies.
pub const JSON: &str = "application/json";
/// Type of newline-delimited JSON.
pub const NDJSON: &str = "application/x-ndjson";
/// Type of Arrow IPC streams.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A client of one node. Cheap to clone; keeps connections open.
#[derive(Clone, Debug)]
pub struct Http {
    base: String,
    client: reqwest::Client,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Http {
    /// A client of the node at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client without special wishes");
        Self { base: format!("http://{address}"), client }
    }

    /// A request yet to be completed and sent; `path` begins with a slash.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// Sends a request; panics when no whole answer comes.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.expect("an answer")
    }

    /// GET, as [`Self::try_send`].
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.try_send(self.request("GET", path)).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// A request with a JSON body.
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(method, path).json(body)).await
    }

    /// A request with a body of some type.
    pub async fn body(&self, method: &str, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(method, path).header("content-type", content_type).body(body)).await
    }

    /// Creates a topic.
    pub async fn create_topic(&self, topic: &str, partitions: u32) {
        let body = json!({"partitions": partitions});
        self.json("PUT", &format!("/v1/topics/{topic}"), &body).await.expect(201);
    }

    /// Publishes text values without keys; returns partition and offset of each.
    pub async fn publish<S: AsRef<str>>(&self, topic: &str, values: &[S]) -> Vec<(u64, u64)> {
        let messages: Vec<_> = values.iter().map(|value| json!({"value": value.as_ref()})).collect();
        let path = format!("/v1/topics/{topic}/messages");
        self.json("POST", &path, &json!({"messages": messages})).await.expect(200).placed()
    }

    /// Reads messages; `query` as in `partition=0&offset=12`.
    pub async fn read(&self, topic: &str, query: &str) -> Value {
        self.get(&format!("/v1/topics/{topic}/messages?{query}")).await.expect(200).json()
    }

    /// All messages of a partition, read page by page.
    pub async fn read_all(&self, topic: &str, partition: u64) -> Vec<Value> {
        let (mut messages, mut offset) = (Vec::new(), 0);
        loop {
            let query = format!("partition={partition}&offset={offset}&max_messages=10000&max_bytes=8388608");
            let mut page = self.read(topic, &query).await;
            match page["messages"].as_array_mut() {
                Some(page) if !page.is_empty() => messages.append(page),
                _ => return messages,
            }
            offset = page["next_offset"].as_u64().expect("next_offset is a number");
        }
    }

    /// A metric of the node, summed over the series that have all of these labels; 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        crate::metrics::sum(&self.get("/metrics").await.expect(200).text(), name, labels).unwrap_or(0.0)
    }
}

impl Answer {
    /// Itself, if it has this status; panics with the answer otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Itself, if it is a well-formed error of this status and code; panics otherwise.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of an error, after a look at the form of the error; panics when that is not as documented.
    #[track_caller]
    pub fn code(&self) -> String {
        let json = self.json();
        let field = |name: &str| {
            let text = json["error"][name].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "an error has a {name}: {} {json}", self.status);
            text.to_owned()
        };
        assert!(!field("message").is_empty() && !field("hint").is_empty());
        let code = field("code");
        assert!(code.chars().all(|c| c == '_' || c.is_ascii_lowercase()), "codes are snake_case: {code}");
        code
    }

    /// Partition and offset of each message of a publish.
    #[track_caller]
    pub fn placed(&self) -> Vec<(u64, u64)> {
        let json = self.json();
        let messages = json["messages"].as_array().unwrap_or_else(|| panic!("no messages: {json}"));
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {json}"));
        messages.iter().map(|message| (number(&message["partition"]), number(&message["offset"]))).collect()
    }
}
