//! One error for every store: what it means, where it happened, what to do about it.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use object_store::client::{HttpError, HttpErrorKind};

use crate::names::RegionName;

/// What a failed request means to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A create certainly stored nothing, and none of its bytes can appear later.
    NotStored,
    /// A create may have been stored, or may still be: only reading the key later can tell.
    Unknown,
    /// No connection to the store.
    Unreachable,
    /// The store did not answer in time.
    Timeout,
    /// The store asks for fewer requests (429 or 503).
    Throttled,
    /// Missing, wrong or insufficient credentials or file permissions.
    Denied,
    /// The clock of this machine and that of the store differ so much that no request is believed.
    ClockSkew,
    /// The disk or quota is full.
    Full,
    /// The bucket does not exist.
    MissingBucket,
    /// The request, URL or settings can never work as they are.
    Invalid,
    /// Fewer or other bytes arrived than were announced.
    Damaged,
    /// The key is taken, or another request for it is under way. Only conditional writes see this.
    Conflict,
    /// Any other failure inside the store.
    Failed,
}

impl StoreErrorKind {
    /// As in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::ClockSkew => "clock_skew",
            Self::Full => "full",
            Self::MissingBucket => "missing_bucket",
            Self::Invalid => "invalid",
            Self::Damaged => "damaged",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }

    /// Whether the same request may succeed in a moment without anybody's help.
    pub const fn is_transient(self) -> bool {
        !matches!(self, Self::Denied | Self::ClockSkew | Self::Full | Self::MissingBucket | Self::Invalid)
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NotStored => "nothing was stored; it is safe to try again",
            Self::Unknown => {
                "the write may or may not be stored; read the key before deciding, or repeat the same write"
            }
            Self::Unreachable => "check the endpoint, the network and that the store is running",
            Self::Timeout => "the store is slow or the network is losing packets; try again, and check its health",
            Self::Throttled => "the store limits the request rate; try again later with fewer requests",
            Self::Denied => {
                "check the credentials and that they may read, write, list and delete here (for a directory: its permissions)"
            }
            Self::ClockSkew => {
                "set this machine's clock, and keep it right with NTP: it differs from the store's by more than that permits"
            }
            Self::Full => "free or add disk space or quota; writing resumes by itself",
            Self::MissingBucket => "create the bucket first: brigade bucket create",
            Self::Invalid => "correct the store's URL or settings",
            Self::Damaged => "the answer was cut or altered on its way; try again, and check the store if it persists",
            Self::Conflict => "another writer holds the key; read it",
            Self::Failed => "the store failed; try again, and check the store's own logs if it persists",
        }
    }
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Opening it.
    Open,
    /// Put-if-absent.
    Put,
    /// Read of a whole object or a range.
    Get,
    /// List of keys.
    List,
    /// Deletion of one object.
    Delete,
}

impl Operation {
    /// As in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// A request that failed for good. Cheap to clone, so that everybody who waited for it can be told.
#[derive(Clone, Debug)]
pub struct StoreError {
    /// What it means to the caller. For a create: [`StoreErrorKind::NotStored`] or [`StoreErrorKind::Unknown`].
    pub kind: StoreErrorKind,
    /// Why the last attempt failed; equal to `kind` except for a create.
    pub reason: StoreErrorKind,
    /// The region, where one is known.
    pub region: Option<RegionName>,
    /// What was asked.
    pub operation: Operation,
    /// The key, prefix or URL it was about.
    pub key: String,
    /// The store's own words.
    pub source: Arc<dyn StdError + Send + Sync>,
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        if self.kind == StoreErrorKind::NotStored { self.reason.hint() } else { self.kind.hint() }
    }

    /// An error of [`super::open`].
    pub(super) fn open(url: &str, kind: StoreErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        Self { kind, reason: kind, region: None, operation: Operation::Open, key: url.to_owned(), source }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", self.operation.as_str(), self.key)?;
        if let Some(region) = &self.region {
            write!(f, " in region {region}")?;
        }
        match (self.kind, self.reason) {
            (StoreErrorKind::NotStored, reason) => write!(f, " stored nothing ({})", reason.as_str())?,
            (StoreErrorKind::Unknown, reason) => write!(f, " has an unknown result ({})", reason.as_str())?,
            (kind, _) => write!(f, " failed ({})", kind.as_str())?,
        }
        write!(f, ": {}", self.source)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// One failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) effect: Effect,
    pub(super) source: Arc<dyn StdError + Send + Sync>,
}

/// What a failed write may have done to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It never reached the store, or the store refused it.
    None,
    /// It is over, so that reading the key settles what it did: an error of the local file system.
    Over,
    /// It may be stored, or may still be on its way.
    Unknown,
}

impl Failure {
    /// The store did not answer in time.
    pub(super) fn timeout() -> Self {
        Self {
            kind: StoreErrorKind::Timeout,
            effect: Effect::Unknown,
            source: Arc::from(Box::from("no answer in time")),
        }
    }

    /// Fewer bytes arrived than announced.
    pub(super) fn damaged(expected: u64, actual: u64) -> Self {
        let source = Arc::from(Box::from(format!("expected {expected} bytes and got {actual}")));
        Self { kind: StoreErrorKind::Damaged, effect: Effect::Unknown, source }
    }

    pub(super) fn into_error(
        self,
        kind: StoreErrorKind,
        region: &RegionName,
        operation: Operation,
        key: &object_store::path::Path,
    ) -> StoreError {
        let region = Some(region.clone());
        StoreError { kind, reason: self.kind, region, operation, key: key.to_string(), source: self.source }
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        let (kind, effect) = classify(&error);
        Self { kind, effect, source: Arc::new(error) }
    }
}

/// Whether the error says that a range begins past the end of an object that exists.
pub(super) fn is_past_end(error: &object_store::Error) -> bool {
    chain(error).any(|e| {
        let text = e.to_string();
        text.contains("object was only") || text.contains("status code: 416")
    })
}

/// Whether "not found" is said of the bucket and not of the object.
pub(super) fn is_missing_bucket(error: &object_store::Error) -> bool {
    chain(error).any(|e| {
        let text = e.to_string();
        ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|words| text.contains(words))
    })
}

fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |cause| (*cause).source())
}

/// What stores say to a request that is dated too early or too late: S3 and those like it, then Azure, then the services
/// that hand out credentials. It comes with the status of wrong credentials, but nothing is wrong with those.
const SKEW: [&str; 5] = [
    "RequestTimeTooSkewed",
    "Request date header too old",
    "Signature expired",
    "Signature not yet current",
    "in a reasonable timeframe",
];

fn is_clock_skew(error: &object_store::Error) -> bool {
    chain(error).any(|e| {
        let text = e.to_string();
        SKEW.iter().any(|words| text.contains(words))
    })
}

fn classify(error: &object_store::Error) -> (StoreErrorKind, Effect) {
    use object_store::Error as E;
    match error {
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
            (StoreErrorKind::Conflict, Effect::Unknown)
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::Generic { .. } if is_clock_skew(error) => {
            (StoreErrorKind::ClockSkew, Effect::None)
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (StoreErrorKind::Denied, Effect::None),
        // An object that is not there is no error to a read, and a write needs none: the bucket itself is missing.
        E::NotFound { .. } => (StoreErrorKind::MissingBucket, Effect::None),
        // Listing tells it in other ways.
        E::Generic { .. } if is_missing_bucket(error) => (StoreErrorKind::MissingBucket, Effect::None),
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::UnknownConfigurationKey { .. } => (StoreErrorKind::Invalid, Effect::None),
        _ => classify_chain(error),
    }
}

/// Finds the first cause that is understood. The store library hides statuses behind private types, so that its words
/// have to do for those.
fn classify_chain(error: &object_store::Error) -> (StoreErrorKind, Effect) {
    for cause in chain(error) {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Connect => (StoreErrorKind::Unreachable, Effect::None),
                HttpErrorKind::Timeout => (StoreErrorKind::Timeout, Effect::Unknown),
                HttpErrorKind::Decode => (StoreErrorKind::Damaged, Effect::Unknown),
                _ => (StoreErrorKind::Unreachable, Effect::Unknown),
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return classify_io(io);
        }
        let text = cause.to_string();
        if text.contains("redirect without LOCATION") {
            // The bucket is in another of the provider's regions than the settings say.
            return (StoreErrorKind::Invalid, Effect::None);
        }
        if let Some(status) = status_in(&text) {
            return match status {
                400 if text.contains("RequestTimeout") => (StoreErrorKind::Timeout, Effect::None),
                400 if text.contains("ExpiredToken") => (StoreErrorKind::Denied, Effect::None),
                429 | 503 => (StoreErrorKind::Throttled, Effect::Unknown),
                408 | 504 => (StoreErrorKind::Timeout, Effect::Unknown),
                507 => (StoreErrorKind::Full, Effect::Over),
                401 | 403 => (StoreErrorKind::Denied, Effect::None),
                400..=499 => (StoreErrorKind::Invalid, Effect::None),
                _ => (StoreErrorKind::Failed, Effect::Unknown),
            };
        }
    }
    (StoreErrorKind::Failed, Effect::Unknown)
}

fn classify_io(error: &io::Error) -> (StoreErrorKind, Effect) {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (StoreErrorKind::Full, Effect::Over),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (StoreErrorKind::Denied, Effect::Over),
        io::ErrorKind::NotFound => (StoreErrorKind::MissingBucket, Effect::Over),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected => (StoreErrorKind::Unreachable, Effect::None),
        io::ErrorKind::TimedOut => (StoreErrorKind::Timeout, Effect::Unknown),
        io::ErrorKind::UnexpectedEof => (StoreErrorKind::Damaged, Effect::Unknown),
        _ => (StoreErrorKind::Failed, Effect::Unknown),
    }
}

fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests;
