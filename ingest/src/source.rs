//! Where messages are: in a batch of the journal, or in an archive file. Pure.

use std::sync::Arc;

use brigade_index::{
    archive::ArchiveFile,
    batch::AttributeSet,
    ids::Offset,
    state::{PartitionLog, Run},
};

/// What has the messages of some offsets. That an offset lies between two of them, before the high watermark, means that
/// there is no message at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Messages of a batch, without gaps.
    Run(Run),
    /// An archive file, with gaps if it was key-compacted.
    File(Arc<ArchiveFile>),
}

impl Source {
    /// First offset that it covers.
    pub(crate) fn first(&self) -> Offset {
        match self {
            Self::Run(run) => run.base,
            Self::File(file) => file.first,
        }
    }

    /// The offset after the last that it covers.
    pub(crate) fn end(&self) -> Offset {
        match self {
            Self::Run(run) => run.end(),
            Self::File(file) => file.end,
        }
    }

    /// Messages in it.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Run(run) => u64::from(run.rows),
            Self::File(file) => file.rows,
        }
    }

    /// Bytes of so many messages of it, on average, as far as is known without reading them.
    pub(crate) fn share(&self, rows: u64) -> u64 {
        let bytes = match self {
            Self::Run(run) => u64::from(run.batch.len),
            Self::File(file) => file.payload_bytes,
        };
        scale(bytes, rows, self.rows())
    }

    /// Which attributes its messages use.
    pub(crate) fn attributes(&self) -> AttributeSet {
        match self {
            Self::Run(run) => run.attributes,
            Self::File(file) => file.attributes,
        }
    }

    /// Smallest and largest timestamp.
    pub(crate) fn timestamps(&self) -> (i64, i64) {
        match self {
            Self::Run(run) => (run.min_timestamp_ms, run.max_timestamp_ms),
            Self::File(file) => (file.min_timestamp_ms, file.max_timestamp_ms),
        }
    }

    /// Whether there may be no message at an offset that it covers.
    pub(crate) fn has_gaps(&self) -> bool {
        matches!(self, Self::File(file) if file.has_gaps())
    }
}

/// The sources from the one that covers `offset` on, or else from the first behind it on.
pub(crate) fn sources_from(log: &PartitionLog, offset: Offset) -> impl Iterator<Item = Source> + '_ {
    let files = log.files_from(offset).iter().map(|file| Source::File(Arc::new(file.clone())));
    files.chain(log.runs_from(offset).iter().map(|run| Source::Run(*run)))
}

/// `value` times `up` by `down`, as far as it fits.
pub(crate) fn scale(value: u64, up: u64, down: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(up) / u128::from(down.max(1))).unwrap_or(u64::MAX)
}
