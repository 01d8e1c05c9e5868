//! Why a shard could not be started.

use object_store::path::Path;

use super::ProposeError;
use crate::{format::FrameError, founding::Absence, ids::Ballot, names::RegionName, region::Mark, store::StoreError};

/// Why a shard could not be taken over or recovered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// A store did not answer.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// A stored object is missing or damaged.
    #[error("object {key} of region {region} is damaged: {problem}")]
    Damaged {
        /// Name of the region.
        region: String,
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The regions together do not have what was committed.
    #[error("entries that were committed are missing in all regions that promised; nothing may be served")]
    Missing,
    /// Too few regions answer.
    #[error("{needed} of {of} regions must answer: {}", list(problems))]
    Quorum {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        of: usize,
        /// What is wrong with those that do not.
        problems: Vec<(RegionName, String)>,
    },
    /// A region's store is not what it was when the node joined it, or does not say what it is.
    #[error("{0}")]
    Absent(#[from] Box<Absence>),
    /// A region lost what it had accepted.
    #[error(
        "region {region} has lost entries that it had accepted (up to {}): it was restored from an old copy; replace it",
        mark.sequence
    )]
    Backwards {
        /// Name of the region.
        region: String,
        /// How far it had come.
        mark: Mark,
    },
    /// Other nodes took the shard over again and again.
    #[error("another node took the shard over at the same time; last seen ballot {0}")]
    Contended(Ballot),
    /// The first entry was not committed.
    #[error("the first entry was not committed: {0}")]
    FirstEntry(#[from] ProposeError),
}

fn list(problems: &[(RegionName, String)]) -> String {
    let listed: Vec<_> = problems.iter().map(|(region, problem)| format!("{region}: {problem}")).collect();
    if listed.is_empty() { "they are slow".to_owned() } else { listed.join("; ") }
}

impl StartError {
    pub(super) fn damaged(region: &RegionName, key: &Path, error: &FrameError) -> Self {
        Self::Damaged { region: region.to_string(), key: key.to_string(), problem: error.to_string() }
    }

    pub(super) fn missing(region: &RegionName, key: &Path) -> Self {
        Self::Damaged { region: region.to_string(), key: key.to_string(), problem: "it does not exist".to_owned() }
    }
}
