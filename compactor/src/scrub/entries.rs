//! Reading entries whole: their batches are decoded, and their messages hashed.

use std::{sync::Arc, time::Duration};

use brigade_index::{
    archive::SetHash,
    batch,
    format::checksum,
    ids::Sequence,
    keys::Key,
    shard::inspect::check_entry,
    store::{Component, RegionStore, StoreError},
};
use bytes::Bytes;
use tokio::{task::yield_now, time::sleep};

use super::scene::RunRef;
use crate::budget::Budget;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) missing: bool,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn missing() -> Self {
        Self { missing: true, text: "it does not exist".to_owned() }
    }

    pub(crate) fn corrupt(text: impl ToString) -> Self {
        Self { missing: false, text: text.to_string() }
    }
}

/// An object was looked at: it is whole, or something is wrong with it.
pub(crate) type Checked<T> = Result<Result<T, Problem>, StoreError>;

/// What reading needs.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) budget: Budget,
    pub(crate) progress: Arc<super::Progress>,
}

impl Reading {
    /// Bytes `range` of an object, within the budget.
    pub(crate) async fn range(
        &self,
        store: &RegionStore,
        key: &Key,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.budget.take(range.end.saturating_sub(range.start)).await;
        let bytes = store.get_range(Component::Repair, key, range).await?;
        self.progress.moved(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(bytes)
    }

    /// A whole object, which has about `about` bytes, within the budget.
    pub(crate) async fn whole(&self, store: &RegionStore, key: &Key, about: u64) -> Result<Option<Bytes>, StoreError> {
        self.budget.take(about).await;
        let bytes = store.get(Component::Repair, key).await?;
        if let Some(bytes) = &bytes {
            self.progress.moved(bytes.len() as u64);
            self.budget.take((bytes.len() as u64).saturating_sub(about)).await;
        }
        Ok(bytes)
    }
}

/// Pause before bytes that seem damaged are read once more: an answer may be altered on its way.
const AGAIN: Duration = Duration::from_millis(50);

/// Reads the object of an entry and checks it and the runs in it, which are the index's; gives the hash of each run.
///
/// # Errors
/// When the store gives no good answer.
pub(crate) async fn check(
    reading: &Reading,
    store: &RegionStore,
    key: &Key,
    (sequence, runs): (Sequence, &[RunRef]),
) -> Checked<Vec<SetHash>> {
    let about = body_bytes(runs);
    let mut checked = read(reading, store, key, (sequence, runs), about).await?;
    if checked.as_ref().is_err_and(|problem| !problem.missing) {
        sleep(AGAIN).await;
        checked = read(reading, store, key, (sequence, runs), about).await?;
    }
    Ok(checked)
}

async fn read(
    reading: &Reading,
    store: &RegionStore,
    key: &Key,
    (sequence, runs): (Sequence, &[RunRef]),
    about: u64,
) -> Checked<Vec<SetHash>> {
    let Some(bytes) = reading.whole(store, key, about).await? else { return Ok(Err(Problem::missing())) };
    if let Err(error) = check_entry(&bytes, sequence) {
        return Ok(Err(Problem::corrupt(error)));
    }
    hashes(&bytes, runs).await
}

/// Bytes of the batches that these runs are of.
pub(crate) fn body_bytes(runs: &[RunRef]) -> u64 {
    let mut last = None;
    let batches = runs.iter().filter(|run| last.replace(run.run.batch) != Some(run.run.batch));
    batches.map(|run| u64::from(run.run.batch.len)).sum()
}

/// Hashes the messages of these runs out of the bytes of an object.
pub(crate) async fn hashes(bytes: &Bytes, runs: &[RunRef]) -> Checked<Vec<SetHash>> {
    let mut found = Vec::with_capacity(runs.len());
    let mut decoded = None;
    let mut scratch = Vec::new();
    for RunRef { partition, run, .. } in runs {
        if decoded.as_ref().is_none_or(|(of, _)| *of != run.batch) {
            let at = usize::try_from(run.batch.at).unwrap_or(usize::MAX);
            let slice = bytes.get(at..at.saturating_add(run.batch.len as usize)).map(|found| bytes.slice_ref(found));
            let Some(slice) = slice.filter(|slice| checksum(slice) == run.batch.crc) else {
                return Ok(Err(Problem::corrupt("a batch in it is not the one that the index knows")));
            };
            match batch::decode(&slice) {
                Ok(messages) => decoded = Some((run.batch, messages)),
                Err(error) => return Ok(Err(Problem::corrupt(error))),
            }
            yield_now().await;
        }
        let Some((_, messages)) = &decoded else { continue };
        let (first, rows) = (run.first_row as usize, run.rows as usize);
        if first + rows > messages.rows() {
            return Ok(Err(Problem::corrupt("a batch in it has fewer messages than the index knows")));
        }
        let hash = (0..rows).fold(SetHash::default(), |sum, row| {
            let offset = run.base.plus(row as u64);
            sum.and(SetHash::of(messages, first + row, *partition, offset, &mut scratch))
        });
        found.push(hash);
    }
    Ok(Ok(found))
}
