//! Neighbouring files become one: their row groups are copied as they are.

use brigade_index::{
    archive::{ArchiveFile, FileHead, FileMerger},
    command::Archived,
    ids::FileId,
};

use super::{FilePlace, JobContext, JobError, Outgoing, slice};
use crate::{metrics::JobKind, plan::MergeJob};

/// Runs a merge. No more than a row group and a part are held at a time, whatever the size of the files.
///
/// # Errors
/// When it was not done; then the files stay as they are.
pub(crate) async fn run(context: &JobContext, job: &MergeJob) -> Result<(), JobError> {
    let place = context.place(&job.part)?;
    context.under_claims(vec![job.part], |ids| merge(context, job, place, ids)).await
}

async fn merge(
    context: &JobContext,
    job: &MergeJob,
    place: FilePlace,
    ids: Vec<FileId>,
) -> Result<Vec<Archived>, JobError> {
    let Some(&id) = ids.first() else { return Ok(Vec::new()) };
    let head = context.head(&place, id, job.part.first, job.part.end);
    let mut outgoing = context.outgoing(JobKind::Merge, &place, job.part.first, id);
    match copy(context, job, &place, head, &mut outgoing).await {
        Ok(merged) => {
            let regions = outgoing.finish().await?;
            let file = Some(ArchiveFile { regions, ..merged });
            Ok(vec![Archived { id, file, compacted: false }])
        }
        Err(error) => {
            outgoing.abort().await;
            Err(error)
        }
    }
}

async fn copy(
    context: &JobContext,
    job: &MergeJob,
    place: &FilePlace,
    head: FileHead,
    outgoing: &mut Outgoing,
) -> Result<ArchiveFile, JobError> {
    let broken = |error| JobError::input(&job.part, error);
    let mut merger = FileMerger::new(head.clone(), &context.writer).map_err(broken)?;
    for file in &job.files {
        let footer = context.footer(JobKind::Merge, place, &job.part, file).await?;
        for group in 0..footer.row_groups() {
            let range = footer.row_group_range(group);
            let bytes = context.read_file(JobKind::Merge, place, file, range).await;
            let bytes = bytes.map_err(|error| JobError::input(&job.part, error))?;
            context.metrics.holds(merger.memory() + outgoing.memory() + footer.memory() + bytes.len());
            slice(|| merger.append(&footer, group, bytes)).await.map_err(broken)?;
            outgoing.push(merger.take());
            outgoing.spill().await?;
        }
    }
    let (rest, written) = slice(|| merger.finish()).await.map_err(broken)?;
    outgoing.push(rest);
    let merges = job.files.iter().map(|file| file.merges).max().unwrap_or(0) + 1;
    let compacted = job.files.iter().any(|file| file.compacted);
    Ok(written.file(&head, merges, compacted, Vec::new()))
}
