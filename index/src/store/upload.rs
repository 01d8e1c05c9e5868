//! Writing objects in parts, and over what is there: for the archive, whose keys have one writer each.

use std::{future::ready, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::once};
use object_store::{MultipartUpload, ObjectMeta, ObjectStoreExt, PutPayload, path::Path};
use tokio::time::{Instant, timeout};

use super::{
    Component, Operation, RegionStore, StoreError, StoreErrorKind,
    error::Failure,
    metrics::Outcome,
    region::{Inner, LIST_PAGE},
    timing::Budget,
};
use crate::keys::is_staging;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Path,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Objects as they are listed.
pub type Listing<T> = Pin<Box<dyn Stream<Item = Result<T, StoreError>> + Send>>;

/// An object that is being written in parts. It is not there before [`Self::finish`]; one that is dropped leaves at most
/// parts behind, which no reader sees and most stores forget after a while.
pub struct Upload {
    store: RegionStore,
    component: Component,
    key: Path,
    parts: Box<dyn MultipartUpload>,
}

impl RegionStore {
    /// Writes an object, whatever is there. Only for keys whose every writer writes the same, or where the last one is as
    /// good as any other.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline; the object may be written all the same.
    pub async fn overwrite(&self, component: Component, key: &Path, payload: PutPayload) -> Result<(), StoreError> {
        let Inner { store, timing, metrics, env, .. } = &*self.inner;
        let bytes = payload.content_length() as u64;
        let mut budget = Budget::new(timing, env);
        loop {
            let attempt = metrics.begin(Operation::Put, component);
            metrics.sent(component, bytes);
            let result = match timeout(timing.request(bytes), store.put(key, payload.clone())).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(Failure::from(error)),
                Err(_) => Err(Failure::timeout()),
            };
            attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |()| Outcome::Ok));
            match result {
                Ok(()) => return Ok(()),
                Err(failure) => self.pause(&mut budget, failure, Operation::Put, key).await?,
            }
        }
    }

    /// Begins an object that is written in parts.
    ///
    /// # Errors
    /// When the store gave no good answer within the attempts and the deadline.
    pub async fn upload(&self, component: Component, key: &Path) -> Result<Upload, StoreError> {
        let Inner { store, timing, metrics, env, .. } = &*self.inner;
        let mut budget = Budget::new(timing, env);
        loop {
            let attempt = metrics.begin(Operation::Put, component);
            let result = match timeout(timing.request(0), store.put_multipart(key)).await {
                Ok(Ok(parts)) => Ok(parts),
                Ok(Err(error)) => Err(Failure::from(error)),
                Err(_) => Err(Failure::timeout()),
            };
            attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |_| Outcome::Ok));
            match result {
                Ok(parts) => return Ok(Upload { store: self.clone(), component, key: key.clone(), parts }),
                Err(failure) => self.pause(&mut budget, failure, Operation::Put, key).await?,
            }
        }
    }

    /// Every object there is, those that killed processes left too, with what the store says of it, in no order, as the
    /// listing goes on.
    pub fn list_metas(&self, component: Component) -> Listing<ObjectMeta> {
        self.listing(component, None)
    }

    /// Every object under `prefix` with its size, in no order, as the listing goes on.
    pub fn list_objects(&self, component: Component, prefix: &Path) -> Listing<Listed> {
        let listed = self.listing(component, Some(prefix));
        let staged = |listed: &Listed| ready(!is_staging(&listed.key));
        Box::pin(listed.map_ok(|object| Listed { key: object.location, bytes: object.size }).try_filter(staged))
    }

    fn listing(&self, component: Component, prefix: Option<&Path>) -> Listing<ObjectMeta> {
        let (region, within) = (self.clone(), prefix.cloned().unwrap_or_default());
        let (mut seen, mut asked) = (0, Instant::now());
        // The library hides where pages end: one is counted for each thousand keys or part of it.
        let mut counted = move |item: Option<&Result<ObjectMeta, object_store::Error>>, region: &RegionStore| {
            let outcome = match item {
                Some(Ok(_)) => {
                    seen += 1;
                    (seen % LIST_PAGE == 1).then_some(Outcome::Ok)
                }
                Some(Err(_)) => Some(Outcome::Failed),
                None => (seen == 0).then_some(Outcome::Ok),
            };
            outcome.into_iter().for_each(|outcome| region.inner.metrics.page(component, outcome, asked));
            if seen % LIST_PAGE == 0 {
                asked = Instant::now();
            }
        };
        let items = self.inner.store.list(prefix).map(Some).chain(once(ready(None)));
        Box::pin(items.filter_map(move |item| {
            counted(item.as_ref(), &region);
            let failed = |error| {
                let failure = Failure::from(error);
                let kind: StoreErrorKind = failure.kind;
                failure.into_error(kind, region.region(), Operation::List, &within)
            };
            ready(item.map(|item| item.map_err(failed)))
        }))
    }
}

impl Upload {
    /// Appends a part. Every part but the last has at least 5 MiB, since S3 asks for that.
    ///
    /// # Errors
    /// When the store did not take it; the upload is to be given up.
    pub async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let Inner { timing, metrics, .. } = &*self.store.inner;
        let size = bytes.len() as u64;
        let attempt = metrics.begin(Operation::Put, self.component);
        metrics.sent(self.component, size);
        let result = match timeout(timing.request(size), self.parts.put_part(bytes.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(Failure::timeout()),
        };
        attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |()| Outcome::Ok));
        result.map_err(|failure| self.failed(failure))
    }

    /// Makes the object of its parts.
    ///
    /// # Errors
    /// When the store did not say that it did; the object may be there all the same, and if it is not, its parts are forgotten.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let Inner { timing, metrics, .. } = &*self.store.inner;
        let attempt = metrics.begin(Operation::Put, self.component);
        let result = match timeout(timing.request(0), self.parts.complete()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(Failure::timeout()),
        };
        attempt.end(result.as_ref().map_or_else(|failure| failure.kind.into(), |()| Outcome::Ok));
        let Err(failure) = result else { return Ok(()) };
        let failed = self.failed(failure);
        self.abort().await;
        Err(failed)
    }

    /// Forgets the parts.
    pub async fn abort(mut self) {
        let Inner { timing, metrics, .. } = &*self.store.inner;
        let attempt = metrics.begin(Operation::Delete, self.component);
        let aborted = timeout(timing.request(0), self.parts.abort()).await;
        attempt.end(if matches!(aborted, Ok(Ok(()))) { Outcome::Ok } else { Outcome::Failed });
    }

    fn failed(&self, failure: Failure) -> StoreError {
        let kind: StoreErrorKind = failure.kind;
        failure.into_error(kind, self.store.region(), Operation::Put, &self.key)
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let region: Arc<str> = self.store.region().as_str().into();
        f.debug_struct("Upload").field("region", &region).field("key", &self.key).finish_non_exhaustive()
    }
}
