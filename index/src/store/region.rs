//! One region's store as the rest of Brigade sees it: counted, timed, repeated where that is safe.

use std::{future::ready, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, path::Path};
use tokio::time::timeout;

use super::{
    Component, Operation, StoreError, StoreErrorKind, StoreMetrics, StoreTiming,
    error::{Failure, is_missing_bucket, is_past_end},
    metrics::{Outcome, RegionMetrics},
    timing::Budget,
};
use crate::{env::Env, keys::is_staging, names::RegionName};

/// Keys that one LIST request answers with.
pub(super) const LIST_PAGE: u64 = 1_000;

/// The store of one region. Clones share everything.
#[derive(Clone, Debug)]
pub struct RegionStore {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) region: RegionName,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) metrics: RegionMetrics,
    pub(super) timing: StoreTiming,
    pub(super) env: Env,
}

impl RegionStore {
    /// Wraps a store that repeats nothing by itself, as [`super::open`] gives.
    pub fn new(
        region: RegionName,
        store: Arc<dyn ObjectStore>,
        metrics: StoreMetrics,
        timing: StoreTiming,
        env: Env,
    ) -> Self {
        let metrics = RegionMetrics::new(region.clone(), metrics);
        Self { inner: Arc::new(Inner { region, store, metrics, timing, env }) }
    }

    /// The region's name.
    pub fn region(&self) -> &RegionName {
        &self.inner.region
    }

    /// Time-outs and retries in force.
    pub fn timing(&self) -> &StoreTiming {
        &self.inner.timing
    }

    /// The store beneath, uncounted and without retries.
    pub fn raw(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.store
    }

    /// Reads an object whole; `None` when there is none.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline.
    pub async fn get(&self, component: Component, key: &Path) -> Result<Option<Bytes>, StoreError> {
        self.read(component, key, None).await
    }

    /// Reads bytes `range` of an object, as many of them as there are; `None` when there is no object.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_range(
        &self,
        component: Component,
        key: &Path,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        if range.start >= range.end {
            // No store answers an empty range; one byte tells whether there is an object.
            let one = range.start..range.start.saturating_add(1);
            return Ok(self.read(component, key, Some(one)).await?.map(|_| Bytes::new()));
        }
        self.read(component, key, Some(range)).await
    }

    async fn read(
        &self,
        component: Component,
        key: &Path,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut budget = Budget::new(&self.inner.timing, &self.inner.env);
        loop {
            match self.read_once(component, key, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => self.pause(&mut budget, failure, Operation::Get, key).await?,
            }
        }
    }

    /// One GET.
    pub(super) async fn read_once(
        &self,
        component: Component,
        key: &Path,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>, Failure> {
        let attempt = self.inner.metrics.begin(Operation::Get, component);
        let result = self.fetch(key, range).await;
        attempt.end(match &result {
            Ok(Some(_)) => Outcome::Ok,
            Ok(None) => Outcome::Absent,
            Err(failure) => failure.kind.into(),
        });
        if let Ok(Some(bytes)) = &result {
            self.inner.metrics.received(component, bytes.len() as u64);
        }
        result
    }

    async fn fetch(&self, key: &Path, range: Option<Range<u64>>) -> Result<Option<Bytes>, Failure> {
        let Inner { store, timing, .. } = &*self.inner;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let answer = timeout(timing.request(0), store.get_opts(key, options)).await.map_err(|_| Failure::timeout())?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_past_end(&error) => return Ok(Some(Bytes::new())),
            Err(error @ object_store::Error::NotFound { .. }) if !is_missing_bucket(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let expected = answer.range.end - answer.range.start;
        let body = timeout(timing.request(expected), answer.bytes()).await.map_err(|_| Failure::timeout())??;
        if body.len() as u64 != expected {
            return Err(Failure::damaged(expected, body.len() as u64));
        }
        Ok(Some(body))
    }

    /// Every key under `prefix`, sorted.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline.
    pub async fn list(&self, component: Component, prefix: &Path) -> Result<Vec<Path>, StoreError> {
        self.list_after(component, prefix, None).await
    }

    /// Every key under `prefix` that sorts behind `after`, sorted.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_after(
        &self,
        component: Component,
        prefix: &Path,
        after: Option<&Path>,
    ) -> Result<Vec<Path>, StoreError> {
        let mut budget = Budget::new(&self.inner.timing, &self.inner.env);
        loop {
            match self.list_once(component, prefix, after).await {
                Ok(keys) => return Ok(keys),
                Err(failure) => self.pause(&mut budget, failure, Operation::List, prefix).await?,
            }
        }
    }

    async fn list_once(&self, component: Component, prefix: &Path, after: Option<&Path>) -> Result<Vec<Path>, Failure> {
        let Inner { store, timing, metrics, .. } = &*self.inner;
        let attempt = metrics.begin(Operation::List, component);
        let mut stream = match after {
            None => store.list(Some(prefix)),
            Some(after) => store.list_with_offset(Some(prefix), after),
        };
        let mut keys = Vec::new();
        let mut seen = 0;
        let result = loop {
            // The library hides where pages end; each wait is at most for one of them.
            match timeout(timing.request(0), stream.try_next()).await {
                Err(_) => break Err(Failure::timeout()),
                Ok(Err(error)) => break Err(Failure::from(error)),
                Ok(Ok(None)) => break Ok(()),
                Ok(Ok(Some(object))) => {
                    seen += 1;
                    if !is_staging(&object.location) {
                        keys.push(object.location);
                    }
                }
            }
        };
        let outcome = result.as_ref().map_or_else(|failure| failure.kind.into(), |()| Outcome::Ok);
        attempt.end_many(outcome, u64::max(1, u64::div_ceil(seen, LIST_PAGE)));
        result?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Whether there is any object under `prefix`: one page of a listing, however many there are.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline.
    pub async fn holds_any(&self, component: Component, prefix: &Path) -> Result<bool, StoreError> {
        let Inner { store, timing, metrics, env, .. } = &*self.inner;
        let mut budget = Budget::new(timing, env);
        loop {
            let attempt = metrics.begin(Operation::List, component);
            let mut objects = store.list(Some(prefix)).try_filter(|object| ready(!is_staging(&object.location)));
            let result = match timeout(timing.request(0), objects.try_next()).await {
                Err(_) => Err(Failure::timeout()),
                Ok(Err(error)) => Err(Failure::from(error)),
                Ok(Ok(first)) => Ok(first.is_some()),
            };
            attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |_| Outcome::Ok));
            match result {
                Ok(any) => return Ok(any),
                Err(failure) => self.pause(&mut budget, failure, Operation::List, prefix).await?,
            }
        }
    }

    /// Deletes an object. One that does not exist counts as deleted.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline; the object may be deleted all the same.
    pub async fn delete(&self, component: Component, key: &Path) -> Result<(), StoreError> {
        let Inner { store, timing, metrics, env, .. } = &*self.inner;
        let mut budget = Budget::new(timing, env);
        loop {
            let attempt = metrics.begin(Operation::Delete, component);
            let result = match timeout(timing.request(0), store.delete(key)).await {
                Err(_) => Err(Failure::timeout()),
                Ok(Err(error @ object_store::Error::NotFound { .. })) if !is_missing_bucket(&error) => {
                    Ok(Outcome::Absent)
                }
                Ok(Err(error)) => Err(Failure::from(error)),
                Ok(Ok(())) => Ok(Outcome::Ok),
            };
            attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |outcome| *outcome));
            match result {
                Ok(_) => return Ok(()),
                Err(failure) => self.pause(&mut budget, failure, Operation::Delete, key).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives up with the failure of the last one.
    pub(super) async fn pause(
        &self,
        budget: &mut Budget<'_>,
        failure: Failure,
        operation: Operation,
        key: &Path,
    ) -> Result<(), StoreError> {
        if failure.kind.is_transient() && budget.again().await {
            tracing::debug!(
                region = %self.inner.region, operation = operation.as_str(), %key, reason = failure.kind.as_str(),
                error = %failure.source, "trying again"
            );
            return Ok(());
        }
        let kind: StoreErrorKind = failure.kind;
        Err(failure.into_error(kind, &self.inner.region, operation, key))
    }
}
