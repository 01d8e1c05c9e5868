//! Subscriptions: durable cursors over a topic.

use super::Queue;
use crate::ids::Offset;

/// A durable cursor over a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// What it is.
    pub kind: Kind,
}

/// What a subscription is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Committed positions: next offset to be read, by partition. Partitions added later than the last commit are at their
    /// log start.
    Stream(Vec<Offset>),
    /// Competing consumers, with a receipt for each message.
    Queue(Box<Queue>),
}

impl Subscription {
    /// The name of its kind on the wire.
    pub const fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Stream(_) => "stream",
            Kind::Queue(_) => "queue",
        }
    }

    /// Its committed positions, if it is a stream.
    pub fn stream(&self) -> Option<&[Offset]> {
        match &self.kind {
            Kind::Stream(positions) => Some(positions),
            Kind::Queue(_) => None,
        }
    }

    /// What is settled, if it is a queue.
    pub fn queue(&self) -> Option<&Queue> {
        match &self.kind {
            Kind::Stream(_) => None,
            Kind::Queue(queue) => Some(queue),
        }
    }
}
