//! Restoring a whole cluster into empty buckets from the bucket of one of its regions.
//!
//! The new cluster has an identity of its own, so that the old one, should it come back, is never mixed up with it. It has
//! everything that the region had accepted: what was known to be committed, and what lay behind that. A region that was
//! behind the others lacks what they had committed without it; which entries these are, nobody can tell from it.
//!
//! In each target, in this order: a mark that says what is being done; archive files and entries; a snapshot of the state
//! and a truncation mark, from which the new cluster's journal begins; then everything is read again and compared with the
//! source; then, in all targets, the identities, without which no server takes them; then the marks are deleted. A restore
//! that broke off is gone on with by the same call.

mod copy;
mod error;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use brigade_index::{
    env::Env,
    format::{Extent, Floor, FoundingRegion, RegionIdentity, Restoring, SnapshotRef, encode_snapshot},
    founding::new_region_id,
    ids::{Ballot, Partition, RegionNo, Sequence, ShardId, TopicId, WriteId},
    keys::{self, Slot},
    names::RegionName,
    region::RegionRecord,
    shard::inspect::{RegionContent, inspect},
    state::{Regions, ShardState},
    store::{Component, Created, RegionStore},
};
use futures::{TryStreamExt, future::try_join_all};
use parking_lot::Mutex;
use serde::Serialize;

use self::copy::Copying;
pub use self::error::RestoreError;
use crate::{
    budget::Budget,
    scrub::{
        Done, Progress, Target,
        entries::{Reading, body_bytes},
        list::Listing,
        scene::{Scene, Sight, Wanted},
        verify::{Held, Verified, Verifying},
    },
};

/// The one shard there is.
const SHARD: ShardId = ShardId(0);

/// What a target holds of a partition, and what the source does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredPartition {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset that can be read.
    pub log_start: u64,
    /// Offset after the last message.
    pub high_watermark: u64,
    /// Messages that the source and every target hold.
    pub messages: u64,
    /// Their hash as a set, found in the source and in every target: 32 hexadecimal digits.
    pub set_hash: String,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Identity of the cluster that was restored.
    pub source_cluster_id: String,
    /// Name of the region that it was restored from.
    pub source_region: String,
    /// Identity of the new cluster.
    pub cluster_id: String,
    /// Names of its regions.
    pub regions: Vec<String>,
    /// Last entry that was restored.
    pub sequence: u64,
    /// How many of them the source did not know to be committed. Clients may have been told that they are, or not.
    pub beyond_known: u64,
    /// Objects of the source's journal that lie behind a missing one, and were left out.
    pub left_out: u64,
    /// Entries whose messages were copied.
    pub entries: u64,
    /// Archive files.
    pub files: u64,
    /// Whether a restore that had broken off was gone on with.
    pub resumed: bool,
    /// The partitions, all of which were found equal; empty when they had been compared before.
    pub partitions: Vec<RestoredPartition>,
}

/// A restore.
pub struct Restore {
    source: RegionStore,
    targets: Vec<Target>,
    reading: Reading,
    env: Env,
    despite_gaps: bool,
}

/// What targets are found to be.
struct Looked {
    /// What their marks say, if there is one.
    mark: Option<Restoring>,
    /// Whether one of them has its identity already: everything was compared before.
    founded: bool,
}

impl Restore {
    /// A restore from the bucket of one region into those of others. Nothing is done yet.
    ///
    /// # Errors
    /// When the targets cannot be.
    pub fn new(
        source: RegionStore,
        mut targets: Vec<Target>,
        bytes_per_second: u64,
        env: Env,
        progress: Arc<Progress>,
    ) -> Result<Self, RestoreError> {
        if !matches!(targets.len(), 1 | 3 | 5) {
            return Err(RestoreError::Invalid(format!("a cluster has 1, 3 or 5 regions, not {}", targets.len())));
        }
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = targets.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(RestoreError::Invalid(format!("two targets are named {}", pair[0].name)));
        }
        let reading = Reading { budget: Budget::new(bytes_per_second), progress };
        Ok(Self { source, targets, reading, env, despite_gaps: false })
    }

    /// Restores what lies before a gap in the source, too, and leaves out what lies behind it.
    #[must_use]
    pub const fn despite_gaps(mut self, despite: bool) -> Self {
        self.despite_gaps = despite;
        self
    }

    /// Restores, from the beginning or from where it broke off.
    ///
    /// # Errors
    /// When it cannot be done, or not to its end. The targets cannot be served then.
    pub async fn run(&self) -> Result<RestoreReport, RestoreError> {
        let progress = &self.reading.progress;
        progress.begin("reading the source's index");
        let stores = self.stores()?;
        let content = self.source_content().await?;
        let identity = content.identity.clone().ok_or_else(|| RestoreError::Source("it has no identity".to_owned()))?;
        let left_out = self.left_out(&content).await?;
        let looked = self.look(&stores).await?;
        let resumed = looked.mark.is_some();
        let mark = match looked.mark {
            Some(mark) => self.checked(mark, &identity)?,
            None => self.plan(&identity, content.accepted()),
        };
        let state = content.state_at(Sequence(mark.sequence)).ok_or_else(|| {
            RestoreError::Source(format!("it has moved on, and the state after entry {} is gone", mark.sequence))
        })?;
        let source = state.clone().restored(state.regions.clone(), &BTreeMap::new());
        let wanted = Wanted::of(&source);
        let mut partitions = Vec::new();
        if !looked.founded {
            self.put_marks(&stores, &mark).await?;
            let parts = self.fill(&stores, &content, &source, &wanted, &mark).await?;
            progress.begin("comparing with the source");
            partitions = self.compare(&stores, content.clone(), source, parts, &mark, &identity).await?;
        }
        progress.begin("writing the identities");
        self.found(&stores, &mark).await?;
        let beyond = mark.sequence.saturating_sub(content.fold.committed.0);
        Ok(RestoreReport {
            source_cluster_id: identity.cluster_id,
            source_region: identity.region,
            cluster_id: mark.cluster_id,
            regions: self.targets.iter().map(|target| target.name.to_string()).collect(),
            sequence: mark.sequence,
            beyond_known: beyond,
            left_out,
            entries: wanted.entries.len() as u64,
            files: wanted.files.len() as u64,
            resumed,
            partitions,
        })
    }

    fn stores(&self) -> Result<Vec<RegionStore>, RestoreError> {
        let store = |target: &Target| {
            let invalid = |problem| RestoreError::Invalid(format!("target {}: {problem}", target.name));
            target.store.clone().map_err(invalid)
        };
        self.targets.iter().map(store).collect()
    }

    async fn source_content(&self) -> Result<RegionContent, RestoreError> {
        let content = inspect(&self.source, SHARD).await?;
        if let Some(damage) = content.damage.first() {
            let (key, problem) = (damage.key.to_string(), damage.problem.clone());
            return Err(RestoreError::Damaged { key, problem });
        }
        Ok(content)
    }

    /// Journal objects behind a missing one: nobody can tell from this region which of them are committed.
    async fn left_out(&self, content: &RegionContent) -> Result<u64, RestoreError> {
        let journal = self.source.list(Component::Repair, &keys::journal_of(SHARD)).await?;
        let slots = journal.iter().filter_map(|key| keys::parse_journal(SHARD, key));
        let behind = slots.filter(|slot| content.fold.leaves_behind(*slot)).count() as u64;
        if behind == 0 || self.despite_gaps {
            return Ok(behind);
        }
        let key = keys::journal(SHARD, content.fold.at).to_string();
        Err(RestoreError::Gap { key, last: content.accepted(), behind })
    }

    /// Looks at the targets: all are empty, or marked, or have the identity that the mark of another one tells of.
    async fn look(&self, stores: &[RegionStore]) -> Result<Looked, RestoreError> {
        let mut looked = Looked { mark: None, founded: false };
        let mut unmarked = Vec::new();
        for (target, store) in self.targets.iter().zip(stores) {
            let region = target.name.to_string();
            let problem = |problem: String| RestoreError::Other { region: region.clone(), problem };
            let identity = store.get(Component::Repair, &keys::identity()).await?;
            let identity = identity.map(|bytes| RegionIdentity::decode(&bytes));
            let identity = identity.transpose().map_err(|error| problem(error.to_string()))?;
            let Some(bytes) = store.get(Component::Repair, &keys::restoring(SHARD)).await? else {
                let first = store.list_metas(Component::Repair).try_next().await?;
                unmarked.extend(first.map(|meta| (region, identity, meta.location.to_string())));
                continue;
            };
            let mark = Restoring::decode(&bytes).map_err(|error| problem(error.to_string()))?;
            if looked.mark.as_ref().is_some_and(|other| *other != mark) {
                return Err(problem("the targets are marked differently".to_owned()));
            }
            looked.founded |= identity.is_some();
            looked.mark = Some(mark);
        }
        for (region, identity, key) in unmarked {
            let cluster = looked.mark.as_ref().map(|mark| &mark.cluster_id);
            if identity.is_none_or(|identity| Some(&identity.cluster_id) != cluster) {
                return Err(RestoreError::NotEmpty { region, key });
            }
            // Its mark was deleted already.
            looked.founded = true;
        }
        Ok(looked)
    }

    /// The mark of a restore that broke off, if it was this one.
    fn checked(&self, mark: Restoring, identity: &RegionIdentity) -> Result<Restoring, RestoreError> {
        let region = self.targets.first().map_or_else(String::new, |target| target.name.to_string());
        if (&mark.source_cluster_id, &mark.source_region_id) != (&identity.cluster_id, &identity.region_id) {
            let problem = format!("it was restored from a region of cluster {}", mark.source_cluster_id);
            return Err(RestoreError::Other { region, problem });
        }
        let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
        let marked = names(&mut mark.regions.iter().map(|region| region.region.as_str()));
        if marked != names(&mut self.targets.iter().map(|target| target.name.as_str())) {
            return Err(RestoreError::Other { region, problem: format!("the targets were {marked}") });
        }
        Ok(mark)
    }

    fn plan(&self, identity: &RegionIdentity, sequence: Sequence) -> Restoring {
        let regions = (0..).zip(&self.targets).map(|(number, target)| FoundingRegion {
            number,
            region: target.name.to_string(),
            region_id: new_region_id(&self.env),
            url: target.url.clone(),
        });
        Restoring {
            format: 1,
            regions: regions.collect(),
            cluster_id: format!("{:032x}", self.env.entropy.next_u128()),
            source_cluster_id: identity.cluster_id.clone(),
            source_region_id: identity.region_id.clone(),
            sequence: sequence.0,
            write_id: WriteId(self.env.entropy.next_u128()).to_string(),
            created_ms: self.env.clock.now_ms(),
        }
    }

    async fn put_marks(&self, stores: &[RegionStore], mark: &Restoring) -> Result<(), RestoreError> {
        let id = write_id(mark);
        for (target, store) in self.targets.iter().zip(stores) {
            let bytes = mark.encode(id).into();
            if store.create(Component::Repair, &keys::restoring(SHARD), bytes, id).await? == Created::Occupied {
                let problem = "somebody else restores into it at the same time".to_owned();
                return Err(RestoreError::Other { region: target.name.to_string(), problem });
            }
        }
        Ok(())
    }

    /// Writes everything but the identities. Gives the state of the new cluster.
    async fn fill(
        &self,
        stores: &[RegionStore],
        content: &RegionContent,
        source: &ShardState,
        wanted: &Wanted,
        mark: &Restoring,
    ) -> Result<ShardState, RestoreError> {
        let bytes = wanted.files.values().map(|file| file.file.bytes).sum::<u64>()
            + wanted.entries.values().map(|runs| body_bytes(runs)).sum::<u64>();
        // Once to copy it, once to compare it, in the source and in each target.
        self.reading.progress.expect(bytes * (2 + stores.len() as u64));
        let copying = Copying {
            reading: &self.reading,
            source: &self.source,
            content,
            wanted,
            targets: stores.to_vec(),
            clusters: (&mark.source_cluster_id, &mark.cluster_id),
        };
        self.reading.progress.begin("copying archive files");
        let checksums = copying.files().await?;
        self.reading.progress.begin("copying entries");
        copying.entries().await?;
        let state = source.clone().restored(regions_of(mark), &checksums);
        let id = write_id(mark);
        let snapshot = SnapshotRef { id, sequence: state.applied };
        let (key, bytes) = (keys::snapshot(SHARD, state.applied, id), encode_snapshot(&state, id));
        let floor = Floor {
            k: 1,
            slot: Slot::first(Ballot::BOOTSTRAP),
            parent: Slot::default(),
            promised: Ballot::BOOTSTRAP,
            snapshot,
            extents: vec![Extent { first: Sequence(1), ballot: Ballot::BOOTSTRAP, origin: 0 }],
            voters: state.regions.voters().cloned(),
            marks: Vec::new(),
            leader: None,
            // Only entries whose batches are referenced are there.
            truncated: state.applied,
        };
        for store in stores {
            store.create(Component::Repair, &key, bytes.clone().into(), id).await?;
            store.create(Component::Repair, &keys::floor(SHARD, 1), floor.encode(id).into(), id).await?;
        }
        Ok(state)
    }

    /// Reads source and targets again, and compares what they hold.
    async fn compare(
        &self,
        stores: &[RegionStore],
        content: RegionContent,
        source: ShardState,
        state: ShardState,
        mark: &Restoring,
        identity: &RegionIdentity,
    ) -> Result<Vec<RestoredPartition>, RestoreError> {
        let number = RegionNo(identity.number);
        let name = RegionName::new(&identity.region).map_err(|error| RestoreError::Source(error.to_string()))?;
        let record = RegionRecord { number, name, region_id: identity.region_id.clone(), url: String::new() };
        // Whatever the index says of who holds which file: this region must hold them all.
        let source = source.restored(Regions::founded([record.clone()]), &BTreeMap::new());
        let expected = self.held(source, &self.source, &record, content, &identity.cluster_id).await?;
        if let Some((piece, problem)) = expected.suspects.first_key_value() {
            let problem = problem.text.clone();
            return Err(RestoreError::Damaged { key: format!("{piece:?}"), problem });
        }
        for (record, store) in regions_of(mark).iter().zip(stores) {
            let differs = |problem: String| RestoreError::Differs { region: record.name.to_string(), problem };
            let content = inspect(store, SHARD).await?;
            if let Some(damage) = content.damage.first() {
                return Err(differs(format!("object {}: {}", damage.key, damage.problem)));
            }
            if content.state_at(state.applied).as_ref() != Some(&state) {
                return Err(differs("its state is another one".to_owned()));
            }
            let held = self.held(state.clone(), store, record, content, &mark.cluster_id).await?;
            if let Some((piece, problem)) = held.suspects.first_key_value() {
                return Err(differs(format!("{piece:?}: {}", problem.text)));
            }
            if held.held != expected.held {
                return Err(differs("it holds other messages".to_owned()));
            }
        }
        Ok(reports(&state, &expected.held))
    }

    /// What a region holds of a state.
    async fn held(
        &self,
        state: ShardState,
        store: &RegionStore,
        record: &RegionRecord,
        content: RegionContent,
        cluster_id: &str,
    ) -> Result<Verified, RestoreError> {
        let sight = Arc::new(Sight {
            target: 0,
            name: record.name.clone(),
            number: record.number,
            region_id: record.region_id.clone(),
            store: store.clone(),
            content,
        });
        let scene = Scene {
            shard: SHARD,
            cluster_id: cluster_id.to_owned(),
            sights: vec![sight.clone()],
            wanted: Wanted::of(&state),
            state,
            unread: Vec::new(),
            findings: Vec::new(),
        };
        let verifying = Verifying {
            scene: &scene,
            sight: &sight,
            listing: &Listing::default(),
            reading: &self.reading,
            done: &Mutex::new(Done::default()),
            concurrency: 8,
        };
        Ok(verifying.run().await?)
    }

    /// Writes the identities, the deciding one first, and deletes the marks.
    async fn found(&self, stores: &[RegionStore], mark: &Restoring) -> Result<(), RestoreError> {
        for (region, store) in mark.regions.iter().zip(stores) {
            let identity = RegionIdentity {
                region_id: region.region_id.clone(),
                cluster_id: mark.cluster_id.clone(),
                region: region.region.clone(),
                number: region.number,
                voters: mark.regions.clone(),
                founders: Vec::new(),
                format: 1,
                created_ms: mark.created_ms,
            };
            let id = WriteId(u128::from_str_radix(&region.region_id, 16).unwrap_or_default());
            let created = store.create(Component::Cluster, &keys::identity(), identity.encode(id).into(), id).await?;
            if created == Created::Occupied {
                let (region, key) = (region.region.clone(), keys::identity().to_string());
                return Err(RestoreError::NotEmpty { region, key });
            }
        }
        let key = keys::restoring(SHARD);
        try_join_all(stores.iter().map(|store| store.delete(Component::Repair, &key))).await?;
        Ok(())
    }
}

fn write_id(mark: &Restoring) -> WriteId {
    // Whoever decodes a mark checks that this is a number.
    mark.write_id().unwrap_or(WriteId(0))
}

/// The regions of the new cluster. Their names were checked when they were given.
fn regions_of(mark: &Restoring) -> Regions {
    let records = mark.regions.iter().filter_map(|region| {
        let (number, region_id) = (RegionNo(region.number), region.region_id.clone());
        Some(RegionRecord { number, name: RegionName::new(&region.region).ok()?, url: region.url.clone(), region_id })
    });
    Regions::founded(records)
}

fn reports(state: &ShardState, held: &BTreeMap<(TopicId, Partition), Held>) -> Vec<RestoredPartition> {
    let mut reports = Vec::new();
    for topic in state.topics_by_name(None) {
        for (number, log) in (0..).zip(&topic.partitions) {
            let found = held.get(&(topic.id, Partition(number))).copied().unwrap_or_default();
            reports.push(RestoredPartition {
                topic: topic.name.to_string(),
                partition: number,
                log_start: log.log_start.0,
                high_watermark: log.high_watermark.0,
                messages: found.messages,
                set_hash: format!("{:032x}", found.hash.0),
            });
        }
    }
    reports
}
