//! What can be wrong with an archive file.

use parquet::errors::ParquetError;

use crate::batch::BatchError;

/// Why an archive file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are not those that were written: a checksum differs, or what they say cannot be.
    #[error("the archive file is damaged: {0}")]
    Damaged(String),
    /// It is a file of something else: another cluster, topic, partition, or range of offsets.
    #[error("not the archive file that belongs here: its {what} is {found}, not {expected}")]
    Foreign {
        /// Which fact differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What the index says.
        expected: String,
    },
    /// The file has a form that this version does not know.
    #[error("the archive file has format {0}, which this version does not know: read it with a newer one")]
    Format(String),
    /// The caller wrote or merged something that does not go into the file: offsets that do not rise or are outside of
    /// the file's range, or row groups that are not in order.
    #[error("this does not go into the archive file: {0}")]
    Misplaced(String),
    /// Bytes that are needed were not handed over.
    #[error("bytes {0} to {1} of the archive file are needed and were not fetched")]
    Missing(u64, u64),
    /// Parquet refused it.
    #[error("Parquet refused the archive file: {0}")]
    Parquet(#[from] ParquetError),
    /// Its messages have other columns than messages have.
    #[error("the messages of the archive file: {0}")]
    Batch(#[from] BatchError),
}

impl ArchiveError {
    /// A stable name of what is wrong, for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged(_) | Self::Parquet(_) | Self::Batch(_) => "archive_file_damaged",
            Self::Foreign { .. } => "archive_file_foreign",
            Self::Format(_) => "archive_file_format_unknown",
            Self::Misplaced(_) => "archive_rows_misplaced",
            Self::Missing(..) => "archive_bytes_missing",
        }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

/// Calls Parquet or Arrow on bytes from outside. Both assert here and there what they should refuse.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, ArchiveError>) -> Result<T, ArchiveError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(ArchiveError::damaged("Parquet cannot read it")))
}
