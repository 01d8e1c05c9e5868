//! From a won election to a reign: recover the state, and start the task that leads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    Challenge, ProposeError, Shard, Shared, StartError,
    content::content_of,
    health::{Condition, Health, Role},
    leader::{Content, Leading},
    snapshot,
    view::View,
    waiters::Waiters,
};
use crate::{
    format::{SnapshotRef, Value, decode_snapshot},
    founding::AbsenceKind,
    ids::{Ballot, RegionNo, Sequence},
    journal::{Elected, Election, Merged, Reign, merge},
    keys,
    state::{Regions, ShardState},
    store::Component,
};

/// Proposals that wait for the owner task; admission bounds their bytes.
const INBOX: usize = 1_024;

/// Leads what an election gave.
pub(super) async fn lead(
    challenge: Challenge,
    elected: Elected,
    started: Instant,
    tasks: &TaskTracker,
) -> Result<Shard, StartError> {
    for mark in &elected.backwards {
        let region = challenge.stores.get(&mark.region).map_or_else(String::new, |store| store.region().to_string());
        tracing::error!(region, up_to = %mark.sequence, "a region has lost what it had accepted; it is not used");
    }
    let state = recover(&challenge, &elected.merged).await?;
    let mut again = VecDeque::new();
    for (sequence, region, accepted) in &elected.merged.reappend {
        let store = &challenge.stores[region];
        let (value, entry) = content_of(challenge.config.shard, store, *sequence, accepted).await?;
        again.push_back(Content::unattended(value, entry));
    }
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
    for (region, promise) in &elected.promises {
        leading.joined(*region, promise, challenge.stores[region].clone());
    }
    leading.append_again(again);
    leading.join_the_rest(challenge, &elected);
    tasks.spawn(leading.run());
    first_committed.await.unwrap_or(Err(ProposeError::ShuttingDown))?;
    let took = started.elapsed();
    shared.takeover_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), std::sync::atomic::Ordering::Relaxed);
    Ok(Shard { shared, owner })
}

fn share(challenge: &Challenge, elected: &Elected, reign: &Reign, state: ShardState) -> Arc<Shared> {
    let health = Health::new(reign.sets());
    for record in state.regions.iter() {
        health.set_condition(record, Condition::Joining);
    }
    for absence in &challenge.cluster.absent {
        let Some(record) = absence.number.and_then(|number| state.regions.get(number)) else { continue };
        if absence.kind == AbsenceKind::Refused {
            let (problem, hint) = (absence.problem.clone(), absence.hint.clone());
            health.set_condition(record, Condition::Refused { problem, hint });
        } else {
            health.failed_with(record.number, absence.problem.clone(), absence.hint.clone());
        }
    }
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
        installs: Mutex::default(),
        change: Mutex::new(None),
        snapshot: Mutex::new(snapshot::Progress { sequence: snapshot, bytes: 0 }),
        snapshotting: tokio::sync::Mutex::new(()),
    }
}

/// A handle for reading what one path says is committed, from whichever region has it.
pub(super) async fn read_only(challenge: &Challenge) -> Result<Shard, StartError> {
    let (region, fold) = challenge.best().ok_or(StartError::Missing)?;
    let merged = merge(&[(region, fold)]).ok_or(StartError::Missing)?;
    let state = recover(challenge, &merged).await?;
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
        let view = View::new(record.clone(), store.clone(), fold.extents.clone(), fold.committed, 0);
        views.insert(number, Arc::new(view));
    }
    for absence in &challenge.cluster.absent {
        if let Some(number) = absence.number {
            health.failed_with(number, absence.problem.clone(), absence.hint.clone());
        }
    }
    health.end(Role::Reading(challenge.no_quorum().to_string()));
    let snapshot = merged.snapshot.as_ref().map_or(Sequence(0), |(_, snapshot)| snapshot.sequence);
    let (ballot, started_ms) = (challenge.election.sighted().0, challenge.env.clock.now_ms());
    let shared = shared_of(challenge, ballot, state, health, snapshot, started_ms);
    *shared.views.write() = views;
    let (owner, _nobody) = mpsc::channel(1);
    Ok(Shard { shared: Arc::new(shared), owner })
}

/// The state after all entries that are known to be committed.
async fn recover(challenge: &Challenge, merged: &Merged) -> Result<ShardState, StartError> {
    let founding = Regions::founded(challenge.cluster.founding.iter().cloned());
    let mut state = ShardState::founded(founding.clone());
    if let Some((region, snapshot)) = &merged.snapshot {
        state = read_snapshot(challenge, *region, snapshot).await?;
    }
    if state.regions.voters().is_none() {
        // A snapshot from before regions were counted.
        state.regions = founding;
    }
    for (sequence, region, accepted) in &merged.settled {
        let value = Value::decode(&accepted.section);
        let store = &challenge.stores[region];
        let key = keys::journal(challenge.config.shard, accepted.slot);
        let value = value.map_err(|error| StartError::damaged(store.region(), &key, &error))?;
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
    let mut state = recover(challenge, &merged).await?;
    // Entries that may or may not be committed can only add regions to ask.
    for (sequence, _, accepted) in &merged.reappend {
        if let Ok(value) = Value::decode(&accepted.section) {
            state.apply(&value, *sequence, accepted.body_at);
        }
    }
    Ok(state.regions)
}
