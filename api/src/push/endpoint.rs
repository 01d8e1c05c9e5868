//! Requests to URLs that clients name: endpoints of push subscriptions and check-back URLs of transactions.
//!
//! No redirect is followed and no proxy asked, since both would lead past the checks of addresses.

use std::{error::Error, fmt, net::SocketAddr, sync::Arc, time::Duration};

use brigade_index::env::Env;
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{
    StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{
    address::{AddressError, AddressPolicy},
    backoff::parse_retry_after,
    signature::{ID_HEADER, SIGNATURE_HEADER, SecretError, SigningSecret, TIMESTAMP_HEADER, escape_id},
};
use crate::settings::redact_url;

/// Longest time for connecting, which is part of the time for the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that nobody uses is kept: shorter than the patience of common servers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept to one endpoint.
const IDLE_CONNECTIONS: usize = 64;

/// Unit in which memory is counted.
const UNIT: usize = 1024;

/// What a request costs besides its body: buffers of the connection and of TLS, and an answer.
const REQUEST_BYTES: usize = 64 * 1024;

/// Bytes of an answer's body that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where and how to post. Its URL has passed the node's checks.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    secret: Option<SigningSecret>,
    timeout: Duration,
}

impl fmt::Debug for Endpoint {
    /// Without the query, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &redact_url(self.url.as_str())).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Its URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Longest time of one request, from looking up the name to the last byte of the answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Why there can be no such endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Its URL is wrong or forbidden.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Its secret is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent: the host name stands for forbidden addresses only.
    #[error("{0} is an address that this node does not post to")]
    Forbidden(String),
    /// Nothing was sent: no connection could be made.
    #[error("the endpoint cannot be reached: {0}")]
    Unreachable(String),
    /// There was no answer in time. The endpoint may have got the request.
    #[error("the endpoint gave no answer in time")]
    TimedOut,
    /// The connection broke, or the answer was no HTTP. The endpoint may have got the request.
    #[error("the endpoint gave no answer: {0}")]
    Broken(String),
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    response: reqwest::Response,
}

impl Answer {
    /// The body, cut off behind 64 KiB or where the connection broke; waits no longer than the request may take.
    pub async fn body(mut self) -> Bytes {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.response.chunk().await {
            let room = MAX_ANSWER_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        body.into()
    }
}

/// No client could be built; one for `https`, for want of the system's certificates.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be built: {0}")]
pub struct BuildError(#[from] reqwest::Error);

/// The HTTP client for all endpoints. Cheap to clone; clones share connections and places.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// For `http`.
    plain: reqwest::Client,
    /// For `https`, once one was posted to: a node that never does needs no certificates and does not read them.
    tls: Arc<Mutex<Option<reqwest::Client>>>,
    policy: Arc<AddressPolicy>,
    /// Memory for requests in flight, in units.
    memory: Arc<Semaphore>,
    units: u32,
    env: Env,
}

impl Endpoints {
    /// A client that posts where `policy` lets it, with requests that hold at most
    /// `memory_bytes` at once.
    ///
    /// # Errors
    /// When no client can be built at all. Without certificates there is one, and only posts to `https` fail.
    pub fn new(policy: AddressPolicy, memory_bytes: usize, env: Env) -> Result<Self, BuildError> {
        let policy = Arc::new(policy);
        let plain = builder(&policy).tls_certs_only([]).build()?;
        let units = u32::try_from(memory_bytes / UNIT).unwrap_or(u32::MAX).max(1);
        // Where words have 32 bits a semaphore holds fewer.
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Ok(Self { plain, tls: Arc::default(), policy, memory: Arc::new(Semaphore::new(units as usize)), units, env })
    }

    /// The rules for addresses.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// An endpoint, its URL and its secret checked. Requests to one without a secret are not signed.
    ///
    /// # Errors
    /// When the URL is wrong or forbidden, or the secret is none.
    pub fn endpoint(&self, url: &str, secret: Option<&str>, timeout: Duration) -> Result<Endpoint, EndpointError> {
        let secret = secret.map(str::parse::<SigningSecret>).transpose()?;
        Ok(Endpoint { url: self.policy.check_url(url)?, secret, timeout })
    }

    /// The client for a URL. That for `https` is built when it is first needed, and when that fails, at the next post again.
    fn client(&self, url: &Url) -> Result<reqwest::Client, SendError> {
        if url.scheme() != "https" {
            return Ok(self.plain.clone());
        }
        let mut tls = self.tls.lock();
        if let Some(client) = &*tls {
            return Ok(client.clone());
        }
        let client = builder(&self.policy).https_only(true).build().map_err(|error| no_certificates(&error))?;
        Ok(tls.insert(client).clone())
    }

    /// A place in memory for a request with a body of this size, however large. Waits until there is one.
    pub async fn place(&self, body_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(body_bytes.saturating_add(REQUEST_BYTES) / UNIT).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.memory.clone().acquire_many_owned(units.min(self.units)).await.ok()
    }

    /// Posts a JSON body. `id` names what is posted, the same at each attempt; it is sent and signed as [`escape_id`] has it.
    ///
    /// # Errors
    /// When there is no answer. Any status is one.
    pub async fn post(&self, endpoint: &Endpoint, id: &str, body: Bytes) -> Result<Answer, SendError> {
        let now_ms = self.env.clock.now_ms();
        let (id, seconds) = (escape_id(id), now_ms.div_euclid(1_000));
        let mut request = self
            .client(&endpoint.url)?
            .post(endpoint.url.clone())
            .timeout(endpoint.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, &id)
            .header(TIMESTAMP_HEADER, seconds);
        if let Some(secret) = &endpoint.secret {
            request = request.header(SIGNATURE_HEADER, secret.sign(&id, seconds, &body));
        }
        let response = request.body(body).send().await.map_err(|error| explain(&error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| parse_retry_after(text, self.env.clock.now_ms()));
        Ok(Answer { status: response.status(), retry_after, response })
    }
}

fn builder(policy: &Arc<AddressPolicy>) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .dns_resolver(Arc::new(Guard(policy.clone())))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .referer(false)
        .user_agent(concat!("brigade/", env!("CARGO_PKG_VERSION")))
}

fn no_certificates(error: &reqwest::Error) -> SendError {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let hint = "https needs the system's CA certificates; install them, or name them with SSL_CERT_FILE";
    SendError::Unreachable(format!("{cause} ({hint})"))
}

fn explain(error: &reqwest::Error) -> SendError {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(forbidden) = cause.downcast_ref::<OnlyForbidden>() {
            return SendError::Forbidden(forbidden.name.clone());
        }
        match cause.source() {
            Some(source) => cause = source,
            None => break,
        }
    }
    // The innermost cause says most. It names no URL, whose query may hold a secret.
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => SendError::Unreachable(cause.to_string()),
        (false, true) => SendError::TimedOut,
        (false, false) => SendError::Broken(cause.to_string()),
    }
}

/// Looks names up and drops the addresses that are forbidden.
#[derive(Debug)]
struct Guard(Arc<AddressPolicy>);

/// All addresses of a name are forbidden.
#[derive(Debug)]
struct OnlyForbidden {
    name: String,
}

impl fmt::Display for OnlyForbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stands for forbidden addresses only", self.name)
    }
}

impl Error for OnlyForbidden {}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let name = name.as_str();
            // The port of the URL is put in the place of this one.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|found| !policy.forbids(found.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(OnlyForbidden { name: name.to_owned() }.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
