//! Messages leave the journal: one pass over the entries that hold them, one file for each partition.

use std::{cmp::Reverse, mem};

use arrow::array::Array;
use brigade_index::{
    archive::{FileHead, FileWriter, Written},
    batch::{Messages, decode},
    command::{Archived, ClaimPart, Rejection},
    format::checksum,
    ids::FileId,
    shard::FetchError,
    state::{BatchLocation, Run},
    store::Component,
};
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream, stream::FuturesOrdered};

use super::{
    FilePlace, JobContext, JobError, Outgoing, slice,
    steps::{Fetch, Step, steps},
};
use crate::{metrics::JobKind, plan::ArchiveJob};

/// Most steps that are read ahead, and the part of the job's memory that they may take.
const AHEAD: usize = 16;
/// See [`AHEAD`].
const AHEAD_SHARE: usize = 4;

/// Files that are sent at a time.
const SENT_AT_ONCE: usize = 4;

/// Row groups that are smaller are not ended before their time: little is won.
const LEAST_FLUSH: usize = 1 << 20;

/// A file that is being written.
struct Part {
    claim: ClaimPart,
    head: FileHead,
    /// `None` after it failed.
    file: Option<(FileWriter, Outgoing)>,
}

impl Part {
    fn memory(&self) -> usize {
        self.file.as_ref().map_or(0, |(writer, outgoing)| writer.memory() + outgoing.memory())
    }
}

/// A step whose bytes are there.
struct Fetched {
    step: Step,
    /// For each of its fetches the bytes, if some region gave them.
    bytes: Vec<Option<Bytes>>,
}

/// Runs an archive job.
///
/// # Errors
/// When not all of it was done. What could not be read is left in the journal; the other partitions are archived.
pub(crate) async fn run(context: &JobContext, job: &ArchiveJob) -> Result<(), JobError> {
    let mut failed = None;
    let (parts, runs) = inputs(context, job)?;
    let claims = parts.iter().map(|(claim, ..)| *claim).collect();
    context.under_claims(claims, |ids| archive(context, parts, runs, ids, &mut failed)).await?;
    failed.map_or(Ok(()), Err)
}

type Inputs = Vec<(ClaimPart, FilePlace)>;

/// Where everything is, by the state as it is now.
fn inputs(context: &JobContext, job: &ArchiveJob) -> Result<(Inputs, Vec<Vec<Run>>), JobError> {
    let (mut parts, mut runs) = (Vec::new(), Vec::new());
    for claim in &job.parts {
        let place = context.place(claim)?;
        let state = context.shard.state();
        let log = state.topic(claim.topic).and_then(|topic| topic.partition(claim.partition));
        let log = log.ok_or(JobError::Superseded(Rejection::TopicNotFound))?;
        let claimed = log.runs_from(claim.first).iter().take_while(|run| run.base < claim.end);
        let claimed: Vec<_> = claimed.copied().collect();
        let whole = claimed.first().is_some_and(|run| run.base == claim.first)
            && claimed.last().is_some_and(|run| run.end() == claim.end);
        if !whole {
            return Err(JobError::Superseded(Rejection::Malformed("what was to be archived has changed")));
        }
        parts.push((*claim, place));
        runs.push(claimed);
    }
    Ok((parts, runs))
}

async fn archive(
    context: &JobContext,
    inputs: Inputs,
    runs: Vec<Vec<Run>>,
    ids: Vec<FileId>,
    failed: &mut Option<JobError>,
) -> Result<Vec<Archived>, JobError> {
    let begin = |((claim, place), id): ((ClaimPart, FilePlace), FileId)| {
        let head = context.head(&place, id, claim.first, claim.end);
        let writer = FileWriter::new(head.clone(), &context.writer).map_err(|error| JobError::input(&claim, error))?;
        let outgoing = context.outgoing(JobKind::Archive, &place, claim.first, id);
        Ok(Part { claim, head, file: Some((writer, outgoing)) })
    };
    let parts = inputs.into_iter().zip(ids).map(begin).collect::<Result<_, JobError>>()?;
    let mut archiver = Archiver { context, parts, ahead: 0, decoded: None };
    match archiver.take_all(steps(&runs), failed).await {
        Ok(()) => archiver.finish(failed).await,
        Err(error) => {
            archiver.abort().await;
            Err(error)
        }
    }
}

/// Reads what a step needs. What could not be read is looked for batch by batch later.
async fn fetch(context: &JobContext, step: Step) -> Fetched {
    let reading = step.fetches.iter().map(|fetch| async move {
        let bytes = fetch.range.end - fetch.range.start;
        context.budget.take(bytes).await;
        let read = context.shard.fetch_entry(Component::Compactor, fetch.sequence, fetch.range.clone()).await.ok();
        context.metrics.read(JobKind::Archive, read.as_ref().map_or(0, |read| read.len() as u64));
        read
    });
    let bytes = join_all(reading).await;
    Fetched { step, bytes }
}

/// Bytes of a batch: from what was fetched if they are right, else from whichever region has them.
async fn bytes_of(context: &JobContext, fetched: &Fetched, batch: &BatchLocation) -> Result<Bytes, FetchError> {
    let end = batch.at + u64::from(batch.len);
    let holds =
        |fetch: &Fetch| fetch.sequence == batch.sequence && fetch.range.start <= batch.at && end <= fetch.range.end;
    let held = fetched.step.fetches.iter().zip(&fetched.bytes).find(|(fetch, _)| holds(fetch));
    let found = held.and_then(|(fetch, bytes)| {
        let from = usize::try_from(batch.at - fetch.range.start).ok()?;
        let bytes = bytes.as_ref()?;
        (bytes.len() >= from + batch.len as usize).then(|| bytes.slice(from..from + batch.len as usize))
    });
    match found {
        Some(bytes) if checksum(&bytes) == batch.crc => Ok(bytes),
        _ => {
            context.budget.take(batch.len.into()).await;
            let bytes = context.shard.fetch(batch).await?;
            context.metrics.read(JobKind::Archive, batch.len.into());
            Ok(bytes)
        }
    }
}

/// Bytes of decoded messages. Columns that were not compressed share the buffer that was read, which
/// [`Messages::memory`] counts once for each of them.
fn size_of(messages: &Messages) -> usize {
    let columns = messages.record_batch().columns().iter();
    columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

struct Archiver<'a> {
    context: &'a JobContext,
    parts: Vec<Part>,
    /// Bytes that are read ahead.
    ahead: u64,
    /// The last batch: runs of one batch follow each other.
    decoded: Option<(BatchLocation, Messages)>,
}

impl Archiver<'_> {
    /// Bytes held.
    fn memory(&self) -> usize {
        let decoded = self.decoded.as_ref().map_or(0, |(_, messages)| size_of(messages));
        self.ahead as usize + decoded + self.parts.iter().map(Part::memory).sum::<usize>()
    }

    fn count(&self) {
        self.context.holds(self.memory());
    }

    /// Reads ahead, and puts everything into the files.
    async fn take_all(&mut self, steps: Vec<Step>, failed: &mut Option<JobError>) -> Result<(), JobError> {
        let context = self.context;
        let mut waiting = steps.into_iter().peekable();
        let mut reading = FuturesOrdered::new();
        loop {
            let most = (context.memory_bytes / AHEAD_SHARE) as u64;
            while reading.len() < AHEAD
                && let Some(step) = waiting.next_if(|step| reading.is_empty() || self.ahead + step.bytes() <= most)
            {
                self.ahead += step.bytes();
                reading.push_back(fetch(context, step));
            }
            self.count();
            let Some(fetched) = reading.next().await else { return Ok(()) };
            self.take(fetched, failed).await?;
        }
    }

    /// Forgets the files.
    async fn abort(self) {
        let files = self.parts.into_iter().filter_map(|part| part.file);
        join_all(files.map(|(_, outgoing)| outgoing.abort())).await;
    }

    /// Puts the runs of a step into their files. A part that cannot be read is left out from then on.
    async fn take(&mut self, fetched: Fetched, failed: &mut Option<JobError>) -> Result<(), JobError> {
        let step_bytes = fetched.step.bytes();
        for (number, run) in &fetched.step.pieces {
            if self.parts[*number].file.is_none() {
                continue;
            }
            if let Err(error) = self.put(&fetched, *number, run).await {
                tracing::warn!(%error, "messages are not archived");
                failed.get_or_insert(error);
                if let Some((_, outgoing)) = self.parts[*number].file.take() {
                    outgoing.abort().await;
                }
            }
            self.count();
            if self.memory() > self.context.memory_bytes {
                self.relieve().await?;
            }
        }
        self.ahead -= step_bytes;
        self.decoded = None;
        Ok(())
    }

    async fn put(&mut self, fetched: &Fetched, number: usize, run: &Run) -> Result<(), JobError> {
        let claim = self.parts[number].claim;
        let known = self.decoded.take().filter(|(batch, _)| *batch == run.batch);
        let messages = match known {
            Some((_, messages)) => messages,
            None => {
                let bytes = bytes_of(self.context, fetched, &run.batch)
                    .await
                    .map_err(|error| JobError::input(&claim, error))?;
                slice(|| decode(&bytes)).await.map_err(|error| JobError::input(&claim, error))?
            }
        };
        let Some((writer, outgoing)) = &mut self.parts[number].file else { return Ok(()) };
        let first = run.first_row as usize;
        let rows = first..first.saturating_add(run.rows as usize);
        let pushed = slice(|| writer.push(&messages, rows, run.base)).await;
        pushed.map_err(|error| JobError::input(&claim, error))?;
        outgoing.push(writer.take());
        self.decoded = Some((run.batch, messages));
        Ok(())
    }

    /// Makes room: row groups are ended early, the largest first; when that is not enough, files are sent in parts.
    async fn relieve(&mut self) -> Result<(), JobError> {
        let wanted = self.context.memory_bytes / 4 * 3;
        let group = |part: &Part| part.file.as_ref().map_or(0, |(writer, _)| writer.memory());
        let mut order: Vec<_> = (0..self.parts.len()).collect();
        order.sort_by_key(|number| Reverse(group(&self.parts[*number])));
        for number in order {
            if self.memory() <= wanted || group(&self.parts[number]) < LEAST_FLUSH {
                break;
            }
            let Part { claim, file: Some((writer, outgoing)), .. } = &mut self.parts[number] else { continue };
            slice(|| writer.flush()).await.map_err(|error| JobError::input(claim, error))?;
            outgoing.push(writer.take());
        }
        if self.memory() > wanted {
            for part in &mut self.parts {
                if let Some((_, outgoing)) = &mut part.file {
                    outgoing.spill().await?;
                }
            }
        }
        self.count();
        Ok(())
    }

    /// Ends the files and sends them.
    async fn finish(mut self, failed: &mut Option<JobError>) -> Result<Vec<Archived>, JobError> {
        let mut ended: Vec<(FileHead, Written, Outgoing)> = Vec::new();
        for Part { claim, head, file } in mem::take(&mut self.parts) {
            let Some((writer, mut outgoing)) = file else { continue };
            match slice(|| writer.finish()).await {
                Ok((rest, written)) => {
                    outgoing.push(rest);
                    ended.push((head, written, outgoing));
                }
                Err(error) => {
                    failed.get_or_insert(JobError::input(&claim, error));
                    outgoing.abort().await;
                }
            }
        }
        let held = |ended: &[(FileHead, Written, Outgoing)]| ended.iter().map(|(.., out)| out.memory()).sum::<usize>();
        self.context.holds(held(&ended));
        let sending = ended.into_iter().map(|(head, written, outgoing)| async move {
            let regions = outgoing.finish().await?;
            let file = written.file(&head, 0, false, regions);
            Ok(Archived { id: head.id, file: Some(file), compacted: None })
        });
        let sent: Vec<Result<Archived, JobError>> = stream::iter(sending).buffered(SENT_AT_ONCE).collect().await;
        let mut archived = Vec::with_capacity(sent.len());
        for result in sent {
            match result {
                Ok(file) => archived.push(file),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Ok(archived)
    }
}
