//! A node's connection to the simulated store: every operation is traced, and the connection ends with the node while
//! what it has sent may still arrive.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

use super::Trace;

/// A connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    node: String,
    inner: Arc<dyn ObjectStore>,
    trace: Trace,
    dead: Arc<AtomicBool>,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection of {}", self.node)
    }
}

impl Connection {
    pub(super) fn new(node: String, inner: Arc<dyn ObjectStore>, trace: Trace) -> Self {
        Self { node, inner, trace, dead: Arc::default() }
    }

    /// The node has died: it gets no more answers and sends nothing more. What is under way may take effect.
    pub(super) fn end(&self) {
        self.dead.store(true, Relaxed);
    }

    async fn run<T>(&self, verb: &str, key: &Path, action: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.dead.load(Relaxed) {
            return pending().await;
        }
        let answer = action.await;
        let dead = self.dead.load(Relaxed);
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(Error::NotFound { .. }) => "not found",
            Err(Error::AlreadyExists { .. }) => "already exists",
            Err(_) => "failed",
        };
        let end = if dead { ", after the node's end" } else { "" };
        self.trace.say(&self.node, format_args!("{verb} {key}: {outcome}{end}"));
        if dead { pending().await } else { answer }
    }
}

#[async_trait]
impl ObjectStore for Connection {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.run("put", location, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.run("put parts", location, self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.run("get", location, self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let connection = self.clone();
        locations
            .and_then(move |location| {
                let connection = connection.clone();
                async move {
                    connection.run("delete", &location, connection.inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (connection, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        async move {
            let objects = connection.inner.list(Some(&prefix)).try_collect::<Vec<_>>();
            connection.run("list", &prefix, objects).await.map(|objects| futures::stream::iter(objects).map(Ok))
        }
        .into_stream()
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let root = Path::default();
        self.run("list", prefix.unwrap_or(&root), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run("copy", to, self.inner.copy_opts(from, to, options)).await
    }
}
