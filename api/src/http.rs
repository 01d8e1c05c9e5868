//! The HTTP interface: thin handlers over the publish path, the read path and the shard's state.
//!
//! | file | holds |
//! |---|---|
//! | `http/route.rs` | every route with its method and path; metrics and the OpenAPI document follow it |
//! | `http/router.rs` | from routes to handlers, and what all requests share |
//! | `http/error.rs` | every error with its status, code and hint: the only place that knows status codes of errors |
//! | `http/params.rs`, `http/body.rs` | query parameters and bodies, read under limits |
//! | `http/publish.rs`, `read.rs`, `sse.rs`, `topics.rs`, `subscriptions.rs`, `poll.rs`, `queue.rs`, `transactions.rs`, `cluster.rs`, `regions.rs`, `shards.rs`, `ops.rs` | handlers |
//! | `http/forward.rs`, `lease.rs` | requests that the leader has to answer, and what nodes ask each other |
//! | `http/metrics.rs`, `figures.rs`, `process.rs`, `openapi.rs` | what the interface says about itself |

mod answer;
mod body;
mod call;
mod cluster;
mod compactor;
mod error;
mod figures;
mod forward;
mod lease;
mod members;
mod metrics;
mod openapi;
mod ops;
mod params;
mod poll;
mod process;
mod publish;
mod queue;
mod read;
mod regions;
mod route;
mod router;
mod shards;
mod sse;
mod subscriptions;
mod topics;
mod transactions;

pub use metrics::HttpMetrics;
pub use openapi::document;
pub use process::ProcessMetrics;
pub use route::Route;
pub use router::router;

pub(crate) use error::{ApiError, kinds};
pub(crate) use process::{ShardMetrics, cpu_seconds};

#[cfg(test)]
mod tests;
