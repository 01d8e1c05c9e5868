//! Every limit of the index in one place, each with its reason.

/// Longest name of a topic, subscription, region or producer: fits file names on every system with room for a suffix.
pub const MAX_NAME_BYTES: usize = 200;

/// Most partitions of one topic: each costs about 100 bytes of state on every node even when empty.
pub const MAX_PARTITIONS: u32 = 1_024;

/// Most topics of a cluster: the state of an empty one is well under 2 KiB.
pub const MAX_TOPICS: usize = 100_000;

/// Most subscriptions of one topic.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;

/// Longest key of a message.
pub const MAX_KEY_BYTES: usize = 64 * 1024;

/// Largest value that a topic may be configured to accept; the default is [`DEFAULT_MAX_MESSAGE_BYTES`].
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Largest message (key, value and headers together) when the topic does not say otherwise.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Most headers of a message, and the most bytes of all of them: a header is a label, not a payload.
pub const MAX_HEADERS: usize = 64;
/// See [`MAX_HEADERS`].
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Most messages in one publish request. Bounds the answer and the work between two yields.
pub const MAX_MESSAGES_PER_PUBLISH: usize = 100_000;

/// Most rows in one batch, well below the 2 GiB that 32-bit Arrow offsets can address.
pub const MAX_BATCH_ROWS: usize = 200_000;

/// An entry is sealed at this size of inline data before compression, so that one PUT stays in the range where an
/// object store's latency is flat.
pub const ENTRY_TARGET_BYTES: usize = 4 * 1024 * 1024;

/// Most proposals in one entry: bounds its commands, which no other limit counts.
pub const MAX_PROPOSALS_PER_ENTRY: usize = 1_024;

/// Largest entry that is ever written or accepted: one publish of the largest request and its commands.
pub const MAX_ENTRY_BYTES: usize = 128 * 1024 * 1024;

/// Largest command section of an entry or snapshot that a reader allocates for.
pub const MAX_SECTION_BYTES: usize = 1024 * 1024 * 1024;

/// Appends in flight per shard and region (the window `W` of the journal). With one entry in 5 ms it hides a write of
/// 160 ms, which object stores take one time in a hundred: with fewer, one slow write stops everybody. What is in flight
/// is bounded by bytes all the same, where publishes are admitted.
pub const DEFAULT_WINDOW: usize = 32;

/// Recent sequences of one idempotent producer whose results are remembered, so that this many publishes may be in
/// flight at once and retried in any order.
pub const PRODUCER_WINDOW: usize = 64;

/// Idempotent producers remembered per topic; the one idle longest is forgotten first.
pub const MAX_PRODUCERS: usize = 10_000;

/// Idempotency keys remembered per topic; the oldest is forgotten first.
pub const MAX_IDEMPOTENCY_KEYS: usize = 100_000;

/// How long an idempotency key is remembered, in milliseconds of the leader's clock.
pub const DEDUPLICATION_WINDOW_MS: i64 = 24 * 60 * 60 * 1000;

/// Runs of duplicate messages remembered per topic as part of idempotent requests' answers: 40 bytes each. Beyond, the
/// oldest requests are forgotten; so many come together only if requests with an identity of their own keep repeating
/// messages with deduplication ids.
pub const MAX_REMEMBERED_DUPLICATES: usize = 1_000_000;

/// Longest idempotency key.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;

/// Longest visibility time-out and retry delay, in milliseconds: half a day, as elsewhere.
pub const MAX_VISIBILITY_MS: u32 = 12 * 60 * 60 * 1000;

/// Most deliveries of a message that a limit can be set to.
pub const MAX_DELIVERIES: u32 = 1_000;

/// Longest URL that is pushed to or asked, and longest secret.
pub const MAX_URL_BYTES: usize = 2_048;

/// Most requests at once to one push endpoint.
pub const MAX_PUSH_IN_FLIGHT: u32 = 1_000;

/// Longest push time-out and pause between attempts, in milliseconds.
pub const MAX_BACKOFF_MS: u32 = 60 * 60 * 1000;

/// Most transactions that are not decided: each pins its messages in the journal.
pub const MAX_PREPARED: usize = 10_000;

/// How long an undecided transaction may be kept, in milliseconds.
pub const MAX_PREPARED_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Shortest and longest time between two questions about an undecided transaction, in milliseconds.
pub const MIN_CHECK_BACK_MS: u32 = 100;
/// See [`MIN_CHECK_BACK_MS`].
pub const MAX_CHECK_BACK_MS: u32 = 24 * 60 * 60 * 1000;

/// Decided transactions remembered, so that a repeated one gets the first answer; the oldest is forgotten first.
pub const MAX_DECIDED: usize = 100_000;

/// Places (a topic's partition with the messages there) of decided transactions remembered, 16 bytes each; the oldest
/// transaction is forgotten first.
pub const MAX_DECIDED_PLACES: usize = 2_000_000;

/// Longest text of a filter. Every node keeps it, and its terms are tried on every message of the subscription.
pub const MAX_FILTER_BYTES: usize = 4 * 1024;

/// Most parentheses and `not`s around one comparison of a filter: reading and trying it takes that much stack.
pub const MAX_FILTER_DEPTH: usize = 32;

/// Most terms of a filter: its comparisons, where `in` counts once for each of its values.
pub const MAX_FILTER_TERMS: usize = 256;

/// How long a message's deduplication id is remembered when the topic does not say otherwise, in milliseconds: five
/// minutes, longer than any client goes on retrying, and what SQS does.
pub const DEFAULT_DEDUPLICATION_WINDOW_MS: u32 = 5 * 60 * 1000;

/// Longest deduplication window of a topic, in milliseconds.
pub const MAX_DEDUPLICATION_WINDOW_MS: u32 = 24 * 60 * 60 * 1000;

/// Deduplication ids remembered per topic; the oldest is forgotten first. An id takes about 100 bytes of memory on every
/// node, which makes 100 MB, and at most 41 bytes of a snapshot. It covers 3,333 messages with an id each second
/// for the default window.
pub const MAX_DEDUPLICATION_IDS: usize = 1_000_000;

/// Longest deduplication id.
pub const MAX_DEDUPLICATION_ID_BYTES: usize = 200;

/// Longest group of a message: a label such as a customer's number.
pub const MAX_GROUP_BYTES: usize = 256;

/// Highest priority of a message: each is a queue of its own.
pub const MAX_PRIORITY: u8 = 9;

/// Furthest ahead that a message may be delayed or expire, in milliseconds: a leap year. What is meant for later belongs
/// into a database.
pub const MAX_AHEAD_MS: i64 = 366 * 24 * 60 * 60 * 1000;

/// Longest retention by time that a topic can be given, in milliseconds: a hundred years.
pub const MAX_RETENTION_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// How long a tombstone is kept when the topic does not say otherwise, in milliseconds: a day, as in Kafka, so that a
/// consumer that was away for less learns of the deletion.
pub const DEFAULT_TOMBSTONE_RETENTION_MS: u64 = 24 * 60 * 60 * 1000;

/// Most parts of one claim, and most archive files that one command names.
pub const MAX_CLAIM_PARTS: usize = 1_024;

const _: () = assert!(DEFAULT_MAX_MESSAGE_BYTES <= MAX_MESSAGE_BYTES);
const _: () = assert!(MAX_MESSAGE_BYTES * 2 + ENTRY_TARGET_BYTES < MAX_ENTRY_BYTES);
const _: () = assert!(MAX_BATCH_ROWS >= MAX_MESSAGES_PER_PUBLISH);
const _: () = assert!(DEFAULT_DEDUPLICATION_WINDOW_MS <= MAX_DEDUPLICATION_WINDOW_MS);
