//! Does a store keep the promises on which everything rests? A store is not trusted by its name: several that claim to
//! support conditional writes let two writers win.

mod race;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, PutMode, PutOptions, path::Path};
use tokio::time::Instant;

use super::{Component, RegionStore, StoreError, StoreMetrics, StoreTiming};
use crate::{env::Env, format::ID_RANGE, ids::WriteId, names::RegionName};

/// How thoroughly to test.
#[derive(Clone, Debug)]
pub struct ConformanceOptions {
    /// Rounds of the race for one key.
    pub rounds: usize,
    /// Writers that race at once.
    pub writers: usize,
    /// Keys to list, more than one page of a thousand by default.
    pub listed_keys: usize,
    /// Size of the large object, in bytes.
    pub large_object_bytes: usize,
    /// Randomness for keys and identities.
    pub env: Env,
}

impl ConformanceOptions {
    /// Enough to catch every broken store known so far: 20 rounds of 32 writers, 1,050 keys, 5 MiB.
    pub fn new(env: Env) -> Self {
        Self { rounds: 20, writers: 32, listed_keys: 1_050, large_object_bytes: 5 * 1024 * 1024, env }
    }
}

/// One promise that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPromise {
    /// What was tested.
    pub name: &'static str,
    /// How long the test took.
    pub elapsed: Duration,
}

/// What a good store has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConformanceReport {
    /// Every promise tested, in order.
    pub promises: Vec<KeptPromise>,
}

impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for KeptPromise { name, elapsed } in &self.promises {
            writeln!(f, "ok  {:>8.1} ms  {name}", elapsed.as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }
}

/// The promise that a store broke, or could not be asked about.
#[derive(Debug, thiserror::Error)]
#[error("{promise}: {problem}")]
pub struct ConformanceFailure {
    /// What was tested.
    pub promise: &'static str,
    /// What happened instead.
    pub problem: String,
    /// The store's own error, when there was one.
    #[source]
    pub source: Option<StoreError>,
}

impl ConformanceFailure {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match &self.source {
            Some(error) => error.hint(),
            None => {
                "do not keep data in this store: it would be lost or overwritten; use another one or another version"
            }
        }
    }
}

/// What went wrong inside one test.
#[derive(Debug)]
enum Problem {
    Broken(String),
    Store(StoreError),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn ensure(kept: bool, problem: impl FnOnce() -> String) -> Result<(), Problem> {
    if kept { Ok(()) } else { Err(Problem::Broken(problem())) }
}

/// Tests a store under `prefix`, in a directory of its own that is empty again afterwards. About 1,800 requests.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check(
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    options: ConformanceOptions,
) -> Result<ConformanceReport, ConformanceFailure> {
    let region = RegionName::new("conformance").map_err(|error| ConformanceFailure {
        promise: "settings",
        problem: error.to_string(),
        source: None,
    })?;
    let timing = StoreTiming { request_timeout: Duration::from_secs(10), ..StoreTiming::default() };
    let region = RegionStore::new(region, store, StoreMetrics::new(), timing, options.env.clone());
    let base = prefix.clone().join(format!("conformance-{:016x}", options.env.entropy.next_u64()));
    let run = Run { region, base, options };
    let mut promises = Vec::new();
    let result = run.promises(&mut promises).await;
    let cleaned = run.timed(&mut promises, "deleted objects are gone, and from lists too", run.clean_up()).await;
    result.and(cleaned)?;
    Ok(ConformanceReport { promises })
}

struct Run {
    region: RegionStore,
    base: Path,
    options: ConformanceOptions,
}

impl Run {
    async fn promises(&self, kept: &mut Vec<KeptPromise>) -> Result<(), ConformanceFailure> {
        self.timed(kept, "a missing object is reported as missing", self.missing()).await?;
        self.timed(kept, "an object can be read as soon as it is written", self.read_after_write()).await?;
        self.timed(kept, "a range reads exactly those bytes", self.ranges()).await?;
        self.timed(kept, "a create refuses a key that is taken", self.refuses_taken_key()).await?;
        self.timed(kept, "of many concurrent creates exactly one wins", self.race()).await?;
        self.timed(kept, "a large object comes back unchanged", self.large_object()).await?;
        self.timed(kept, "a list shows every object as soon as it is written", self.list_after_write()).await
    }

    async fn timed(
        &self,
        kept: &mut Vec<KeptPromise>,
        promise: &'static str,
        test: impl Future<Output = Result<(), Problem>>,
    ) -> Result<(), ConformanceFailure> {
        let started = Instant::now();
        match test.await {
            Ok(()) => kept.push(KeptPromise { name: promise, elapsed: started.elapsed() }),
            Err(Problem::Broken(problem)) => return Err(ConformanceFailure { promise, problem, source: None }),
            Err(Problem::Store(error)) => {
                return Err(ConformanceFailure { promise, problem: error.to_string(), source: Some(error) });
            }
        }
        Ok(())
    }

    fn key(&self, name: &str) -> Path {
        self.base.clone().join(name)
    }

    fn object(&self, bytes: usize) -> (WriteId, Bytes) {
        let id = WriteId(self.options.env.entropy.next_u128());
        let mut body: Vec<u8> = (0..bytes.max(ID_RANGE.end)).map(|i| (i % 251) as u8).collect();
        body[ID_RANGE].copy_from_slice(&id.0.to_be_bytes());
        (id, body.into())
    }

    /// Writes an object through the same call that publishing uses.
    async fn create(&self, key: &Path, bytes: usize) -> Result<Bytes, Problem> {
        let (id, body) = self.object(bytes);
        let created = self.region.create(Component::Bucket, key, body.clone().into(), id).await?;
        ensure(created == super::Created::Landed, || format!("{key} is taken, though nobody else writes it"))?;
        Ok(body)
    }

    async fn missing(&self) -> Result<(), Problem> {
        let key = self.key("missing");
        let found = self.region.get(Component::Bucket, &key).await?;
        ensure(found.is_none(), || "an object that was never written can be read".into())?;
        let found = self.region.get_range(Component::Bucket, &key, 0..32).await?;
        ensure(found.is_none(), || "a range of an object that was never written can be read".into())?;
        let listed = self.region.list(Component::Bucket, &self.base).await?;
        ensure(listed.is_empty(), || format!("an unused directory lists {} objects", listed.len()))?;
        self.region.delete(Component::Bucket, &key).await?;
        Ok(())
    }

    async fn read_after_write(&self) -> Result<(), Problem> {
        for i in 0..20 {
            let key = self.key(&format!("written/{i}"));
            let body = self.create(&key, 100 + i).await?;
            let read = self.region.get(Component::Bucket, &key).await?;
            ensure(read.as_ref() == Some(&body), || format!("{key} reads as {:?} bytes", read.map(|read| read.len())))?;
        }
        Ok(())
    }

    async fn ranges(&self) -> Result<(), Problem> {
        let key = self.key("ranges");
        let body = self.create(&key, 1_000).await?;
        for range in [0..32, 10..11, 990..1_000, 990..2_000, 1_000..1_001, 0..1_000] {
            let expected = body.slice(range.start.min(body.len())..range.end.min(body.len()));
            let read = self.region.get_range(Component::Bucket, &key, range.start as u64..range.end as u64).await?;
            ensure(read.as_ref() == Some(&expected), || {
                format!("range {range:?} of 1000 bytes reads as something else")
            })?;
        }
        Ok(())
    }

    async fn refuses_taken_key(&self) -> Result<(), Problem> {
        let key = self.key("taken");
        let first = self.create(&key, 200).await?;
        let (_, second) = self.object(200);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let answer = self.region.raw().put_opts(&key, second.into(), options).await;
        ensure(answer.is_err(), || "it answered success: conditions are ignored".into())?;
        let read = self.region.get(Component::Bucket, &key).await?;
        ensure(read == Some(first), || "the first object was overwritten".into())
    }

    async fn large_object(&self) -> Result<(), Problem> {
        let key = self.key("large");
        let body = self.create(&key, self.options.large_object_bytes).await?;
        let read = self.region.get(Component::Bucket, &key).await?;
        ensure(read.as_ref() == Some(&body), || "it came back changed".into())?;
        let middle = body.len() / 2..body.len() / 2 + 1_000;
        let read = self.region.get_range(Component::Bucket, &key, middle.start as u64..middle.end as u64).await?;
        let expected = body.slice(middle.start..middle.end.min(body.len()));
        ensure(read == Some(expected), || "a range of it came back changed".into())
    }

    async fn list_after_write(&self) -> Result<(), Problem> {
        let directory = self.key("listed");
        let keys: Vec<Path> =
            (0..self.options.listed_keys).map(|i| directory.clone().join(format!("{i:08}"))).collect();
        // A neighbour that begins with the same letters does not belong to the directory.
        self.create(&self.key("listed-not"), 32).await?;
        let writes = futures::stream::iter(keys.iter().map(|key| async move { self.create(key, 32).await.map(drop) }));
        writes.buffer_unordered(self.options.writers.max(1)).try_collect::<()>().await?;
        let listed = self.region.list(Component::Bucket, &directory).await?;
        ensure(listed == keys, || format!("{} objects were written and {} are listed", keys.len(), listed.len()))
    }

    async fn clean_up(&self) -> Result<(), Problem> {
        let keys = self.region.list(Component::Bucket, &self.base).await?;
        let deletes = futures::stream::iter(
            keys.iter().map(|key| async move { self.region.delete(Component::Bucket, key).await }),
        );
        deletes.buffer_unordered(self.options.writers.max(1)).try_collect::<()>().await?;
        if let Some(key) = keys.first() {
            let read = self.region.get(Component::Bucket, key).await?;
            ensure(read.is_none(), || format!("{key} can be read after its deletion"))?;
        }
        let left = self.region.list(Component::Bucket, &self.base).await?;
        ensure(left.is_empty(), || format!("{} objects are listed after their deletion", left.len()))
    }
}

#[cfg(test)]
mod tests;
