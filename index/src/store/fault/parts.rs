//! Faults of objects that are written in parts: each part is an operation of its own.

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart, path::Path};

use super::FaultStore;
use crate::store::Operation;

#[derive(Debug)]
pub(super) struct FaultUpload {
    pub(super) store: FaultStore,
    pub(super) key: Path,
    pub(super) inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, key, part) = (self.store.clone(), self.key.clone(), self.inner.put_part(data));
        async move { store.run(Operation::Put, &key, part).await.map(|((), _)| ()) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Self { store, key, inner } = self;
        Ok(store.run(Operation::Put, key, inner.complete()).await?.0)
    }

    async fn abort(&mut self) -> Result<()> {
        let Self { store, key, inner } = self;
        store.run(Operation::Delete, key, inner.abort()).await.map(|((), _)| ())
    }
}
