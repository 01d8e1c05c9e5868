//! What the owner task of a reign waits for: appends, looks at what deposed it, regions that join.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{BoxFuture, Either, select};
use object_store::{PutPayload, path::Path};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    content::{Entry, old_entry},
    join::Joined,
    view::View,
};
use crate::{
    format::{Head, Install, Kind, Record, SnapshotRef, encode_snapshot},
    ids::{RegionNo, Sequence, ShardId, WriteId},
    journal::{Append, Promise},
    keys::{self, Slot},
    store::{Component, Created, RegionStore, StoreError},
};

/// Something that has happened to a region.
pub(super) enum Event {
    /// What was appended at this slot is there; so many bytes of it were kept in memory until now.
    Landed(RegionNo, Slot, u64),
    /// Something else is where an append was to go.
    Occupied(RegionNo, Slot),
    /// What is there.
    Met(Met),
    /// A region that was to join has done so, or never will in this reign.
    Joined(RegionNo, Joined),
    /// A snapshot is in a region that is far behind and has promised.
    Installed(RegionNo, Box<Promise>, RegionStore, Install),
    /// No region has an entry any more that this one is to be sent.
    Starved(RegionNo),
    /// Nothing that anybody needs to know.
    Nothing,
}

pub(super) type Happening = BoxFuture<'static, Event>;

/// An object at a slot that the leader wanted or was told of.
pub(super) struct Met {
    pub(super) region: RegionNo,
    pub(super) slot: Slot,
    pub(super) record: Result<Option<Record>, String>,
    /// Whether the store has said that something is there.
    pub(super) occupied: bool,
}

/// Where an append's content comes from.
pub(super) enum Source {
    Memory(Arc<Entry>),
    /// Another region.
    Old(Sequence),
    /// A snapshot of entries up to this one.
    Install(Sequence, Option<Install>),
}

impl Source {
    /// Bytes that wait in memory from the start; of an old entry none, which is read only when its turn comes.
    pub(super) fn bytes(&self) -> u64 {
        if let Self::Memory(entry) = self { entry.bytes() } else { 0 }
    }
}

/// First and longest pause between attempts of an append.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(1_000);

/// An append that has not landed by then is in trouble, whatever the store may say in the end.
const SILENCE: Duration = Duration::from_secs(4);

/// Shortest time after which an append counts as slow, and the time while nothing is known of a region: a local disk does
/// not get faster by being asked twice.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);
/// See [`LEAST_PATIENCE`].
const UNKNOWN_PATIENCE: Duration = Duration::from_millis(500);

/// Puts the same bytes at the same key until it is known what lies there.
pub(super) async fn append(
    shared: Arc<Shared>,
    view: Arc<View>,
    send: Append,
    source: Source,
    stop: CancellationToken,
) -> Event {
    let (region, bytes) = (view.record.number, source.bytes());
    let appended = stop.run_until_cancelled(async {
        let (payload, id) = payload(&shared, &view, &send, source).await?;
        Some(put(&shared, &view, send.slot, payload, id).await)
    });
    match appended.await {
        Some(Some(Created::Landed)) => Event::Landed(region, send.slot, bytes),
        Some(Some(Created::Occupied)) => Event::Occupied(region, send.slot),
        Some(None) => Event::Starved(region),
        None => Event::Nothing,
    }
}

/// What to put; `None` when no region has it any more.
async fn payload(shared: &Shared, view: &View, send: &Append, source: Source) -> Option<(PutPayload, WriteId)> {
    let id = WriteId(shared.env.entropy.next_u128());
    let head = |kind, sequence, body_len| Head {
        kind,
        id,
        ballot: send.slot.ballot,
        parent: send.parent,
        sequence,
        committed: send.committed,
        section_len: 0,
        section_crc: 0,
        body_len,
    };
    let entry = match source {
        Source::Memory(entry) => entry,
        Source::Old(sequence) => Arc::new(read_old(shared, view, sequence).await?),
        Source::Install(sequence, install) => {
            let section = install.map(|install| install.encode()).unwrap_or_default();
            return Some((head(Kind::Install, sequence, 0).encode(&section).into(), id));
        }
    };
    let head = head(Kind::Commit, entry.sequence, entry.body_len()).encode(&entry.section);
    Some((std::iter::once(head.into()).chain(entry.body.iter().cloned()).collect(), id))
}

/// Reads an old entry, however long that takes, unless it has been truncated in every region that had it.
async fn read_old(shared: &Shared, view: &View, sequence: Sequence) -> Option<Entry> {
    let mut pause = RETRY_MIN;
    loop {
        match old_entry(shared, sequence).await {
            Ok(entry) => return Some(entry),
            Err(problem) => {
                if shared.is_truncated(view, sequence).await {
                    return None;
                }
                let hint = "the entry is read from another region as soon as one has it".to_owned();
                if shared.health.failed_with(view.record.number, problem.clone(), hint) {
                    tracing::warn!(region = %view.record.name, problem, "an entry for a region cannot be had yet");
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn put(shared: &Shared, view: &View, slot: Slot, payload: PutPayload, id: WriteId) -> Created {
    let key = keys::journal(shared.id, slot);
    let mut pause = RETRY_MIN;
    loop {
        let mut creating = pin!(put_twice(shared, view, &key, &payload, id));
        let created = match timeout(SILENCE, &mut creating).await {
            Ok(created) => created,
            Err(_) => {
                // The store's own patience is much longer, and so long nobody would know why nothing is committed.
                let problem = format!("no answer to an append for {} s", SILENCE.as_secs());
                let hint = "it goes on by itself when the store answers; check the network and the store".to_owned();
                if shared.health.failed_with(view.record.number, problem.clone(), hint) {
                    tracing::warn!(region = %view.record.name, problem, "an append takes long");
                }
                creating.await
            }
        };
        match created {
            Ok(created) => return created,
            Err(error) => {
                if shared.health.failed(view.record.number, &error) {
                    tracing::warn!(%error, hint = error.hint(), "an append failed; it is tried again until it lands");
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Puts an object, and sends it a second time when it takes longer than usual and the commit waits for this region: with
/// no region to spare, a commit is as slow as the slowest of those that are left. The two carry the same bytes, so that
/// it does not matter which of them lands; a second attempt after a time-out is no different.
async fn put_twice(
    shared: &Shared,
    view: &View,
    key: &Path,
    payload: &PutPayload,
    id: WriteId,
) -> Result<Created, StoreError> {
    let create = || view.store.create(Component::Journal, key, payload.clone(), id);
    if !shared.has_several_regions() {
        return create().await;
    }
    let (started, usual) = (Instant::now(), view.append_time());
    let mut first = pin!(create());
    // One append in four is then sent twice: with a region missing, still fewer requests than with all of them.
    let patience = if usual.is_zero() { UNKNOWN_PATIENCE } else { usual.max(LEAST_PATIENCE) };
    if let Ok(result) = timeout(patience, &mut first).await {
        view.appended(started.elapsed());
        return result;
    }
    // Now, not when it is there: a region that hangs is to be known as slow.
    view.appended(started.elapsed());
    let (mut pause, mut spared) = (patience, false);
    // What comes later waits for this append, too, so it may come to matter after its own entry is committed. A region to
    // spare is trusted once: that it has gone away may not be known yet.
    while !shared.waits_for_commits() || (!spared && shared.has_spare_for(view)) {
        spared |= shared.waits_for_commits();
        if let Ok(result) = timeout(pause, &mut first).await {
            view.appended(started.elapsed());
            return result;
        }
        pause = (pause * 2).min(patience * 8);
    }
    let second = pin!(create());
    match select(first, second).await {
        Either::Left((Ok(created), _)) | Either::Right((Ok(created), _)) => Ok(created),
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(_), other)) => other.await,
    }
}

/// Reads what lies at a slot, until the store answers.
pub(super) fn meet(
    shard: ShardId,
    region: RegionNo,
    store: RegionStore,
    slot: Slot,
    occupied: bool,
    stop: CancellationToken,
) -> Happening {
    Box::pin(async move {
        let key = keys::journal(shard, slot);
        let read = stop.run_until_cancelled(async {
            loop {
                match store.get(Component::Journal, &key).await {
                    Ok(found) => break found,
                    Err(error) => tracing::warn!(%error, "reading what lies at the end of the path"),
                }
                sleep(RETRY_MAX).await;
            }
        });
        let Some(found) = read.await else { return Event::Nothing };
        let record = found.as_ref().map(Record::decode).transpose().map_err(|error| error.to_string());
        Event::Met(Met { region, slot, record, occupied })
    })
}

/// Writes a snapshot of the committed state to a region that is far behind.
pub(super) fn install(shared: Arc<Shared>, region: RegionNo, promise: Box<Promise>, store: RegionStore) -> Happening {
    Box::pin(async move {
        let mut pause = RETRY_MIN;
        loop {
            let id = WriteId(shared.env.entropy.next_u128());
            let (bytes, sequence, voters) = {
                let state = shared.state.read();
                let voters = state.regions.voters().cloned();
                (encode_snapshot(&state, id), state.applied, voters)
            };
            let Some(voters) = voters else { return Event::Nothing };
            // What follows must not be truncated while the snapshot is on its way.
            shared.installing.lock().insert(region, sequence);
            let key = keys::snapshot(shared.id, sequence, id);
            match store.create(Component::Snapshot, &key, bytes.into(), id).await {
                Ok(_) => {
                    let install = Install { snapshot: SnapshotRef { id, sequence }, voters };
                    return Event::Installed(region, promise, store, install);
                }
                Err(error) => {
                    if shared.health.failed(region, &error) {
                        tracing::warn!(%error, "a snapshot for a region was not written; it is tried again");
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    })
}
