//! An archive file on its way to every region.

use std::{collections::VecDeque, fmt, time::Duration};

use brigade_index::{
    ids::RegionNo,
    keys::Key,
    shard::{RegionHandle, Shard},
    store::{Component, StoreError, Upload},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use object_store::PutPayload;
use tokio::time::{Instant, timeout_at};

use super::{JobContext, JobError};
use crate::metrics::JobKind;

/// How long regions that are slower than a quorum are waited for. What they miss is repaired later.
const GRACE: Duration = Duration::from_secs(5);

/// A file that is written to every region that can be reached: in one request each if it is held whole, else in parts, of
/// which not more than one is held for long.
pub struct Outgoing {
    context: JobContext,
    kind: JobKind,
    key: Key,
    held: VecDeque<Bytes>,
    held_bytes: usize,
    sent: u64,
    /// Once it goes in parts: the regions that took all of them so far.
    uploads: Option<Vec<(RegionHandle, Upload)>>,
    /// What those said that are left out.
    problems: Vec<String>,
}

impl Outgoing {
    pub(super) fn new(context: JobContext, kind: JobKind, key: Key) -> Self {
        let (held, problems) = (VecDeque::new(), Vec::new());
        Self { context, kind, key, held, held_bytes: 0, sent: 0, uploads: None, problems }
    }

    /// Takes bytes of the file, in their order. Nothing is sent yet.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len();
            self.held.push_back(bytes);
        }
    }

    /// Bytes held in memory.
    pub fn memory(&self) -> usize {
        self.held_bytes
    }

    /// Sends what is held in parts, as many as are full: for files that are not to be held whole.
    ///
    /// # Errors
    /// When too few regions are left that took everything.
    pub async fn spill(&mut self) -> Result<(), JobError> {
        let part = self.context.part_bytes;
        while self.held_bytes >= part {
            self.send_part(part).await?;
        }
        Ok(())
    }

    /// Sends the rest. Gives the regions that have the file then, ascending; a majority of those that vote is among them.
    ///
    /// # Errors
    /// When there are too few of them.
    pub async fn finish(mut self) -> Result<Vec<RegionNo>, JobError> {
        let total = self.sent + self.held_bytes as u64;
        let stored = if self.uploads.is_some() {
            if self.held_bytes > 0
                && let Err(error) = self.send_part(self.held_bytes).await
            {
                self.abort().await;
                return Err(error);
            }
            self.complete().await
        } else {
            self.put_whole().await
        };
        self.check(&stored)?;
        self.context.metrics.written(self.kind, total);
        let mut numbers: Vec<_> = stored.iter().map(|region| region.record.number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Forgets the file. One that is dropped instead leaves parts to the stores, which forget them after a while.
    pub async fn abort(self) {
        join_all(self.uploads.into_iter().flatten().map(|(_, upload)| upload.abort())).await;
    }

    /// Takes the first `size` bytes of what is held, as one piece.
    fn cut(&mut self, size: usize) -> Bytes {
        self.held_bytes -= size;
        let mut cut = BytesMut::new();
        while let Some(mut piece) = self.held.pop_front() {
            let head = piece.split_to(piece.len().min(size - cut.len()));
            if !piece.is_empty() {
                self.held.push_front(piece);
            }
            if head.len() == size {
                return head;
            }
            cut.reserve(size - cut.len());
            cut.extend_from_slice(&head);
            if cut.len() == size {
                break;
            }
        }
        cut.freeze()
    }

    async fn send_part(&mut self, size: usize) -> Result<(), JobError> {
        let uploads = match self.uploads.take() {
            Some(uploads) => uploads,
            None => self.begin().await,
        };
        let part = self.cut(size);
        self.sent += size as u64;
        let (context, kind) = (&self.context, self.kind);
        let sending = uploads.into_iter().map(|(region, mut upload)| {
            let part = part.clone();
            async move {
                context.budget.take(size as u64).await;
                match upload.part(part).await {
                    Ok(()) => {
                        context.metrics.uploaded(kind, size as u64);
                        Ok((region, upload))
                    }
                    Err(error) => {
                        upload.abort().await;
                        Err(error)
                    }
                }
            }
        });
        let mut left = Vec::new();
        for result in join_all(sending).await {
            match result {
                Ok(taken) => left.push(taken),
                Err(error) => self.leave_out(&error),
            }
        }
        let regions: Vec<_> = left.iter().map(|(region, _)| region.clone()).collect();
        let enough = self.check(&regions);
        self.uploads = Some(left);
        enough
    }

    /// Begins the file in every region.
    async fn begin(&mut self) -> Vec<(RegionHandle, Upload)> {
        let key = &self.key;
        let beginning = targets(&self.context.shard).into_iter().map(|region| async move {
            let upload = region.store.upload(Component::Compactor, key).await;
            upload.map(|upload| (region, upload))
        });
        let mut begun = Vec::new();
        for result in join_all(beginning).await {
            match result {
                Ok(upload) => begun.push(upload),
                Err(error) => self.leave_out(&error),
            }
        }
        begun
    }

    /// Makes the file of its parts, in every region that has them. A store whose answer is lost may have it all the same;
    /// it is repaired like one that has not.
    async fn complete(&mut self) -> Vec<RegionHandle> {
        let uploads = self.uploads.take().unwrap_or_default();
        let finishing =
            uploads.into_iter().map(|(region, upload)| async move { upload.finish().await.map(|()| region) });
        let results = join_all(finishing).await;
        results.into_iter().filter_map(|result| result.map_err(|error| self.leave_out(&error)).ok()).collect()
    }

    async fn put_whole(&mut self) -> Vec<RegionHandle> {
        let payload: PutPayload = self.held.drain(..).collect();
        let (size, key, voters) = (self.held_bytes as u64, &self.key, voters(&self.context.shard));
        let context = &self.context;
        let mut sending: FuturesUnordered<_> = targets(&context.shard)
            .into_iter()
            .map(|region| {
                let payload = payload.clone();
                async move {
                    context.budget.take(size).await;
                    region.store.overwrite(Component::Compactor, key, payload).await.map(|()| region)
                }
            })
            .collect();
        let (mut stored, mut problems, mut deadline) = (Vec::new(), Vec::new(), None);
        loop {
            let next = match deadline {
                None => sending.next().await,
                Some(deadline) => match timeout_at(deadline, sending.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        problems.push(format!("{} regions took too long", sending.len()));
                        break;
                    }
                },
            };
            match next {
                None => break,
                Some(Ok(region)) => {
                    context.metrics.uploaded(self.kind, size);
                    stored.push(region);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, hint = error.hint(), "a region did not take an archive file");
                    problems.push(error.to_string());
                }
            }
            if deadline.is_none() && has_majority(&stored, voters) {
                deadline = Some(Instant::now() + GRACE);
            }
        }
        drop(sending);
        self.problems.append(&mut problems);
        stored
    }

    fn leave_out(&mut self, error: &StoreError) {
        tracing::warn!(%error, hint = error.hint(), "a region is left out of an archive file; it is repaired later");
        self.problems.push(error.to_string());
    }

    fn check(&self, regions: &[RegionHandle]) -> Result<(), JobError> {
        let voters = voters(&self.context.shard);
        if has_majority(regions, voters) {
            return Ok(());
        }
        let stored = regions.iter().filter(|region| region.votes).count();
        let problem = if self.problems.is_empty() { "no other is there".to_owned() } else { self.problems.join("; ") };
        Err(JobError::Regions { key: self.key.to_string(), stored, voters, problem })
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, held_bytes, sent, .. } = self;
        f.debug_struct("Outgoing")
            .field("kind", kind)
            .field("key", key)
            .field("held", held_bytes)
            .field("sent", sent)
            .finish()
    }
}

/// How many regions vote.
fn voters(shard: &Shard) -> usize {
    shard.state().regions.voters().map_or(0, |voters| voters.iter().count())
}

fn has_majority(regions: &[RegionHandle], voters: usize) -> bool {
    regions.iter().filter(|region| region.votes).count() * 2 > voters
}

/// Where a file goes: to all regions; not to those whose last request failed, if enough are left without them.
fn targets(shard: &Shard) -> Vec<RegionHandle> {
    let (voters, all) = (voters(shard), shard.regions());
    let healthy: Vec<_> = all.iter().filter(|region| !region.failing).cloned().collect();
    if has_majority(&healthy, voters) { healthy } else { all }
}
