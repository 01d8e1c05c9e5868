//! All regions at one moment: which of them are the cluster's, what is committed, and what each should hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use brigade_index::{
    archive::ArchiveFile,
    format::Value,
    ids::{Ballot, FileId, Partition, RegionNo, Sequence, ShardId, TopicId},
    journal::Accepted,
    keys::{self, Key},
    names::{RegionName, TopicName},
    region::RegionSet,
    shard::inspect::{RegionContent, check_snapshot, inspect},
    state::{Run, ShardState},
    store::{Component, RegionStore},
};
use futures::future::join_all;

use super::report::{Code, Finding, Severity};

/// A region that is to be looked at.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: RegionName,
    /// Its URL, without secrets.
    pub url: String,
    /// Its store; what is wrong when it cannot be opened.
    pub store: Result<RegionStore, String>,
}

/// A region of the cluster that could be read.
pub(crate) struct Sight {
    /// Which of the targets it is.
    pub(crate) target: usize,
    pub(crate) name: RegionName,
    pub(crate) number: RegionNo,
    pub(crate) region_id: String,
    pub(crate) store: RegionStore,
    pub(crate) content: RegionContent,
}

/// Messages of an entry that the state refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunRef {
    pub(crate) topic: TopicId,
    pub(crate) partition: Partition,
    pub(crate) run: Run,
}

/// An archive file that the state refers to.
#[derive(Clone, Debug)]
pub(crate) struct FileRef {
    pub(crate) name: TopicName,
    pub(crate) topic: TopicId,
    pub(crate) partition: Partition,
    pub(crate) file: ArchiveFile,
}

impl FileRef {
    pub(crate) fn key(&self) -> Key {
        self.file.key(&self.name, self.topic, self.partition)
    }
}

/// What the state refers to.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Runs by entry. An entry of a prepared transaction has none.
    pub(crate) entries: BTreeMap<Sequence, Vec<RunRef>>,
    pub(crate) files: BTreeMap<FileId, FileRef>,
}

impl Wanted {
    pub(crate) fn of(state: &ShardState) -> Self {
        let mut wanted = Self::default();
        wanted.entries.extend(state.transactions.prepared().values().map(|prepared| (prepared.sequence, Vec::new())));
        for topic in state.topics() {
            for (number, log) in (0..).zip(&topic.partitions) {
                let partition = Partition(number);
                for run in log.runs() {
                    let of = RunRef { topic: topic.id, partition, run: *run };
                    wanted.entries.entry(run.batch.sequence).or_default().push(of);
                }
                let file = |file: &ArchiveFile| {
                    let (name, topic) = (topic.name.clone(), topic.id);
                    (file.id, FileRef { name, topic, partition, file: file.clone() })
                };
                wanted.files.extend(log.files().iter().map(file));
            }
        }
        wanted
    }
}

/// All regions at one moment.
pub(crate) struct Scene {
    pub(crate) shard: ShardId,
    pub(crate) cluster_id: String,
    pub(crate) sights: Vec<Arc<Sight>>,
    /// The state after the last entry that is known to be committed.
    pub(crate) state: ShardState,
    pub(crate) wanted: Wanted,
    /// Regions that vote and were not read.
    pub(crate) unread: Vec<RegionName>,
    pub(crate) findings: Vec<Finding>,
}

/// No region could be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no region of a cluster can be read: {0}")]
pub struct NothingToSee(pub String);

const REPLACE: &str = "brigade region replace NAME NEW=URL puts a new region in its place";

/// Looks at all regions.
///
/// # Errors
/// When no region gives a state.
pub(crate) async fn look(targets: &[Target], shard: ShardId) -> Result<Scene, NothingToSee> {
    let mut findings = Vec::new();
    let contents = join_all(targets.iter().map(|target| async {
        let store = target.store.as_ref().map_err(Clone::clone)?;
        inspect(store, shard).await.map_err(|error| error.to_string())
    }));
    let mut sights = Vec::new();
    for (number, (target, content)) in targets.iter().zip(contents.await).enumerate() {
        match content.and_then(|content| sight(number, target, content)) {
            Ok(Ok(sight)) => sights.push(sight),
            Ok(Err(finding)) => findings.push(*finding),
            Err(problem) => {
                let hint = "it was not looked at; make it reachable and scrub again";
                let code = Code::RegionUnreadable;
                findings.push(Finding::region(code, Severity::Error, target.name.as_str(), problem, hint));
            }
        }
    }
    let cluster_id = majority(&mut sights, &mut findings);
    fetch_snapshots(&mut sights, shard).await;
    let Some(state) = committed(&sights) else {
        let problems: Vec<_> =
            findings.iter().map(|finding| format!("region {}: {}", finding.region, finding.problem)).collect();
        let damage = sights.iter().flat_map(|sight| {
            let of = |damage: &brigade_index::shard::inspect::Damage| {
                format!("region {}: object {}: {}", sight.name, damage.key, damage.problem)
            };
            sight.content.damage.iter().map(of).collect::<Vec<_>>()
        });
        return Err(NothingToSee(problems.into_iter().chain(damage).collect::<Vec<_>>().join("; ")));
    };
    retain_members(&state, &mut sights, &mut findings);
    let mut unread = Vec::new();
    for record in state.regions.iter().filter(|record| !sights.iter().any(|sight| sight.number == record.number)) {
        unread.push(record.name.clone());
        if !targets.iter().any(|target| target.name == record.name) {
            let problem = "it is a region of the cluster, and was not named";
            let hint = "name all regions to compare them";
            findings.push(Finding::region(Code::RegionNotNamed, Severity::Info, record.name.as_str(), problem, hint));
        }
    }
    let wanted = Wanted::of(&state);
    let sights = sights.into_iter().map(Arc::new).collect();
    Ok(Scene { shard, cluster_id, sights, state, wanted, unread, findings })
}

/// A region whose identity bears its name.
fn sight(number: usize, target: &Target, content: RegionContent) -> Result<Result<Sight, Box<Finding>>, String> {
    let name = target.name.as_str();
    let store = target.store.clone()?;
    let Some(identity) = content.identity.clone() else {
        let problem = "it has no identity: it was wiped, or never was a region";
        return Ok(Err(Box::new(Finding::region(Code::MissingIdentity, Severity::Error, name, problem, REPLACE))));
    };
    if identity.region != name {
        let problem = format!("its store is region {} of cluster {}", identity.region, identity.cluster_id);
        let hint = "name every region with its own store";
        return Ok(Err(Box::new(Finding::region(Code::WrongRegion, Severity::Error, name, problem, hint))));
    }
    let (number_of_region, region_id) = (RegionNo(identity.number), identity.region_id);
    let name = target.name.clone();
    Ok(Ok(Sight { target: number, name, number: number_of_region, region_id, store, content }))
}

fn cluster_of(sight: &Sight) -> &str {
    sight.content.identity.as_ref().map_or("", |identity| &identity.cluster_id)
}

/// Keeps the regions of the cluster that most belong to, of equals the first.
fn majority(sights: &mut Vec<Sight>, findings: &mut Vec<Finding>) -> String {
    let count = |id: &str| sights.iter().filter(|sight| cluster_of(sight) == id).count();
    // The first of equals.
    let best = sights.iter().rev().max_by_key(|sight| count(cluster_of(sight)));
    let cluster_id = best.map(|sight| cluster_of(sight).to_owned()).unwrap_or_default();
    sights.retain(|sight| {
        let native = cluster_of(sight) == cluster_id;
        if !native {
            let problem = format!("it belongs to cluster {}, the others to {cluster_id}", cluster_of(sight));
            let hint = "name only regions of one cluster";
            findings.push(Finding::region(Code::WrongRegion, Severity::Error, sight.name.as_str(), problem, hint));
        }
        native
    });
    cluster_id
}

/// Drops regions that the cluster does not have any more.
fn retain_members(state: &ShardState, sights: &mut Vec<Sight>, findings: &mut Vec<Finding>) {
    sights.retain(|sight| {
        let record = state.regions.get(sight.number);
        if record.is_some_and(|record| record.region_id == sight.region_id) {
            return true;
        }
        let problem = match record {
            Some(record) => format!("its identity is {}, and should be {}", sight.region_id, record.region_id),
            None => "the cluster does not have it any more".to_owned(),
        };
        let code = if record.is_some() { Code::WrongRegion } else { Code::RetiredRegion };
        let hint = "nothing in it counts; leave it out";
        findings.push(Finding::region(code, Severity::Error, sight.name.as_str(), problem, hint));
        false
    });
}

/// A region whose snapshot is missing or damaged is read with that of another one, which is the same.
async fn fetch_snapshots(sights: &mut [Sight], shard: ShardId) {
    let stores: Vec<_> = sights.iter().map(|sight| sight.store.clone()).collect();
    for sight in sights.iter_mut().filter(|sight| !sight.content.has_state()) {
        let Some(snapshot) = sight.content.fold.snapshot.clone() else { continue };
        let key = keys::snapshot(shard, snapshot.sequence, snapshot.id);
        for store in &stores {
            let Ok(Some(bytes)) = store.get(Component::Repair, &key).await else { continue };
            if let Ok(state) = check_snapshot(&bytes, &snapshot) {
                sight.content.set_base(state);
                break;
            }
        }
    }
}

/// The copy of an entry that is committed above all marks: the one that a majority of the voters has accepted under one
/// ballot. Whoever leads next cannot but keep it.
fn chosen<'a>(sights: &'a [Sight], voters: &RegionSet, sequence: Sequence) -> Option<&'a Accepted> {
    let mut copies: BTreeMap<Ballot, (usize, &Accepted)> = BTreeMap::new();
    for sight in sights.iter().filter(|sight| voters.contains(sight.number)) {
        if let Some(accepted) = sight.content.fold.log.get(&sequence) {
            copies.entry(accepted.ballot).or_insert((0, accepted)).0 += 1;
        }
    }
    copies.into_values().find(|(count, _)| *count >= voters.quorum()).map(|(_, accepted)| accepted)
}

/// The state after the last entry that is known to be committed: by the highest mark, or because a majority has it.
fn committed(sights: &[Sight]) -> Option<ShardState> {
    let states = sights.iter().filter_map(|sight| {
        let mark = sight.content.fold.committed.min(sight.content.accepted());
        sight.content.state_at(mark)
    });
    let mut state = states.max_by_key(|state| state.applied)?;
    let voters = state.regions.voters()?.clone();
    loop {
        let next = state.applied.next();
        let Some(accepted) = chosen(sights, &voters, next) else { return Some(state) };
        let Ok(value) = Value::decode(&accepted.section) else { return Some(state) };
        // Behind a change of the voters others would have to be asked.
        let changes = accepted.voters.is_some();
        state.apply(&value, next, accepted.body_at);
        if changes {
            return Some(state);
        }
    }
}

impl Scene {
    /// Whether every region of the cluster was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.unread.is_empty()
    }

    /// Entries that a region should have whole: those whose batches are referenced, and those that recovery would read.
    pub(crate) fn entries_of(&self, sight: &Sight) -> BTreeSet<Sequence> {
        let accepted = sight.content.accepted();
        let referenced = self.wanted.entries.range(..=accepted).map(|(sequence, _)| *sequence);
        referenced.chain(sight.content.fold.log.keys().copied()).collect()
    }

    /// Files that a region is known to hold.
    pub(crate) fn files_of(&self, sight: &Sight) -> impl Iterator<Item = &FileRef> {
        let number = sight.number;
        self.wanted.files.values().filter(move |file| file.file.regions.contains(&number))
    }
}
