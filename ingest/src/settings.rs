//! Settings of this crate.

use std::time::Duration;

/// How publishing and reading are bounded.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Longest time that messages wait to share an entry while other entries are in flight. With nothing in flight they
    /// do not wait at all.
    pub linger: Duration,
    /// Shortest time between two entries of publishes, unless one is full: bounds the requests to the stores whatever the
    /// load. A publish waits for it at most that long.
    pub pace: Duration,
    /// Bytes of publish requests held at once, from before a body is read until its messages are committed. Columns,
    /// encoded batches and the store's own copy can take three times as much.
    pub publish_memory_bytes: usize,
    /// Bytes kept for readers: encoded batches as they were published or fetched, a few decoded ones, and decoded parts of
    /// archive files.
    pub cache_bytes: u64,
    /// How long a publish waits for its commit; afterwards its outcome is unknown to the client.
    pub request_timeout: Duration,
}

impl Default for IngestSettings {
    /// The linger is a fraction of an object store's write (10 to 30 ms) and bounds entries to 200 a second, which bounds
    /// the bill; a local store answers long before it ends, and then what is open goes out at once.
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            pace: Duration::ZERO,
            publish_memory_bytes: 64 << 20,
            cache_bytes: 96 << 20,
            request_timeout: Duration::from_secs(30),
        }
    }
}
