//! A node's connection to one region's store. Every operation is traced; the connection ends with the node, while what it
//! has sent may still arrive.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use brigade_index::store::fault::FaultStore;
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};
use tokio::sync::Mutex;

use super::{Trace, gate::Gate, node::SimNode, region::SimRegion, traps::Traps, watch};

/// A connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Who, as the trace names it.
    who: Arc<str>,
    node: Weak<SimNode>,
    region: SimRegion,
    faults: FaultStore,
    /// Cut off for this node alone.
    cut: Arc<AtomicBool>,
    gate: Gate,
    traps: Traps,
    trace: Trace,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.who, self.region)
    }
}

impl Link {
    pub(super) fn new(node: &Arc<SimNode>, region: SimRegion, seed: u64, traps: Traps, trace: Trace) -> Self {
        let faults = FaultStore::new(Arc::new(region.clone()), seed);
        let (who, gate) = (node.name.as_str().into(), node.gate.clone());
        let node = Arc::downgrade(node);
        let link = Self { who, node, region, faults, cut: Arc::default(), gate, traps, trace };
        link.refresh();
        link
    }

    pub(super) fn set_cut(&self, on: bool) {
        self.cut.store(on, Relaxed);
        self.refresh();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Behaves as the region does from now on.
    pub(super) fn refresh(&self) {
        let mood = self.region.mood();
        self.faults.heal();
        self.faults.set_latency(Some(mood.latency));
        self.region.besides().into_iter().chain(mood.rules).for_each(|rule| self.faults.add(rule));
        self.faults.set_unreachable(mood.away || self.cut.load(Relaxed));
        self.faults.set_full(mood.full);
    }

    /// Carries an operation out by itself: it goes on when the node has given it up, and takes effect all the same.
    async fn run<T, A>(&self, verb: &'static str, key: &Path, action: A) -> Result<T>
    where
        T: Send + 'static,
        A: Future<Output = Result<T>> + Send + 'static,
    {
        let trap = self.traps.step(&self.who, verb, key);
        if let Some(trap) = trap {
            self.trace.say(&self.who, format_args!("is struck at {verb} {key}: {trap}"));
            if !trap.after {
                trap.strike(&self.gate);
            }
        }
        self.gate.pass().await;
        self.gate.count();
        if matches!(verb, "put" | "complete")
            && let Some(node) = self.node.upgrade()
        {
            watch::written(&node, &self.region, key);
        }
        let (link, of) = (self.clone(), key.clone());
        let carried_out = tokio::spawn(async move {
            let answer = action.await;
            if answer.is_ok() && matches!(verb, "put" | "complete") {
                link.region.arrived(&of);
            }
            let outcome = match &answer {
                Ok(_) => "ok",
                Err(Error::NotFound { .. }) => "not found",
                Err(Error::AlreadyExists { .. }) => "already exists",
                Err(_) => "failed",
            };
            let end = if link.gate.is_ended() { ", after the node's end" } else { "" };
            link.trace.say(&link.who, format_args!("{} {verb} {of}: {outcome}{end}", link.region));
            answer
        });
        if let Some(trap) = trap.filter(|trap| trap.after) {
            trap.strike(&self.gate);
        }
        let mut asked = Asked { region: &self.region, key, heard: !verb_writes(verb) };
        let answer = carried_out.await;
        self.gate.pass().await;
        let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        asked.heard |= answer.is_ok();
        answer
    }
}

/// Somebody who waits for an answer. Without a good one, what he has asked for may have been done, or may still be.
struct Asked<'a> {
    region: &'a SimRegion,
    key: &'a Path,
    heard: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.heard {
            self.region.doubt(self.key);
        }
    }
}

fn verb_writes(verb: &str) -> bool {
    matches!(verb, "put" | "complete" | "delete")
}

#[async_trait]
impl ObjectStore for Link {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (faults, key) = (self.faults.clone(), location.clone());
        self.run("put", location, async move { faults.put_opts(&key, payload, opts).await }).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (faults, key) = (self.faults.clone(), location.clone());
        let parts = self.run("begin", location, async move { faults.put_multipart_opts(&key, opts).await }).await?;
        Ok(Box::new(Parts { link: self.clone(), key: location.clone(), parts: Arc::new(Mutex::new(parts)) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (faults, key) = (self.faults.clone(), location.clone());
        self.run("get", location, async move { faults.get_opts(&key, options).await }).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let link = self.clone();
        locations
            .and_then(move |location| {
                let (link, faults, key) = (link.clone(), link.faults.clone(), location.clone());
                async move {
                    link.region.watch_deletion(&key).await;
                    if let Some(node) = link.node.upgrade() {
                        let watched = watch::deletion(&node, &link.region, &key).await;
                        watched.unwrap_or_else(|problem| {
                            link.trace.say(&link.who, format_args!("PROBLEM: {problem}"));
                            link.region.alarm(problem);
                        });
                    }
                    link.run("delete", &location, async move { faults.delete(&key).await }).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (link, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        async move {
            let (faults, within) = (link.faults.clone(), prefix.clone());
            let objects = async move { faults.list(Some(&within)).try_collect::<Vec<_>>().await };
            link.run("list", &prefix, objects).await.map(|objects| futures::stream::iter(objects).map(Ok))
        }
        .into_stream()
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (faults, within) = (self.faults.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move { faults.list_with_delimiter(Some(&within)).await };
        self.run("list", &prefix.cloned().unwrap_or_default(), listed).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (faults, from, target) = (self.faults.clone(), from.clone(), to.clone());
        self.run("copy", to, async move { faults.copy_opts(&from, &target, options).await }).await
    }
}

/// An object that is written in parts over a connection.
#[derive(Debug)]
struct Parts {
    link: Link,
    key: Path,
    /// What is under way goes on when the node has given it up.
    parts: Arc<Mutex<Box<dyn MultipartUpload>>>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (link, key, parts) = (self.link.clone(), self.key.clone(), self.parts.clone());
        async move { link.run("put part of", &key, async move { parts.lock().await.put_part(data).await }).await }
            .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.parts.clone();
        self.link.run("complete", &self.key, async move { parts.lock().await.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        let parts = self.parts.clone();
        self.link.run("abort", &self.key, async move { parts.lock().await.abort().await }).await
    }
}
