//! From a won election to a reign: recover the state, and start the task that leads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    Challenge, ProposeError, Shard, Shared, StartError,
    challenge::PATIENCE,
    content::content_of,
    health::{Condition, Health, RegionHealth, Role},
    leader::{Content, Leading},
    repairs::Repairs,
    snapshot,
    view::View,
    waiters::Waiters,
};
use crate::{
    format::{SnapshotRef, Value, decode_snapshot},
    founding::{Absence, AbsenceKind},
    ids::{Ballot, RegionNo, Sequence},
    journal::{Elected, Election, Merged, Reign, merge},
    keys,
    state::{Regions, ShardState},
    store::Component,
};

/// Proposals that wait for the owner task; admission bounds their bytes.
const INBOX: usize = 1_024;

/// What a reign starts from.
pub(super) struct Recovered {
    state: ShardState,
    /// Entries to be appended again.
    again: VecDeque<Content>,
}

/// A region that does not give what it promised, and why.
pub(super) type Unkept = (RegionNo, StartError);

/// Reads what an election started from.
pub(super) async fn recovered(challenge: &Challenge, elected: &Elected) -> Result<Recovered, Unkept> {
    let state = recover(challenge, &elected.merged).await?;
    let mut again = VecDeque::new();
    for (sequence, region, accepted) in &elected.merged.reappend {
        let content = content_of(challenge.config.shard, &challenge.stores[region], *sequence, accepted).await;
        let (value, entry) = content.map_err(|error| (*region, error))?;
        again.push_back(Content::unattended(value, entry));
    }
    Ok(Recovered { state, again })
}

/// Leads what an election gave.
pub(super) async fn lead(
    challenge: Challenge,
    elected: Elected,
    recovered: Recovered,
    started: Instant,
    tasks: &TaskTracker,
) -> Result<Shard, StartError> {
    for mark in &elected.backwards {
        let region = challenge.stores.get(&mark.region).map_or_else(String::new, |store| store.region().to_string());
        tracing::error!(region, up_to = %mark.sequence, "a region has lost what it had accepted; it is not used");
    }
    let Recovered { state, mut again } = recovered;
    let mut reign = Reign::new(&elected, challenge.config.window);
    for region in elected.promises.keys().filter(|region| state.regions.get(**region).is_none()) {
        // It left the cluster, though this node was told of it.
        reign.leave(*region);
    }
    let shared = share(&challenge, &elected, &reign, state);
    let own = reign.seal(None);
    let value = Value { time_ms: shared.env.clock.now_ms(), marks: reign.marks(), ..Value::default() };
    again.push_back(Content::of(own, value, Vec::new()));
    let (owner, inbox) = mpsc::channel(INBOX);
    let (answer, first_committed) = oneshot::channel();
    let mut leading = Leading::new(shared.clone(), challenge.leader.clone(), reign, inbox, answer);
    leading.note_sources(&elected);
    for (region, promise) in &elected.promises {
        leading.elected(*region, promise, challenge.stores[region].clone());
    }
    leading.append_again(again);
    leading.join_the_rest(challenge, &elected);
    tasks.spawn(leading.run());
    match timeout(PATIENCE, first_committed).await {
        Ok(answer) => answer.unwrap_or(Err(ProposeError::ShuttingDown))?,
        // Regions that promised have gone away. With the last handle the reign ends.
        Err(_) => return Err(unanswered(&shared)),
    }
    let took = started.elapsed();
    shared.takeover_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), std::sync::atomic::Ordering::Relaxed);
    Ok(Shard { shared, owner })
}

/// Too few regions have taken the first entry.
fn unanswered(shared: &Shared) -> StartError {
    let (_, regions) = shared.health.look();
    let problem = |region: RegionHealth| {
        let failing = region.failing?;
        Some((region.record.name, format!("{} ({})", failing.problem, failing.hint)))
    };
    let set = shared.state.read().regions.voters().cloned();
    let (needed, of) = set.map_or((1, 1), |set| (set.quorum(), set.len()));
    StartError::Quorum { needed, of, problems: regions.into_values().filter_map(problem).collect() }
}

/// What is known of regions that could not be joined, by name: a region that was added later is not in every list.
fn note_absent(health: &Health, absent: &[Absence], state: &ShardState) {
    for absence in absent {
        let Some(record) = state.regions.iter().find(|record| record.name == absence.name) else { continue };
        let (problem, hint) = (absence.problem.clone(), absence.hint.clone());
        if absence.kind == AbsenceKind::Refused {
            health.set_condition(record, Condition::Refused { problem, hint });
        } else {
            health.failed_with(record.number, problem, hint);
        }
    }
}

fn share(challenge: &Challenge, elected: &Elected, reign: &Reign, state: ShardState) -> Arc<Shared> {
    let health = Health::new(reign.sets());
    for record in state.regions.iter() {
        health.set_condition(record, Condition::Joining);
    }
    note_absent(&health, &challenge.cluster.absent, &state);
    for mark in &elected.backwards {
        if let Some(record) = state.regions.get(mark.region) {
            let error = StartError::Backwards { region: record.name.to_string(), mark: *mark };
            let hint = format!("replace it: brigade region replace {} NEW=URL, with an empty store", record.name);
            health.set_condition(record, Condition::Refused { problem: error.to_string(), hint });
        }
    }
    let snapshot = elected.merged.snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
    Arc::new(shared_of(challenge, elected.ballot, state, health, snapshot, challenge.env.clock.now_ms()))
}

fn shared_of(
    challenge: &Challenge,
    ballot: Ballot,
    state: ShardState,
    health: Health,
    snapshot: Sequence,
    started_ms: i64,
) -> Shared {
    Shared {
        id: challenge.config.shard,
        ballot,
        leader: challenge.leader.clone(),
        predecessors: challenge.predecessors(),
        cluster_id: challenge.cluster.cluster_id.clone(),
        founders: challenge.cluster.founders.clone(),
        opener: challenge.cluster.opener.clone(),
        env: challenge.env.clone(),
        committed: state.applied.0.into(),
        sealed: state.applied.0.into(),
        in_flight: 0.into(),
        started_ms,
        takeover_ms: 0.into(),
        state: RwLock::new(state),
        waiters: Waiters::default(),
        health,
        views: RwLock::default(),
        history: Mutex::default(),
        met: Mutex::default(),
        change: Mutex::new(None),
        snapshot: Mutex::new(snapshot::Progress { sequence: snapshot, bytes: 0 }),
        snapshotting: tokio::sync::Mutex::new(()),
        basis: Mutex::new(None),
        truncating: tokio::sync::Mutex::new(()),
        installing: Mutex::default(),
        repairs: Repairs::default(),
        replacing: tokio::sync::RwLock::default(),
    }
}

/// A handle for reading what one path says is committed, from whichever region has it.
pub(super) async fn read_only(challenge: &Challenge) -> Result<Shard, StartError> {
    let (region, fold) = challenge.best().ok_or(StartError::Missing)?;
    let merged = merge(&[(region, fold)]).ok_or(StartError::Missing)?;
    let state = recover(challenge, &merged).await.map_err(|(_, error)| error)?;
    let sets = state.regions.voters().cloned().into_iter().collect();
    let health = Health::new(sets);
    let mut views = BTreeMap::new();
    for record in state.regions.iter() {
        let (number, candidate) = (record.number, challenge.election.candidate(record.number));
        let read = candidate.filter(|candidate| candidate.at_end()).zip(challenge.stores.get(&number));
        let Some((candidate, store)) = read else {
            health.set_condition(record, Condition::Joining);
            continue;
        };
        health.set_condition(record, Condition::Joined);
        let fold = candidate.fold();
        let view = View::new(record.clone(), store.clone(), fold.extents.clone(), fold.committed, (0, fold.truncated));
        views.insert(number, Arc::new(view));
    }
    note_absent(&health, &challenge.cluster.absent, &state);
    health.end(Role::Reading(challenge.no_quorum().to_string()));
    let snapshot = merged.snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
    let (ballot, started_ms) = (challenge.election.sighted().0, challenge.env.clock.now_ms());
    let shared = shared_of(challenge, ballot, state, health, snapshot, started_ms);
    *shared.views.write() = views;
    let (owner, _nobody) = mpsc::channel(1);
    Ok(Shard { shared: Arc::new(shared), owner })
}

/// The state after all entries that are known to be committed.
async fn recover(challenge: &Challenge, merged: &Merged) -> Result<ShardState, Unkept> {
    let founding = Regions::founded(challenge.cluster.founders.iter().cloned());
    let mut state = ShardState::founded(founding.clone());
    if let Some((region, snapshot)) = &merged.snapshot {
        state = read_snapshot(challenge, *region, snapshot).await.map_err(|error| (*region, error))?;
    }
    if state.regions.voters().is_none() {
        // A snapshot from before regions were counted.
        state.regions = founding;
    }
    for (sequence, region, accepted) in &merged.settled {
        let value = Value::decode(&accepted.section);
        let store = &challenge.stores[region];
        let key = keys::journal(challenge.config.shard, accepted.slot);
        let value = value.map_err(|error| (*region, StartError::damaged(store.region(), &key, &error)))?;
        state.apply(&value, *sequence, accepted.body_at);
    }
    Ok(state)
}

/// Reads a snapshot from the region that it was found in, or else from any that has it.
async fn read_snapshot(
    challenge: &Challenge,
    region: RegionNo,
    snapshot: &SnapshotRef,
) -> Result<ShardState, StartError> {
    let key = keys::snapshot(challenge.config.shard, snapshot.sequence, snapshot.id);
    let others = challenge.stores.keys().copied().filter(|other| *other != region);
    let mut last = None;
    for region in std::iter::once(region).chain(others) {
        let store = &challenge.stores[&region];
        let read = match store.get(Component::Snapshot, &key).await {
            Ok(Some(bytes)) => {
                decode_snapshot(&bytes).map_err(|error| StartError::damaged(store.region(), &key, &error))
            }
            Ok(None) => Err(StartError::missing(store.region(), &key)),
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(state) => return Ok(state),
            Err(error) => {
                tracing::warn!(%error, "a snapshot cannot be read here");
                last = last.or(Some(error));
            }
        }
    }
    Err(last.unwrap_or(StartError::Missing))
}

/// The regions by what an election has read so far: for finding one that this node was not told of.
pub(super) async fn known_regions(challenge: &Challenge, election: &Election) -> Result<Regions, StartError> {
    let read = challenge.stores.keys().filter_map(|region| {
        let candidate = election.candidate(*region)?;
        candidate.at_end().then(|| (*region, candidate.fold()))
    });
    let read: Vec<_> = read.collect();
    let merged = merge(&read).ok_or(StartError::Missing)?;
    let mut state = recover(challenge, &merged).await.map_err(|(_, error)| error)?;
    // Entries that may or may not be committed can only add regions to ask.
    for (sequence, _, accepted) in &merged.reappend {
        if let Ok(value) = Value::decode(&accepted.section) {
            state.apply(&value, *sequence, accepted.body_at);
        }
    }
    Ok(state.regions)
}
