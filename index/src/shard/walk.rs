//! Walking one region's path with a store: what a [`Candidate`] wants, carried out.

use object_store::PutPayload;

use super::{
    StartError,
    path::{PathReader, newest_floor},
};
use crate::{
    format::{Floor, Leader, Record},
    founding,
    ids::{RegionNo, ShardId, WriteId},
    journal::{Abandoned, Candidate, FoldError, Promise, Want},
    keys::{self, Slot},
    region::RegionRecord,
    store::{Component, Created, RegionStore},
};

/// A region's path in its store, read ahead.
pub(super) struct Walk {
    pub(super) region: RegionNo,
    record: RegionRecord,
    cluster_id: String,
    pub(super) shard: ShardId,
    pub(super) store: RegionStore,
    reader: PathReader,
    /// Whether the store was found to be the region's own.
    verified: bool,
}

/// What a want gave.
pub(super) enum Answer {
    Floor(Option<Floor>),
    Object(Slot, Option<Record>),
    Put(bool),
    Nothing,
}

impl Walk {
    pub(super) fn new(record: &RegionRecord, cluster_id: &str, shard: ShardId, store: RegionStore) -> Self {
        let (record, cluster_id, reader) =
            (record.clone(), cluster_id.to_owned(), PathReader::new(shard, store.clone()));
        Self { region: record.number, record, cluster_id, shard, store, reader, verified: false }
    }

    async fn verify(&mut self) -> Result<(), StartError> {
        founding::verify(&self.record, &self.cluster_id, &self.store).await.map_err(Box::new)?;
        self.verified = true;
        Ok(())
    }

    /// Carries out what is wanted. `leader` and `id` go into the Takeover: the same bytes at every attempt at one slot.
    pub(super) async fn perform(&mut self, want: Want, leader: &Leader, id: WriteId) -> Result<Answer, StartError> {
        match want {
            Want::Floor => {
                // What is not there any more must not pass for the beginning of a path.
                if !self.verified {
                    self.verify().await?;
                }
                Ok(Answer::Floor(newest_floor(self.shard, &self.store).await?))
            }
            Want::Object(slot) => Ok(Answer::Object(slot, self.reader.read(slot).await?)),
            Want::Put { slot, parent, ballot } => {
                // The node may have joined the region long ago: a store that was wiped or exchanged since then has nothing to
                // promise, and must not be written to.
                self.verify().await?;
                let bytes: PutPayload = leader.takeover(ballot, parent, id).into();
                let key = keys::journal(self.shard, slot);
                self.reader.forget();
                let created = self.store.create(Component::Journal, &key, bytes, id).await?;
                Ok(Answer::Put(created == Created::Landed))
            }
            Want::Rest | Want::Promised | Want::Void => Ok(Answer::Nothing),
        }
    }

    /// Forgets what was read ahead.
    pub(super) fn forget(&mut self) {
        self.reader.forget();
    }

    pub(super) fn off_path(&self, slot: Slot, error: &FoldError) -> StartError {
        let key = keys::journal(self.shard, slot);
        StartError::Damaged {
            region: self.store.region().to_string(),
            key: key.to_string(),
            problem: error.to_string(),
        }
    }
}

/// How a region that was to promise ended up.
pub(super) enum Promised {
    /// It has promised.
    Yes(Box<Promise>),
    /// A higher ballot has taken it.
    Abandoned(Abandoned),
    /// Its floor moved in between; in this reign it cannot promise any more.
    Void,
}

/// Carries a candidate that stands through to its end in one region. A step that fails may be tried again with the same
/// candidate.
pub(super) async fn promise(
    walk: &mut Walk,
    candidate: &mut Candidate,
    leader: &Leader,
) -> Result<Promised, StartError> {
    loop {
        let want = candidate.want();
        match want {
            Want::Promised => {
                let fold = candidate.promise().cloned().unwrap_or_default();
                return Ok(Promised::Yes(Box::new(Promise { fold, floor: candidate.floor_number() })));
            }
            Want::Void | Want::Rest => return Ok(Promised::Void),
            _ => {}
        }
        match walk.perform(want, leader, candidate.id()).await? {
            Answer::Floor(floor) => candidate.floor(floor.as_ref()),
            Answer::Put(landed) => candidate.put(landed),
            Answer::Object(slot, record) => match candidate.object(record.as_ref()) {
                Ok(Ok(())) => {}
                Ok(Err(abandoned)) => return Ok(Promised::Abandoned(abandoned)),
                Err(error) => {
                    let error = walk.off_path(slot, &error);
                    walk.forget();
                    candidate.restart();
                    return Err(error);
                }
            },
            Answer::Nothing => {}
        }
    }
}
