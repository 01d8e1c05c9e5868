//! A store that fails as told: the test double of everything above it (feature `fault`).
//!
//! Which faults strike is decided by rules and a seed, in the order in which operations begin; time passes only through
//! `tokio::time`. In a single-threaded runtime with virtual time, the same seed gives the same run.

mod parts;
mod plan;

use std::{fmt, future::pending, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use parking_lot::Mutex;
pub use plan::{Answer, Fault, Latency, Rule};
use plan::{Decision, Plan};

use super::Operation;

const STORE: &str = "FaultStore";

/// Wraps a store with faults. Clones share rules, switches and randomness.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner)
    }
}

impl FaultStore {
    /// A wrapper without faults yet.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { inner, plan: Arc::new(Mutex::new(Plan::new(seed))) }
    }

    /// Adds a rule. Of all rules that match an operation, the first that strikes is carried out.
    pub fn add(&self, rule: Rule) {
        self.plan.lock().rules.push(rule);
    }

    /// Removes every rule and the latency, and throws both switches off.
    pub fn heal(&self) {
        self.plan.lock().heal();
    }

    /// Latency of every operation; `None` for none.
    pub fn set_latency(&self, latency: Option<Latency>) {
        self.plan.lock().latency = latency;
    }

    /// While on, connections are refused, and answers to requests already under way are lost.
    pub fn set_unreachable(&self, on: bool) {
        self.plan.lock().unreachable = on;
    }

    /// While on, writes fail for lack of space, before they store anything.
    pub fn set_full(&self, on: bool) {
        self.plan.lock().full = on;
    }

    /// How many faults rules have caused so far.
    pub fn struck(&self) -> u64 {
        self.plan.lock().struck
    }

    /// The store beneath, for a look at what is really there.
    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// Runs one operation under the plan. `Ok` is the answer and the damage it is to suffer.
    async fn run<T, F>(&self, operation: Operation, key: &Path, action: F) -> Result<(T, Option<Fault>)>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let Decision { delay, fault } = self.plan.lock().decide(operation, key)?;
        if !delay.is_zero() {
            tokio::time::sleep(delay / 2).await;
            self.plan.lock().check_reachable(io::ErrorKind::NotConnected)?;
        }
        match &fault {
            Some(Fault::Fail { applied, answer }) => {
                if *applied {
                    action.await?;
                }
                return Err(answer.error(key));
            }
            Some(Fault::Hang { applied }) => {
                if *applied {
                    action.await?;
                }
                return pending().await;
            }
            _ => {}
        }
        let answer = action.await;
        if !delay.is_zero() {
            tokio::time::sleep(delay / 2).await;
        }
        self.plan.lock().check_reachable(io::ErrorKind::ConnectionReset)?;
        Ok((answer?, fault))
    }

    async fn damage(&self, answer: GetResult, fault: &Fault) -> Result<GetResult> {
        let GetResult { meta, range, attributes, extensions, .. } = &answer;
        let (meta, range) = (meta.clone(), range.clone());
        let (attributes, extensions) = (attributes.clone(), extensions.clone());
        let mut body = answer.bytes().await?.to_vec();
        match fault {
            Fault::Truncate => body.truncate(body.len() / 2),
            Fault::Flip if !body.is_empty() => {
                let bit = self.plan.lock().below(body.len() as u64 * 8);
                body[usize::try_from(bit / 8).unwrap_or_default()] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        let body = futures::stream::once(async move { Ok(Bytes::from(body)) }).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let action = self.inner.put_opts(location, payload, opts);
        Ok(self.run(Operation::Put, location, action).await?.0)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let action = self.inner.put_multipart_opts(location, opts);
        let (inner, _) = self.run(Operation::Put, location, action).await?;
        Ok(Box::new(parts::FaultUpload { store: self.clone(), key: location.clone(), inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let action = self.inner.get_opts(location, options);
        match self.run(Operation::Get, location, action).await? {
            (answer, Some(fault @ (Fault::Truncate | Fault::Flip))) => self.damage(answer, &fault).await,
            (answer, _) => Ok(answer),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    let action = store.inner.delete(&location);
                    store.run(Operation::Delete, &location, action).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        async move {
            let action = async { Ok(store.inner.list(Some(&prefix))) };
            store.run(Operation::List, &prefix, action).await.map(|(objects, _)| objects)
        }
        .into_stream()
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let root = Path::default();
        let action = self.inner.list_with_delimiter(prefix);
        Ok(self.run(Operation::List, prefix.unwrap_or(&root), action).await?.0)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let action = self.inner.copy_opts(from, to, options);
        self.run(Operation::Put, to, action).await.map(|((), _)| ())
    }
}

fn refused(kind: io::ErrorKind, words: &'static str) -> Error {
    Error::Generic { store: STORE, source: Box::new(io::Error::new(kind, words)) }
}

#[cfg(test)]
mod tests;
