//! Reading archive files whole, a row group at a time.

use brigade_index::{
    archive::{ArchiveError, ArchiveFile, FileHead, Footer, FooterStep, SetHash},
    ids::Offset,
    keys::Key,
    store::{RegionStore, StoreError},
};
use bytes::Bytes;
use tokio::task::yield_now;

use super::{
    entries::{Checked, Problem, Reading},
    scene::FileRef,
};

/// Bytes that are read at once between row groups, and of files whose footer cannot be read.
const CHUNK: u64 = 8 << 20;

/// What is known of a file's place.
pub(crate) fn head_of(file: &FileRef, cluster_id: &str) -> FileHead {
    FileHead {
        cluster: cluster_id.to_owned(),
        topic: file.name.clone(),
        topic_id: file.topic,
        partition: file.partition,
        id: file.file.id,
        first: file.file.first,
        end: file.file.end,
    }
}

/// Reads a file whole and checks it against the index: its size, its checksum, its footer, and that it has exactly the
/// messages that it should.
///
/// # Errors
/// When the store gives no good answer.
pub(crate) async fn check(
    reading: &Reading,
    store: &RegionStore,
    key: &Key,
    file: &FileRef,
    cluster_id: &str,
) -> Checked<()> {
    let checked = read(reading, store, key, file, cluster_id).await?;
    if checked.as_ref().is_ok() || checked.as_ref().is_err_and(|problem| problem.missing) {
        return Ok(checked);
    }
    // An answer may be altered on its way.
    read(reading, store, key, file, cluster_id).await
}

async fn read(reading: &Reading, store: &RegionStore, key: &Key, file: &FileRef, cluster_id: &str) -> Checked<()> {
    let footer = match footer(reading, store, key, &file.file).await? {
        Ok(footer) => footer,
        Err(problem) => return Ok(Err(problem)),
    };
    if let Err(error) = footer.check(&file.file, &head_of(file, cluster_id)) {
        return Ok(Err(Problem::corrupt(error)));
    }
    let mut contents = Contents::new(file, &footer);
    let mut at = 0;
    for group in 0..footer.row_groups() {
        let range = footer.row_group_range(group);
        if range.start < at || range.end > file.file.bytes {
            return Ok(Err(Problem::corrupt("its row groups are not in order")));
        }
        // Nothing lies between row groups but what a later version may put there.
        if let Err(problem) = contents.skip(reading, store, key, at..range.start).await? {
            return Ok(Err(problem));
        }
        let Some(bytes) = exactly(reading, store, key, range.clone()).await? else {
            return Ok(Err(Problem::missing_or_cut()));
        };
        contents.crc = crc32c::crc32c_append(contents.crc, &bytes);
        if let Err(error) = contents.row_group(group, range.clone(), bytes).await {
            return Ok(Err(Problem::corrupt(error)));
        }
        at = range.end;
    }
    if let Err(problem) = contents.skip(reading, store, key, at..file.file.bytes).await? {
        return Ok(Err(problem));
    }
    Ok(contents.verdict(&file.file))
}

impl Problem {
    fn missing_or_cut() -> Self {
        Self::corrupt("it is cut off")
    }
}

/// Exactly these bytes of an object; `None` when there are fewer.
async fn exactly(
    reading: &Reading,
    store: &RegionStore,
    key: &Key,
    range: std::ops::Range<u64>,
) -> Result<Option<Bytes>, StoreError> {
    let want = range.end - range.start;
    let bytes = reading.range(store, key, range).await?;
    Ok(bytes.filter(|bytes| bytes.len() as u64 == want))
}

/// Reads the footer of a file.
pub(crate) async fn footer(reading: &Reading, store: &RegionStore, key: &Key, file: &ArchiveFile) -> Checked<Footer> {
    // One byte behind the end shows that it is longer than it should be.
    let mut range = Footer::first_range(file.bytes);
    loop {
        let Some(bytes) = reading.range(store, key, range.start..file.bytes + 1).await? else {
            return Ok(Err(Problem::missing()));
        };
        if bytes.len() as u64 != file.bytes - range.start {
            return Ok(Err(Problem::corrupt("it has another size than the index knows")));
        }
        match Footer::decode(file.bytes, range.start, bytes) {
            Ok(FooterStep::Ready(footer)) => return Ok(Ok(footer)),
            Ok(FooterStep::Need(needed)) if needed.start < range.start => range = needed,
            Ok(FooterStep::Need(_)) => return Ok(Err(Problem::corrupt("its footer never ends"))),
            Err(error) => return Ok(Err(Problem::corrupt(error))),
        }
    }
}

/// What was found in a file so far.
struct Contents<'a> {
    file: &'a FileRef,
    footer: &'a Footer,
    crc: u32,
    rows: u64,
    hash: SetHash,
    last: Option<u64>,
    scratch: Vec<u8>,
}

impl<'a> Contents<'a> {
    fn new(file: &'a FileRef, footer: &'a Footer) -> Self {
        Self { file, footer, crc: 0, rows: 0, hash: SetHash::default(), last: None, scratch: Vec::new() }
    }

    /// Reads bytes for the checksum alone.
    async fn skip(
        &mut self,
        reading: &Reading,
        store: &RegionStore,
        key: &Key,
        range: std::ops::Range<u64>,
    ) -> Checked<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + CHUNK);
            let Some(bytes) = exactly(reading, store, key, at..end).await? else {
                return Ok(Err(Problem::missing_or_cut()));
            };
            self.crc = crc32c::crc32c_append(self.crc, &bytes);
            at = end;
        }
        Ok(Ok(()))
    }

    async fn row_group(&mut self, group: usize, range: std::ops::Range<u64>, bytes: Bytes) -> Result<(), ArchiveError> {
        let parts = [(range, bytes)];
        let file = &self.file.file;
        for number in 0..self.footer.blocks().len() {
            if self.footer.blocks()[number].row_group != group {
                continue;
            }
            let rows = self.footer.decode_block(number, &parts)?;
            for (row, offset) in rows.offsets.iter().enumerate() {
                let rises = self.last.replace(*offset).is_none_or(|last| last < *offset);
                if !rises || *offset < file.first.0 || *offset >= file.end.0 {
                    return Err(ArchiveError::Damaged("its offsets are not those that it should have".to_owned()));
                }
                let offset = Offset(*offset);
                let hash = SetHash::of(&rows.messages, row, self.file.partition, offset, &mut self.scratch);
                self.hash = self.hash.and(hash);
            }
            self.rows += rows.offsets.len() as u64;
            yield_now().await;
        }
        Ok(())
    }

    fn verdict(&self, file: &ArchiveFile) -> Result<(), Problem> {
        if self.crc != file.crc {
            return Err(Problem::corrupt("its checksum is not the one that the index knows"));
        }
        if self.rows != file.rows {
            let found = self.rows;
            return Err(Problem::corrupt(format!("it has {found} messages, and the index knows of {}", file.rows)));
        }
        if self.hash != file.set_hash {
            return Err(Problem::corrupt("its messages are not those that the index knows of"));
        }
        Ok(())
    }
}
