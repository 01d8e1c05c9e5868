//! What the archive files of a partition add up to, kept up to date as they come and go: so that whoever asks often need not
//! look at each.

use xxhash_rust::xxh3::xxh3_64;

use crate::{archive::ArchiveFile, ids::RegionNo};

/// Sums over the archive files of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTotals {
    /// Number of files, and their bytes.
    pub all: Sum,
    /// Those that are key-compacted.
    pub compacted: Sum,
    /// Another one whenever there are other files, but for a chance that is not worth a thought.
    pub fingerprint: u64,
    /// Those that each region holds, by number; regions that hold none left out.
    held: Vec<(RegionNo, Sum)>,
}

/// A number of files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    // Bytes wrap around, since a damaged snapshot may name any; what is added is taken away alike.
    fn add(&mut self, bytes: u64) {
        (self.files, self.bytes) = (self.files + 1, self.bytes.wrapping_add(bytes));
    }

    fn take(&mut self, bytes: u64) {
        (self.files, self.bytes) = (self.files.saturating_sub(1), self.bytes.wrapping_sub(bytes));
    }
}

impl FileTotals {
    pub(crate) fn of(files: &[ArchiveFile]) -> Self {
        let mut totals = Self::default();
        files.iter().for_each(|file| totals.add(file));
        totals
    }

    pub(crate) fn add(&mut self, file: &ArchiveFile) {
        self.all.add(file.bytes);
        self.fingerprint = self.fingerprint.wrapping_add(xxh3_64(&file.id.0.to_le_bytes()));
        if file.compacted {
            self.compacted.add(file.bytes);
        }
        file.regions.iter().for_each(|region| self.locate(*region, file.bytes));
    }

    pub(crate) fn take(&mut self, file: &ArchiveFile) {
        self.all.take(file.bytes);
        self.fingerprint = self.fingerprint.wrapping_sub(xxh3_64(&file.id.0.to_le_bytes()));
        if file.compacted {
            self.compacted.take(file.bytes);
        }
        for region in &file.regions {
            if let Ok(at) = self.position(*region) {
                self.held[at].1.take(file.bytes);
                if self.held[at].1.files == 0 {
                    self.held.remove(at);
                }
            }
        }
    }

    /// A region holds one more file, of so many bytes.
    pub(crate) fn locate(&mut self, region: RegionNo, bytes: u64) {
        let at = self.position(region).unwrap_or_else(|at| {
            self.held.insert(at, (region, Sum::default()));
            at
        });
        self.held[at].1.add(bytes);
    }

    fn position(&self, region: RegionNo) -> Result<usize, usize> {
        self.held.binary_search_by_key(&region, |(region, _)| *region)
    }

    /// Files that a region misses.
    pub fn missing_in(&self, region: RegionNo) -> Sum {
        let held = self.position(region).map_or(Sum::default(), |at| self.held[at].1);
        Sum { files: self.all.files.saturating_sub(held.files), bytes: self.all.bytes.wrapping_sub(held.bytes) }
    }
}
