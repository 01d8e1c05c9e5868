//! A publish request while it is being built: messages are checked, given their partition and laid out in columns.

use std::sync::Arc;

use brigade_index::{
    batch::{Attributes, MessageRef},
    command::{IdRow, IdempotentRequest, Identity, TopicSettings},
    ids::{Partition, TopicId},
    limits::{
        MAX_AHEAD_MS, MAX_DEDUPLICATION_ID_BYTES, MAX_GROUP_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES,
        MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_PUBLISH, MAX_PRIORITY,
    },
    names::TopicName,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    MessageError,
    open::Part,
    placement::{Order, Route},
};

/// Most bytes of one request: two of the largest messages, so that an entry always has room for one request.
pub const MAX_REQUEST_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// A publish request being built. Messages with the same group, or else the same key, go to the same partition; those
/// with neither all go to one partition, so that batches stay large.
#[derive(Debug)]
pub struct Draft {
    pub(crate) name: TopicName,
    pub(crate) topic: TopicId,
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) identity: Option<Identity>,
    /// Partition of messages with neither group nor key.
    pub(crate) keyless: Partition,
    /// One for each partition that got messages, in the order in which the partitions were first used.
    pub(crate) parts: Vec<Part>,
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

    /// Adds a message. Without an explicit `partition` its group decides, else its key.
    ///
    /// # Errors
    /// When the message breaks a limit; the draft is then unchanged.
    pub fn push(&mut self, message: &MessageRef<'_>, partition: Option<u32>) -> Result<(), MessageError> {
        self.push_once(message, partition, None)
    }

    /// Adds a message like [`Self::push`]. With a deduplication id it is stored only if the topic remembers none with the
    /// same id.
    ///
    /// # Errors
    /// Like [`Self::push`].
    pub fn push_once(
        &mut self,
        message: &MessageRef<'_>,
        partition: Option<u32>,
        deduplication_id: Option<&str>,
    ) -> Result<(), MessageError> {
        self.check(message, partition)?;
        check_attributes(&message.attributes, self.now_ms)?;
        let hash = deduplication_id.map(hash_of_id).transpose()?;
        let route = match (partition, message.attributes.group, message.key) {
            (Some(partition), ..) => Route::Explicit(Partition(partition)),
            (None, Some(group), _) => Route::Hash(xxh3_64(group.as_bytes())),
            (None, None, Some(key)) => Route::Hash(xxh3_64(key)),
            (None, None, None) => Route::Keyless,
        };
        let slot = self.slot(route.partition(self.settings.partitions, self.keyless));
        let part = &mut self.parts[slot];
        part.ids.extend(hash.map(|hash| IdRow { row: part.columns.rows() as u32, hash }));
        part.columns.push(message);
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
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Bytes of keys, values and headers.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.columns.payload_bytes()).sum()
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
            Some(first) if first.partition == partition => return 0,
            None => {
                self.parts.push(Part { partition, ..Part::default() });
                return 0;
            }
            Some(_) => {}
        }
        if self.slots.is_empty() {
            self.slots.resize(self.settings.partitions as usize, 0);
        }
        let slot = &mut self.slots[partition.0 as usize];
        if *slot == 0 {
            self.parts.push(Part { partition, ..Part::default() });
            // At most MAX_PARTITIONS, far below 65,536.
            *slot = self.parts.len() as u16;
        }
        usize::from(*slot) - 1
    }
}

/// Checks what queue subscriptions deliver by. A message that is to be delivered at a time gone by is delivered at once.
fn check_attributes(attributes: &Attributes<'_>, now_ms: i64) -> Result<(), MessageError> {
    let Attributes { group, priority, deliver_at_ms, expires_at_ms } = *attributes;
    let latest = now_ms.saturating_add(MAX_AHEAD_MS);
    if let Some(group) = group.filter(|group| group.is_empty() || group.len() > MAX_GROUP_BYTES) {
        Err(MessageError::Group { bytes: group.len(), limit: MAX_GROUP_BYTES })
    } else if let Some(priority) = priority.filter(|priority| *priority > MAX_PRIORITY) {
        Err(MessageError::Priority { priority })
    } else if let Some(time_ms) = deliver_at_ms.filter(|time| *time < 0 || *time > latest) {
        Err(MessageError::Delay { time_ms, now_ms })
    } else if let Some(time_ms) = expires_at_ms.filter(|time| *time < now_ms || *time > latest) {
        Err(MessageError::Ttl { time_ms, now_ms })
    } else {
        Ok(())
    }
}

fn hash_of_id(id: &str) -> Result<u128, MessageError> {
    if id.is_empty() || id.len() > MAX_DEDUPLICATION_ID_BYTES {
        return Err(MessageError::DeduplicationId { bytes: id.len(), limit: MAX_DEDUPLICATION_ID_BYTES });
    }
    Ok(IdRow::hash(id))
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
