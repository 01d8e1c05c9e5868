//! What jobs have in common: claims, bytes from files under the budget, files to every region.
//!
//! A job claims offsets, reads them, writes a file for each claim to every region that can be reached, and puts the files in
//! the place of what it read. Whatever goes wrong on the way, the claims are released and nothing has changed: what may have
//! been written is garbage by then, and is deleted like any other.

pub(crate) mod archive;
mod breaks;
pub(crate) mod compact;
pub(crate) mod merge;
mod outgoing;
mod steps;

use std::{collections::BTreeMap, future::Future, ops::Range, time::Duration};

use brigade_index::{
    archive::{ArchiveError, ArchiveFile, FileHead, Footer, FooterStep, WriterSettings},
    command::{Archived, Claim, ClaimPart, Command, Outcome, Rejection, Replace},
    ids::{FileId, Offset, Partition, TopicId},
    keys,
    names::TopicName,
    shard::{FetchError, ProposeError, Shard},
    store::Component,
};
use bytes::Bytes;
use tokio::{runtime::RuntimeFlavor, time::sleep};

pub(crate) use self::breaks::{Break, Breaks};
pub use self::outgoing::Outgoing;
use crate::{
    budget::Budget,
    metrics::{CompactorMetrics, JobKind},
};

/// Pause before a proposal is made again whose outcome is not known, or that could not be made.
const PAUSE: Duration = Duration::from_millis(500);

/// Attempts at settling claims before they are left to the next round.
const ATTEMPTS: u32 = 20;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Bytes that it needs could not be had, or are damaged in every region.
    #[error("partition {partition} of topic {topic} cannot be read: {problem}")]
    Input {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: Partition,
        /// What is wrong.
        problem: String,
    },
    /// Too few regions took a file.
    #[error("archive file {key} was stored in {stored} of {voters} regions that vote: {problem}")]
    Regions {
        /// Key of the file.
        key: String,
        /// Regions that vote and took it.
        stored: usize,
        /// Regions that vote.
        voters: usize,
        /// What the others said.
        problem: String,
    },
    /// The claim was not made or not settled.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Somebody else has claimed some of it, or it is gone.
    #[error("what was planned does not hold any more: {0}")]
    Superseded(Rejection),
    /// Committed state refuses some of what came out: a defect, or damage that no checksum showed. The rest is committed.
    #[error("the outcome was refused: {rejection}")]
    Refused {
        /// The partitions that it is of.
        parts: Vec<(TopicId, Partition)>,
        /// Why, the first of them.
        rejection: Rejection,
    },
}

impl JobError {
    /// An input that cannot be used.
    pub fn input(part: &ClaimPart, problem: impl std::fmt::Display) -> Self {
        Self::Input { topic: part.topic, partition: part.partition, problem: problem.to_string() }
    }

    /// Whether it says nothing against what was planned, the regions or the inputs: the world has moved on.
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded(_))
            || matches!(self, Self::Propose(ProposeError::NotLeader { .. } | ProposeError::ShuttingDown))
    }
}

/// What a job works with. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    /// The shard.
    pub shard: Shard,
    /// Bytes a second.
    pub budget: Budget,
    /// Figures.
    pub metrics: CompactorMetrics,
    /// Bytes that a job may hold.
    pub memory_bytes: usize,
    /// Bytes that another job holds, which takes a break.
    pub aside: usize,
    /// Bytes of a part of a file that is not sent as one; more than none.
    pub part_bytes: usize,
    /// How files are written.
    pub writer: WriterSettings,
}

/// Where an archive file is: what its key follows from, apart from the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// Name of its topic.
    pub name: TopicName,
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: Partition,
}

impl JobContext {
    /// Runs `work` under claims for `parts`: the claims are made before, given to it by their identities in the order of the
    /// parts, and settled with what it gives; those that it gives nothing for are released, all of them if it fails. A
    /// `work` that is dropped leaves its claims to the worker, which releases them.
    ///
    /// # Errors
    /// Those of the work; when claims are not made or not settled.
    pub async fn under_claims<F, W>(&self, parts: Vec<ClaimPart>, work: F) -> Result<(), JobError>
    where
        F: FnOnce(Vec<FileId>) -> W,
        W: Future<Output = Result<Vec<Archived>, JobError>>,
    {
        let mut ids = self.claim(parts.clone()).await?;
        let worked = work(ids.clone()).await;
        self.holds(0);
        let settled = match worked {
            Ok(archived) if archived.is_empty() => Ok(()),
            Ok(archived) => {
                let settled: Vec<_> = archived.iter().map(|part| part.id).collect();
                let claimed = ids.iter().copied().zip(parts).collect();
                let replaced = self.replace(archived, &claimed).await;
                if replaced.is_ok() {
                    ids.retain(|id| !settled.contains(id));
                }
                replaced
            }
            Err(error) => Err(error),
        };
        if !ids.is_empty() {
            // What is not released now is in the next round.
            let _ = self.shard.propose(vec![Command::Release(ids)]).await;
        }
        settled
    }

    /// The job holds so many bytes.
    pub(crate) fn holds(&self, bytes: usize) {
        self.metrics.holds(self.aside + bytes);
    }

    async fn claim(&self, parts: Vec<ClaimPart>) -> Result<Vec<FileId>, JobError> {
        let count = parts.len();
        let claim = Command::Claim(Claim { owner: self.shard.ballot(), parts });
        // With an outcome that is not known a claim may come into being that nobody works on: the next round releases it.
        let outcome = self.shard.propose(vec![claim]).await?.outcomes.pop();
        match outcome {
            Some(Ok(Outcome::Claimed(ids))) if ids.len() == count => Ok(ids),
            Some(Err(rejection)) => Err(JobError::Superseded(rejection)),
            _ => Err(ProposeError::Unknown("a claim had no outcome".to_owned()).into()),
        }
    }

    /// Puts files in the place of what was `claimed`. It is safe to say so again when the outcome is not known: either the
    /// claim stands, or the state has the file, or the claim is lost. Each file is judged for itself, so that one which is
    /// refused, or whose claim is lost, does not keep the others back.
    async fn replace(&self, parts: Vec<Archived>, claimed: &BTreeMap<FileId, ClaimPart>) -> Result<(), JobError> {
        let mut attempt = 1;
        loop {
            let (standing, lost) = self.look_at_claims(&parts);
            let lost = lost.map(Rejection::ClaimLost);
            if standing.is_empty() {
                return lost.map_or(Ok(()), |rejection| Err(JobError::Superseded(rejection)));
            }
            let ids: Vec<_> = standing.iter().map(|part| part.id).collect();
            let commands = standing.into_iter().map(|part| Command::Replace(Replace { parts: vec![part] })).collect();
            match self.shard.propose(commands).await {
                Ok(committed) => {
                    let of = |id| claimed.get(&id).map(|part| (part.topic, part.partition));
                    let outcomes = ids.into_iter().zip(committed.outcomes);
                    return judge(outcomes.filter_map(|(id, outcome)| Some((of(id), outcome.err()?))), lost);
                }
                Err(error) if attempt == ATTEMPTS || self.shard.leads().is_err() => return Err(error.into()),
                Err(_) => sleep(PAUSE).await,
            }
            attempt += 1;
        }
    }

    /// Those of `parts` whose claims stand, and one that is lost without having been settled, if there is any.
    fn look_at_claims(&self, parts: &[Archived]) -> (Vec<Archived>, Option<FileId>) {
        let state = self.shard.state();
        let (standing, gone): (Vec<_>, Vec<_>) =
            parts.iter().partition(|part| state.archive.claims().contains_key(&part.id));
        let settled = |part: &Archived| {
            // One without a file leaves no trace, and nothing to be done again.
            let Some(wanted) = &part.file else { return true };
            let mut logs = state.topics().flat_map(|topic| &topic.partitions);
            logs.any(|log| log.files_from(wanted.first).first().is_some_and(|file| file.id == wanted.id))
        };
        let lost = gone.into_iter().find(|part| !settled(part)).map(|part| part.id);
        (standing.into_iter().cloned().collect(), lost)
    }

    /// Where the files of a partition are.
    ///
    /// # Errors
    /// When the topic is gone.
    pub fn place(&self, part: &ClaimPart) -> Result<FilePlace, JobError> {
        let state = self.shard.state();
        let topic = state.topic(part.topic).ok_or(JobError::Superseded(Rejection::TopicNotFound))?;
        Ok(FilePlace { name: topic.name.clone(), topic: part.topic, partition: part.partition })
    }

    /// What a file says of itself.
    pub fn head(&self, place: &FilePlace, id: FileId, first: Offset, end: Offset) -> FileHead {
        let FilePlace { name, topic, partition } = place;
        let cluster = self.shard.cluster_id().to_owned();
        FileHead { cluster, topic: name.clone(), topic_id: *topic, partition: *partition, id, first, end }
    }

    /// Bytes `range` of an archive file, from the nearest region that has it, within the budget.
    ///
    /// # Errors
    /// When no region gave them.
    pub async fn read_file(
        &self,
        kind: JobKind,
        place: &FilePlace,
        file: &ArchiveFile,
        range: Range<u64>,
    ) -> Result<Bytes, FetchError> {
        let bytes = range.end.saturating_sub(range.start);
        self.budget.take(bytes).await;
        let key = file.key(&place.name, place.topic, place.partition);
        let fetched = self.shard.fetch_file(Component::Compactor, &key, &file.regions, range).await?;
        self.metrics.read(kind, bytes);
        Ok(fetched)
    }

    /// Reads what an archive file says of itself, and makes sure that it is this file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or another file.
    pub async fn footer(
        &self,
        kind: JobKind,
        place: &FilePlace,
        part: &ClaimPart,
        file: &ArchiveFile,
    ) -> Result<Footer, JobError> {
        let damaged = |error: ArchiveError| JobError::input(part, format!("archive file {}: {error}", file.id));
        let mut range = Footer::first_range(file.bytes);
        loop {
            let read = self.read_file(kind, place, file, range.clone()).await;
            let tail = read.map_err(|error| JobError::input(part, error))?;
            match Footer::decode(file.bytes, range.start, tail).map_err(damaged)? {
                FooterStep::Ready(footer) => {
                    footer.check(file, &self.head(place, file.id, file.first, file.end)).map_err(damaged)?;
                    return Ok(footer);
                }
                FooterStep::Need(needed) if needed == range => {
                    return Err(damaged(ArchiveError::Damaged("its footer has no end".to_owned())));
                }
                FooterStep::Need(needed) => range = needed,
            }
        }
    }

    /// An archive file on its way to the regions.
    pub fn outgoing(&self, kind: JobKind, place: &FilePlace, first: Offset, id: FileId) -> Outgoing {
        let key = keys::archive_file(&place.name, place.topic, place.partition, first, id);
        Outgoing::new(self.clone(), kind, key)
    }
}

/// What a job came to of which these partitions were rejected, and `lost` if a claim was lost before.
fn judge(
    rejected: impl Iterator<Item = (Option<(TopicId, Partition)>, Rejection)>,
    mut moved_on: Option<Rejection>,
) -> Result<(), JobError> {
    let (mut refused, mut parts) = (None, Vec::new());
    for (part, rejection) in rejected {
        match rejection {
            // The world has moved on between the look and the proposal.
            Rejection::ClaimLost(_) | Rejection::RetentionChanged => _ = moved_on.get_or_insert(rejection),
            _ => {
                refused.get_or_insert(rejection);
                parts.extend(part);
            }
        }
    }
    match (refused, moved_on) {
        (Some(rejection), _) => Err(JobError::Refused { parts, rejection }),
        (None, Some(rejection)) => Err(JobError::Superseded(rejection)),
        (None, None) => Ok(()),
    }
}

/// Runs a slice of work that keeps the processor busy, about as long as a batch takes, and lets others run after it. The
/// compactor has a thread of its own; on one that it shares, others take over what waits meanwhile, where there are any.
pub async fn slice<T>(work: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    let done = if several { tokio::task::block_in_place(work) } else { work() };
    tokio::task::yield_now().await;
    done
}

#[cfg(test)]
mod tests;
