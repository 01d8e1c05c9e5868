//! Object storage: everything durable goes through here.
//!
//! [`open`] turns a URL into a store, [`RegionStore`] is what the rest of Brigade uses: it counts every request, bounds
//! the time of each, repeats those that failed, and has exactly one conditional write, [`RegionStore::create`], which
//! recognises its own earlier success. [`conformance::check`] finds out whether a store keeps the promises all this rests
//! on.

pub mod conformance;
mod create;
mod error;
#[cfg(any(test, feature = "fault"))]
pub mod fault;
mod local;
mod metrics;
mod open;
mod options;
mod readers;
mod region;
mod timing;
mod upload;
mod yielding;

pub use create::Created;
pub use error::{Operation, StoreError, StoreErrorKind};
pub use metrics::{Component, StoreMetrics, StoreTotals};
pub use open::open;
pub use options::{Secret, StoreOptions};
pub use region::RegionStore;
pub use timing::StoreTiming;
pub use upload::{Listed, Listing, Upload};
use yielding::Memory;

#[cfg(test)]
mod tests;
