//! A region of a simulation: its objects, which outlive every node, and how its store behaves.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use brigade_index::{
    format::{Head, Kind},
    ids::{Ballot, ShardId},
    keys,
    names::RegionName,
    store::fault::{Latency, Rule},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use tokio::task::yield_now;

use super::lock;

/// How a region's store behaves towards every node.
#[derive(Clone, Debug)]
pub(super) struct Mood {
    pub(super) latency: Latency,
    pub(super) rules: Vec<Rule>,
    /// Nobody reaches it.
    pub(super) away: bool,
    /// It takes no writes for lack of space.
    pub(super) full: bool,
}

impl Mood {
    /// Fast and without faults.
    pub(super) fn calm() -> Self {
        let latency = Latency { median: Duration::from_millis(2), p99: Duration::from_millis(4) };
        Self { latency, rules: Vec::new(), away: false, full: false }
    }
}

/// A region. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct SimRegion(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: RegionName,
    url: String,
    objects: Mutex<Arc<InMemory>>,
    /// What it goes back to after trouble.
    usual: Mutex<Mood>,
    mood: Mutex<Mood>,
    /// Rules that come and go whatever the mood.
    besides: Mutex<Vec<Rule>>,
    /// Objects of which nobody knows whether they were written or deleted, or when: who asked for it heard nothing good.
    doubtful: Mutex<BTreeSet<Path>>,
    /// What was done to it that must never be.
    alarms: Mutex<Vec<String>>,
    /// Objects of the journal and archive files that were deleted.
    deleted: Mutex<BTreeSet<Path>>,
    /// Archive files that were copied here.
    copied: Mutex<BTreeSet<Path>>,
    /// Whether it has lost what it held.
    restored: AtomicBool,
}

impl SimRegion {
    pub(super) fn new(number: usize, usual: Mood) -> Self {
        let name = RegionName::new(&format!("r{number}")).expect("a good name");
        let (url, mood) = (format!("memory://{name}"), usual.clone().into());
        Self(Arc::new(Inner {
            name,
            url,
            objects: Mutex::default(),
            usual: usual.into(),
            mood,
            besides: Mutex::default(),
            doubtful: Mutex::default(),
            alarms: Mutex::default(),
            deleted: Mutex::default(),
            copied: Mutex::default(),
            restored: AtomicBool::new(false),
        }))
    }

    pub(super) fn name(&self) -> &RegionName {
        &self.0.name
    }

    pub(super) fn url(&self) -> &str {
        &self.0.url
    }

    pub(super) fn mood(&self) -> Mood {
        lock(&self.0.mood).clone()
    }

    pub(super) fn usual(&self) -> Mood {
        lock(&self.0.usual).clone()
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        *lock(&self.0.mood) = mood;
    }

    pub(super) fn besides(&self) -> Vec<Rule> {
        lock(&self.0.besides).clone()
    }

    pub(super) fn set_besides(&self, rules: Vec<Rule>) {
        *lock(&self.0.besides) = rules;
    }

    /// Nobody knows what became of an object.
    pub(super) fn doubt(&self, key: &Path) {
        lock(&self.0.doubtful).insert(key.clone());
    }

    /// A write has taken effect. An archive file that was deleted before was on its way for somebody who leads no more, and
    /// whose claim was given up: it stays until somebody scrubs.
    pub(super) fn arrived(&self, key: &Path) {
        if keys::parse_archive_file(key).is_some() && lock(&self.0.deleted).contains(key) {
            self.doubt(key);
        }
    }

    pub(super) fn is_doubtful(&self, key: &Path) -> bool {
        lock(&self.0.doubtful).contains(key)
    }

    /// How many archive files may be there though nobody knows of them.
    pub(super) fn doubtful(&self) -> usize {
        lock(&self.0.doubtful).iter().filter(|key| key.as_ref().starts_with("archive/")).count()
    }

    /// An object is about to be deleted: no Takeover ever is, and no archive file that is published still.
    pub(super) async fn watch_deletion(&self, key: &Path) {
        if keys::parse_journal(ShardId(0), key).is_some() {
            let head = self.bytes(key).await.and_then(|bytes| Head::decode(&bytes).ok());
            let takeover = head.is_some_and(|head| head.kind == Kind::Takeover);
            // A challenger that works from old state may put its Takeover where something was deleted: that counts for nothing.
            if lock(&self.0.deleted).insert(key.clone()) && takeover {
                self.alarm(format!("I3: the Takeover {key} in region {self} is deleted"));
            }
        } else if keys::parse_archive_file(key).is_some() {
            lock(&self.0.deleted).insert(key.clone());
            let Some(topic) = key.as_ref().split('/').nth(1) else { return };
            let latest = Path::from(format!("archive/{topic}/latest.json"));
            let Some(bytes) = self.bytes(&latest).await.filter(|_| !self.is_doubtful(&latest)) else { return };
            let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let mut files = list["files"].as_array().into_iter().flatten();
            if files.any(|file| file["key"] == key.as_ref()) {
                self.alarm(format!("{key} in region {self} is deleted, and listed still"));
            }
        }
    }

    /// Whether somebody with a higher ballot than this has taken it over.
    pub(super) async fn has_promised_beyond(&self, ballot: Ballot) -> bool {
        for key in self.keys(&Path::from("journal")).await {
            let Some(slot) = keys::parse_journal(ShardId(0), &key) else { continue };
            let is_takeover = || async {
                let head = self.bytes(&key).await.and_then(|bytes| Head::decode(&bytes).ok());
                head.is_some_and(|head| head.kind == Kind::Takeover)
            };
            if slot.ballot > ballot || slot.ballot == ballot && is_takeover().await {
                return true;
            }
        }
        false
    }

    async fn bytes(&self, key: &Path) -> Option<Bytes> {
        self.objects().get(key).await.ok()?.bytes().await.ok()
    }

    /// Something was done to it that must never be.
    pub(super) fn alarm(&self, what: String) {
        lock(&self.0.alarms).push(what);
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        lock(&self.0.alarms).clone()
    }

    pub(super) fn calm(&self) {
        self.set_besides(Vec::new());
        *lock(&self.0.usual) = Mood::calm();
        self.set_mood(Mood::calm());
    }

    /// The objects as they are now.
    pub(super) fn objects(&self) -> Arc<InMemory> {
        lock(&self.0.objects).clone()
    }

    /// What is there with this prefix.
    pub(super) async fn keys(&self, prefix: &Path) -> Vec<Path> {
        let listed = self.objects().list(Some(prefix)).try_collect::<Vec<_>>().await.unwrap_or_default();
        listed.into_iter().map(|object| object.location).collect()
    }

    /// What was deleted with this prefix.
    pub(super) fn deleted_in(&self, prefix: &Path) -> Vec<Path> {
        lock(&self.0.deleted).iter().filter(|key| key.prefix_matches(prefix)).cloned().collect()
    }

    pub(super) fn note_copied(&self, key: &Path) {
        lock(&self.0.copied).insert(key.clone());
    }

    /// Whether an archive file may have been copied from another region.
    pub(super) fn is_copied(&self, key: &Path) -> bool {
        lock(&self.0.copied).contains(key)
    }

    /// Whether it has lost what it held.
    pub(super) fn is_restored(&self) -> bool {
        self.0.restored.load(Relaxed)
    }

    /// A copy of all objects.
    pub(super) fn copy(&self) -> InMemory {
        self.objects().fork()
    }

    /// From now on, these are its objects.
    pub(super) fn restore(&self, objects: InMemory) {
        self.0.restored.store(true, Relaxed);
        *lock(&self.0.objects) = Arc::new(objects);
    }
}

impl fmt::Display for SimRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name.fmt(f)
    }
}

/// Every operation lets other tasks run first, and then meets the objects as they are at that moment.
#[async_trait]
impl ObjectStore for SimRegion {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        yield_now().await;
        self.objects().put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        yield_now().await;
        self.objects().put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        yield_now().await;
        self.objects().get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects().delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (region, prefix) = (self.clone(), prefix.cloned());
        async move {
            yield_now().await;
            region.objects().list(prefix.as_ref())
        }
        .into_stream()
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        yield_now().await;
        self.objects().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        yield_now().await;
        self.objects().copy_opts(from, to, options).await
    }
}
