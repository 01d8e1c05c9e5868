//! Push: messages of a queue subscription posted to an HTTP endpoint, and other requests to URLs that clients name.
//!
//! | file | holds |
//! |---|---|
//! | `push/cidr.rs`, `push/address.rs` | where a node may post to |
//! | `push/signature.rs` | how posts are signed (Standard Webhooks) |
//! | `push/backoff.rs`, `push/pace.rs` | when, how fast and how many at once |
//! | `push/endpoint.rs` | one HTTP client for all endpoints |
//! | `push/deliver.rs` | one message posted, and what its answer means |
//! | `push/worker.rs`, `push/source.rs` | the loop of one subscription, and the queue it takes from |
//! | `push/workers.rs` | the loops of all subscriptions |
//! | `push/metrics.rs` | figures |

mod address;
mod backoff;
mod cidr;
mod deliver;
mod endpoint;
mod metrics;
mod pace;
mod signature;
mod source;
mod worker;
mod workers;

pub use address::{AddressError, AddressPolicy};
pub use backoff::{Backoff, parse_retry_after};
pub use cidr::{Cidr, CidrError};
pub use deliver::{Deliverer, Fault, Post, PushMessage, PushTarget, Verdict};
pub use endpoint::{Answer, BuildError, Endpoint, EndpointError, Endpoints, SendError};
pub use metrics::PushMetrics;
pub use pace::{Outcome, Pace, Room, Ticket};
pub use signature::{ID_HEADER, SIGNATURE_HEADER, SecretError, SigningSecret, TIMESTAMP_HEADER, escape_id};
pub use source::QueueSource;
pub use worker::{Settlement, Source, SourceError, Taken, Worker, WorkerSettings};
pub use workers::{Pushing, Workers};
