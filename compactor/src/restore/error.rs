//! Why a cluster was not restored.

use brigade_index::{ids::Sequence, shard::inspect::InspectError, store::StoreError};

/// Why a cluster was not restored. What was written into the targets stays, marked; the same call goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The list of targets cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The source is no region that can be restored from.
    #[error("the source cannot be restored from: {0}")]
    Source(String),
    /// A target holds something.
    #[error("target {region} is not empty: it holds {key}")]
    NotEmpty {
        /// Name of the target.
        region: String,
        /// Key of an object.
        key: String,
    },
    /// A target was restored in part from something else, or with other targets.
    #[error("target {region} was restored in part already, and not with this source and these targets: {problem}")]
    Other {
        /// Name of the target.
        region: String,
        /// What differs.
        problem: String,
    },
    /// An object of the source is missing or damaged.
    #[error("object {key} of the source: {problem}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The source misses an object, and holds others that lie behind it.
    #[error(
        "the source misses object {key}: it can be restored up to entry {last}, and not what is in the {behind} objects \
         of its journal behind that"
    )]
    Gap {
        /// Key of the missing object.
        key: String,
        /// Last entry before it.
        last: Sequence,
        /// Journal objects behind it.
        behind: u64,
    },
    /// A target does not hold what the source does.
    #[error("target {region} does not hold what the source does: {problem}")]
    Differs {
        /// Name of the target.
        region: String,
        /// What differs.
        problem: String,
    },
    /// A store gave no good answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InspectError> for RestoreError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Store(error) => Self::Store(error),
            error => Self::Source(error.to_string()),
        }
    }
}

impl RestoreError {
    /// A stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_targets",
            Self::Source(_) => "source_unusable",
            Self::NotEmpty { .. } => "target_not_empty",
            Self::Other { .. } => "target_half_restored",
            Self::Damaged { .. } => "source_damaged",
            Self::Gap { .. } => "source_has_gap",
            Self::Differs { .. } => "restore_differs",
            Self::Store(_) => "store_failed",
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "name 1, 3 or 5 targets, each with a name and an empty bucket or prefix of its own",
            Self::Source(_) => "name the bucket of a region that is whole; brigade scrub tells which",
            Self::NotEmpty { .. } => "restore into empty buckets or prefixes; nothing was written into this one",
            Self::Other { .. } => "empty the targets and begin again, or go on with the source and targets of before",
            Self::Damaged { .. } => "brigade scrub --repair takes it from another region; or restore from that one",
            Self::Gap { .. } => {
                "restore from another region; if there is none, --despite-gaps restores what lies before the gap"
            }
            Self::Differs { .. } => "the targets cannot be served; empty them and begin again",
            Self::Store(error) => error.hint(),
        }
    }
}
