//! A publish request while it is being built: messages are checked, given their partition and laid out in columns.

use std::sync::Arc;

use brigade_index::{
    batch::{Columns, MessageRef},
    command::{IdempotentRequest, Identity, TopicSettings},
    ids::{Partition, TopicId},
    limits::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_PUBLISH},
    names::TopicName,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    MessageError,
    placement::{Order, Route},
};

/// Most bytes of one request: two of the largest messages, so that an entry always has room for one request.
pub const MAX_REQUEST_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// A publish request being built. Messages with the same key go to the same partition; those without a key all go to
/// one partition, so that batches stay large.
#[derive(Debug)]
pub struct Draft {
    pub(crate) name: TopicName,
    pub(crate) topic: TopicId,
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) identity: Option<Identity>,
    /// Partition of messages without a key.
    pub(crate) keyless: Partition,
    /// Columns of each partition that got messages, in the order in which the partitions were first used.
    pub(crate) parts: Vec<(Partition, Columns)>,
    /// For each message the place in `parts` of its partition.
    pub(crate) order: Order,
    /// For each message how its partition was chosen. Kept only for requests with an identity, which may turn out to be
    /// repeated.
    pub(crate) routes: Vec<Route>,
    /// For each partition its place in `parts` plus one; empty while one partition was used.
    slots: Vec<u16>,
    now_ms: i64,
}

impl Draft {
    pub(crate) fn new(
        (name, topic): (TopicName, TopicId),
        settings: Arc<TopicSettings>,
        identity: Option<Identity>,
        keyless: Partition,
        now_ms: i64,
    ) -> Self {
        let (parts, order, routes, slots) = (Vec::new(), Order::default(), Vec::new(), Vec::new());
        Self { name, topic, settings, identity, keyless, parts, order, routes, slots, now_ms }
    }

    /// Time that messages without a timestamp get, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Adds a message. Without an explicit `partition` its key decides.
    ///
    /// # Errors
    /// When the message breaks a limit; the draft is then unchanged.
    pub fn push(&mut self, message: &MessageRef<'_>, partition: Option<u32>) -> Result<(), MessageError> {
        self.check(message, partition)?;
        let route = match (partition, message.key) {
            (Some(partition), _) => Route::Explicit(Partition(partition)),
            (None, Some(key)) => Route::Key(xxh3_64(key)),
            (None, None) => Route::Keyless,
        };
        let slot = self.slot(route.partition(self.settings.partitions, self.keyless));
        self.parts[slot].1.push(message);
        self.order.push(slot);
        if self.identity.is_some() {
            self.routes.push(route);
        }
        Ok(())
    }

    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.name
    }

    /// Number of messages.
    pub fn messages(&self) -> usize {
        self.order.len()
    }

    /// Approximate bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|(_, columns)| columns.bytes()).sum()
    }

    /// What the shard is to remember of this request, if it has an identity.
    pub(crate) fn request(&mut self) -> Option<IdempotentRequest> {
        let (partition_count, keyless) = (self.settings.partitions, self.keyless);
        self.identity.take().map(|identity| IdempotentRequest { identity, partition_count, keyless })
    }

    fn check(&self, message: &MessageRef<'_>, partition: Option<u32>) -> Result<(), MessageError> {
        let key_bytes = message.key.map_or(0, <[u8]>::len);
        let header_bytes = message.header_bytes();
        let bytes = key_bytes + message.value.map_or(0, <[u8]>::len) + header_bytes;
        let limit = self.settings.max_message_bytes as usize;
        let partitions = self.settings.partitions;
        if message.key.is_none() && message.value.is_none() {
            Err(MessageError::Empty)
        } else if key_bytes > MAX_KEY_BYTES {
            Err(MessageError::KeyTooLarge { bytes: key_bytes, limit: MAX_KEY_BYTES })
        } else if message.headers.len() > MAX_HEADERS {
            Err(MessageError::TooManyHeaders { count: message.headers.len(), limit: MAX_HEADERS })
        } else if header_bytes > MAX_HEADER_BYTES {
            Err(MessageError::HeadersTooLarge { bytes: header_bytes })
        } else if let Some(name) = bad_header_name(message) {
            Err(MessageError::HeaderName { name: name.to_owned() })
        } else if bytes > limit {
            Err(MessageError::TooLarge { bytes, limit })
        } else if let Some(partition) = partition.filter(|partition| *partition >= partitions) {
            Err(MessageError::NoSuchPartition { partition, partitions })
        } else if self.messages() >= MAX_MESSAGES_PER_PUBLISH {
            Err(MessageError::TooManyMessages { limit: MAX_MESSAGES_PER_PUBLISH })
        } else {
            Ok(())
        }
    }

    /// Place in `parts` of a partition.
    fn slot(&mut self, partition: Partition) -> usize {
        match self.parts.first() {
            Some((first, _)) if *first == partition => return 0,
            None => {
                self.parts.push((partition, Columns::default()));
                return 0;
            }
            Some(_) => {}
        }
        if self.slots.is_empty() {
            self.slots.resize(self.settings.partitions as usize, 0);
        }
        let slot = &mut self.slots[partition.0 as usize];
        if *slot == 0 {
            self.parts.push((partition, Columns::default()));
            // At most MAX_PARTITIONS, far below 65,536.
            *slot = self.parts.len() as u16;
        }
        usize::from(*slot) - 1
    }
}

/// A header name that is empty or stands twice. Headers are few, so that comparing each with those before it is cheap.
fn bad_header_name<'a>(message: &'a MessageRef<'_>) -> Option<&'a str> {
    let names = || message.headers.iter().map(|(name, _)| name.as_ref());
    names()
        .enumerate()
        .find(|(at, name)| name.is_empty() || names().take(*at).any(|other| other == *name))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
