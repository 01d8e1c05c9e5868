//! Neighbouring files become one: their row groups are copied as they are.
//!
//! Nothing is decoded, so nothing but the checksum of a whole file tells whether what was copied is what was written. A
//! file that a region gives wrong is looked for in the others, and the merge begins again.

use std::ops::Range;

use brigade_index::{
    archive::{ArchiveFile, FileHead, FileMerger},
    command::Archived,
    format::checksum_behind,
    ids::FileId,
};
use bytes::Bytes;

use super::{FilePlace, JobContext, JobError, Outgoing, slice};
use crate::{metrics::JobKind, plan::MergeJob};

/// Bytes that are read at a time where only the checksum is of interest.
const CHUNK: u64 = 8 << 20;

/// Why files were not copied.
enum Broken {
    Job(JobError),
    /// What was read of the file of this number is not what was written.
    Damaged(usize, String),
}

impl From<JobError> for Broken {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

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
    let merging = Merging { context, job, place: &place };
    let (mut files, mut healed) = (job.files.clone(), vec![false; job.files.len()]);
    loop {
        let mut outgoing = context.outgoing(JobKind::Merge, &place, job.part.first, id);
        let broken = match merging.copy(&files, head.clone(), &mut outgoing).await {
            Ok(merged) => {
                let regions = outgoing.finish().await?;
                return Ok(vec![Archived { id, file: Some(ArchiveFile { regions, ..merged }), compacted: None }]);
            }
            Err(broken) => broken,
        };
        outgoing.abort().await;
        let (number, problem) = match broken {
            Broken::Job(error) => return Err(error),
            Broken::Damaged(number, problem) => (number, problem),
        };
        tracing::warn!(file = %files[number].id, problem, "an archive file is damaged in a region");
        if std::mem::replace(&mut healed[number], true) {
            return Err(JobError::input(&job.part, problem));
        }
        files[number] = merging.sound(&files[number]).await.ok_or_else(|| JobError::input(&job.part, problem))?;
    }
}

struct Merging<'a> {
    context: &'a JobContext,
    job: &'a MergeJob,
    place: &'a FilePlace,
}

impl Merging<'_> {
    async fn read(&self, file: &ArchiveFile, range: Range<u64>) -> Result<Bytes, JobError> {
        let read = self.context.read_file(JobKind::Merge, self.place, file, range).await;
        read.map_err(|error| JobError::input(&self.job.part, error))
    }

    async fn copy(
        &self,
        files: &[ArchiveFile],
        head: FileHead,
        outgoing: &mut Outgoing,
    ) -> Result<ArchiveFile, Broken> {
        let failed = |error| Broken::Job(JobError::input(&self.job.part, error));
        let mut merger = FileMerger::new(head.clone(), &self.context.writer).map_err(failed)?;
        for (number, file) in files.iter().enumerate() {
            let damaged = |problem: String| Broken::Damaged(number, problem);
            let footer = match self.context.footer(JobKind::Merge, self.place, &self.job.part, file).await {
                Ok(footer) => footer,
                Err(JobError::Input { problem, .. }) => return Err(damaged(problem)),
                Err(error) => return Err(error.into()),
            };
            let (mut read, mut crc, groups) = (0, 0, footer.row_groups());
            for group in 0..groups {
                let range = footer.row_group_range(group);
                // What lies between row groups, and behind the last, is read for the checksum alone.
                let end = if group + 1 == groups { file.bytes } else { range.end };
                if range.start < read || range.end > end {
                    return Err(damaged(format!("row groups of archive file {} are not in order", file.id)));
                }
                let bytes = self.read(file, read..end).await?;
                crc = checksum_behind(crc, &bytes);
                // They fit: the bytes are in memory.
                let rows = bytes.slice((range.start - read) as usize..(range.end - read) as usize);
                read = end;
                self.context.holds(merger.memory() + outgoing.memory() + footer.memory() + bytes.len());
                let appended = slice(|| merger.append(&footer, group, rows)).await;
                appended.map_err(|error| damaged(error.to_string()))?;
                outgoing.push(merger.take());
                outgoing.spill().await?;
            }
            if crc != file.crc {
                return Err(damaged(format!("the checksum of archive file {} does not match", file.id)));
            }
        }
        let (rest, written) = slice(|| merger.finish()).await.map_err(failed)?;
        outgoing.push(rest);
        let merges = files.iter().map(|file| file.merges).max().unwrap_or(0) + 1;
        Ok(written.file(&head, merges, files.iter().all(|file| file.compacted), Vec::new()))
    }

    /// The file, to be read only from a region that has it as it was written.
    async fn sound(&self, file: &ArchiveFile) -> Option<ArchiveFile> {
        for region in &file.regions {
            let there = ArchiveFile { regions: vec![*region], ..file.clone() };
            let (mut read, mut crc) = (0, 0);
            while read < file.bytes {
                let end = file.bytes.min(read + CHUNK);
                let Ok(bytes) = self.read(&there, read..end).await else { break };
                crc = checksum_behind(crc, &bytes);
                read = end;
            }
            if read == file.bytes && crc == file.crc {
                return Some(there);
            }
        }
        None
    }
}
