//! Subscriptions of kind `stream`: committed positions.

use crate::ids::Offset;

/// A durable cursor over a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Next offset to be read, by partition. Partitions added later than the last commit are at their log start.
    pub positions: Vec<Offset>,
}
