//! A client of the HTTP interface: typed calls, errors that keep what the server said, and publishes that may be retried
//! without storing anything twice.
//!
//! | file | holds |
//! |---|---|
//! | `client/error.rs` | what can go wrong and what the caller should do about it |
//! | `client/types.rs` | the JSON shapes of topics, positions and subscriptions |
//! | `client/message.rs` | one read message, borrowed from the page it came in |
//! | `client/retry.rs` | when to try again |
//! | `client/member.rs` | a member of a subscription, which lives by heartbeats in the background |
//! | `client/publish.rs`, `read.rs`, `topics.rs`, `subscriptions.rs`, `transactions.rs`, `members.rs`, `queue.rs`, `regions.rs`, `compactor.rs`, `operations.rs` | the calls |

use std::time::Duration;

use brigade_index::env::Env;
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use url::Url;

mod compactor;
mod error;
mod member;
mod members;
mod message;
mod operations;
mod publish;
mod queue;
mod read;
mod regions;
mod retry;
mod subscriptions;
mod topics;
mod transactions;
mod types;

pub use compactor::{Compactor, CompactorBacklog, CompactorError, CompactorJob, CompactorJobs, CompactorRun, Repair};
pub(crate) use error::parse_refusal;
pub use error::{ClientError, ErrorKind, Refusal};
pub use member::{Member, is_fenced};
pub use members::{Assigned, Assignment, Heartbeat, Owned, OwnedPosition};
pub use message::Message;
pub use publish::{ContentType, Payload, PublishIdentity, Published};
pub use queue::{
    DeadLetterPage, DeadLetterPick, Handed, QueuePoll, QueuePush, QueueSettings, ReceiptRefusal, ReceiptResult,
    Settlement,
};
pub use read::{Page, ReadFormat, ReadRequest, Start};
pub use regions::{
    PartitionCounts, Region, RegionChange, RegionInShard, RegionList, RegionProgress, Shard, ShardInRegion, ShardList,
    WantedRegion,
};
pub use retry::RetryPolicy;
pub use subscriptions::{PollRequest, Polled};
pub use transactions::{
    CheckBack, Transacted, Transaction, TransactionAck, TransactionMessage, TransactionPage, TransactionPart,
};
pub use types::{
    ArchiveFile, ArchiveFilePage, PartitionState, Position, QueuePartition, SeekTo, Subscription, SubscriptionPosition,
    SubscriptionStart, Topic, TopicPage, TopicSettings,
};

/// Longest time for connecting to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for one request, on top of the time that a long poll asks for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    env: Env,
}

impl Client {
    /// A client of the server at `base`, for example `http://127.0.0.1:7070`. Connects on first use.
    ///
    /// # Errors
    /// When `base` is not an `http://` URL.
    pub fn new(base: &str, env: Env) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::Address { address: base.to_owned(), why };
        let url = Url::parse(base).map_err(|e| wrong(e.to_string()))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(wrong("only http://HOST:PORT is understood".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("brigade/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(Self { http, base: url, env })
    }

    /// The address of the server.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Randomness and wall time of this client.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The URL of a path, each segment of it escaped.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // `Client::new` accepts only http URLs, which always have a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).timeout(REQUEST_TIMEOUT)
    }

    /// Sends a request; any status but a 2xx is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        if response.status().is_success() { Ok(response) } else { Err(error::refusal(response).await) }
    }

    async fn send_for_json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        serde_json::from_slice(&body).map_err(|e| ClientError::Answer { why: e.to_string() })
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.base.to_string(), source }
    }
}
