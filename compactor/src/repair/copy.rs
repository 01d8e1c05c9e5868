//! Copying one archive file into one region.

use brigade_index::{
    archive::ArchiveFile,
    keys::Key,
    shard::{RegionHandle, Shard, Throttle},
    store::{Component, StoreError, Upload},
};
use bytes::Bytes;

/// Bytes read and written at a time: a part of an upload, of which S3 asks for 5 MiB at least.
const PART: u64 = 8 * 1024 * 1024;

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The region that it was to be copied to did not take it.
    #[error("it was not written: {0}")]
    Target(StoreError),
    /// No region that holds it gave it whole.
    #[error("no region gives it whole: {0}")]
    Source(String),
    /// Nothing refers to it any more.
    #[error("nothing refers to it any more")]
    Gone,
}

/// Why one source did not give a file.
enum Failed {
    Source(String),
    Target(StoreError),
}

/// A file to be copied.
pub(super) struct Task<'a> {
    pub(super) shard: &'a Shard,
    pub(super) to: &'a RegionHandle,
    pub(super) key: &'a Key,
    pub(super) file: &'a ArchiveFile,
    pub(super) throttle: &'a Throttle,
}

impl Task<'_> {
    /// Copies the file from the first region that has it whole.
    pub(super) async fn run(&self) -> Result<(), CopyError> {
        let mut problems = Vec::new();
        let holders = &self.file.regions;
        for from in self.shard.regions() {
            let number = from.record.number;
            if !holders.contains(&number) || number == self.to.record.number {
                continue;
            }
            match self.copy(&from).await {
                Ok(()) => return Ok(()),
                Err(Failed::Target(error)) => return Err(CopyError::Target(error)),
                Err(Failed::Source(problem)) => {
                    tracing::debug!(region = %from.record.name, key = %self.key, problem, "a source of a copy failed");
                    problems.push(format!("{}: {problem}", from.record.name));
                }
            }
        }
        if !self.is_referenced() {
            return Err(CopyError::Gone);
        }
        if problems.is_empty() {
            problems.push("none of the regions that hold it takes part".to_owned());
        }
        Err(CopyError::Source(problems.join("; ")))
    }

    fn is_referenced(&self) -> bool {
        let state = self.shard.state();
        let mut logs = state.topics().flat_map(|topic| &topic.partitions);
        logs.any(|log| log.files_from(self.file.first).first().is_some_and(|file| file.id == self.file.id))
    }

    /// Copies it from one region. Nothing is there under its key before the last byte was found to be right.
    async fn copy(&self, from: &RegionHandle) -> Result<(), Failed> {
        let bytes = self.file.bytes;
        let mut crc = 0;
        if bytes <= PART {
            let whole = self.read(from, 0, bytes, &mut crc).await?;
            self.check(crc)?;
            let written = self.to.store.overwrite(Component::Repair, self.key, whole.into()).await;
            written.map_err(Failed::Target)?;
            self.note(bytes, true);
            return Ok(());
        }
        let mut upload = self.to.store.upload(Component::Repair, self.key).await.map_err(Failed::Target)?;
        match self.parts(from, &mut upload, &mut crc).await.and_then(|()| self.check(crc)) {
            Ok(()) => upload.finish().await.map_err(Failed::Target)?,
            Err(failed) => {
                upload.abort().await;
                return Err(failed);
            }
        }
        self.note(0, true);
        Ok(())
    }

    async fn parts(&self, from: &RegionHandle, upload: &mut Upload, crc: &mut u32) -> Result<(), Failed> {
        let mut at = 0;
        while at < self.file.bytes {
            let end = (at + PART).min(self.file.bytes);
            let part = self.read(from, at, end, crc).await?;
            upload.part(part).await.map_err(Failed::Target)?;
            self.note(end - at, false);
            at = end;
        }
        Ok(())
    }

    /// Reads a range, as soon as the budget allows to read and to write it.
    async fn read(&self, from: &RegionHandle, at: u64, end: u64, crc: &mut u32) -> Result<Bytes, Failed> {
        (self.throttle)(2 * (end - at)).await;
        let read = from.store.get_range(Component::Repair, self.key, at..end).await;
        match read.map_err(|error| Failed::Source(error.to_string()))? {
            None => Err(Failed::Source("it does not exist there".to_owned())),
            Some(bytes) if bytes.len() as u64 != end - at => Err(Failed::Source("it is cut off there".to_owned())),
            Some(bytes) => {
                *crc = crc32c::crc32c_append(*crc, &bytes);
                Ok(bytes)
            }
        }
    }

    fn check(&self, crc: u32) -> Result<(), Failed> {
        let whole = crc == self.file.crc;
        if whole { Ok(()) } else { Err(Failed::Source("its checksum does not match there".to_owned())) }
    }

    fn note(&self, bytes: u64, whole: bool) {
        self.shard.note_repair(self.to.record.number, bytes, whole);
    }
}
