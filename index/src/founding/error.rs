//! Why no cluster was joined.

use std::fmt;

use super::Absence;
use crate::{names::RegionName, store::StoreError};

/// Why no cluster was joined. The text names the regions, what is wrong with each, and what to do.
#[derive(Clone, Debug)]
pub enum FoundingError {
    /// The list of regions can never work.
    Invalid(String),
    /// A cluster is to be founded, or its founding finished, and these regions are not ready for it. The same start
    /// goes on where this one stopped.
    Unready(Vec<Absence>),
    /// No region can be used.
    NoRegion(Vec<Absence>),
    /// The regions belong to several clusters, and no cluster has most of them: every region and the identity of its
    /// cluster.
    Clusters(Vec<(RegionName, String)>),
    /// An identity could not be written while founding. The next start finishes.
    Write(StoreError),
    /// Other nodes wrote identities again and again.
    Unsettled,
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for FoundingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problem) => f.write_str(problem),
            Self::Unready(absent) => {
                write!(f, "a cluster is founded with all its regions reachable and new; {}", list(absent))
            }
            Self::NoRegion(absent) => write!(f, "no region can be used; {}", list(absent)),
            Self::Clusters(found) => {
                let found = found.iter().map(|(region, cluster)| format!("region {region} is of cluster {cluster}"));
                write!(f, "the regions belong to different clusters (name only regions of one): {}", list(found))
            }
            Self::Write(error) => {
                write!(f, "founding broke off: {error} ({}; the next start finishes the founding)", error.hint())
            }
            Self::Unsettled => f.write_str("other nodes write the regions' identities at the same time; start again"),
        }
    }
}

impl std::error::Error for FoundingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write(error) => Some(error),
            _ => None,
        }
    }
}
