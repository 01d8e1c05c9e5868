//! A store behind a network: the first byte of an answer comes after a while, and each stream has its own bandwidth.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use brigade_index::store::fault::{FaultStore, Latency};
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use tokio::time::sleep_until;

/// A range of an object that was read.
pub(super) type Read = (Path, Range<u64>);

/// See the module. It remembers what was read. Clones are the same store.
#[derive(Clone, Debug)]
pub(super) struct SlowStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    /// Bytes a second of a stream; 0 for no limit.
    bytes_per_second: u64,
    reads: std::sync::Mutex<Vec<Read>>,
}

impl SlowStore {
    pub(super) fn new(store: Arc<dyn ObjectStore>, latency: Option<Latency>, bytes_per_second: u64) -> Self {
        let store = match latency {
            None => store,
            Some(latency) => {
                let store = FaultStore::new(store, 1);
                store.set_latency(Some(latency));
                Arc::new(store)
            }
        };
        Self(Arc::new(Inner { store, bytes_per_second, reads: std::sync::Mutex::default() }))
    }

    /// What was read since the last time, in the order in which it was asked for.
    pub(super) fn take_reads(&self) -> Vec<Read> {
        std::mem::take(&mut *self.0.reads.lock().expect("nobody panics with it"))
    }

    /// The time that so many bytes take on their way.
    fn transfer(&self, bytes: u64) -> Duration {
        match self.0.bytes_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(bytes as f64 / rate as f64),
        }
    }
}

impl fmt::Display for SlowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slow {}", self.0.store)
    }
}

#[async_trait]
impl ObjectStore for SlowStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some(GetRange::Bounded(range)) = &options.range {
            self.0.reads.lock().expect("nobody panics with it").push((location.clone(), range.clone()));
        }
        let answer = self.0.store.get_opts(location, options).await?;
        // Whoever reads waits for the last byte anyway: it does not matter when on the way the time passes.
        let transfer = self.transfer(answer.range.end - answer.range.start);
        if !transfer.is_zero() {
            sleep_until(tokio::time::Instant::now() + transfer).await;
        }
        Ok(answer)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.store.copy_opts(from, to, options).await
    }
}
