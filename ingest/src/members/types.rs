//! What members are told, and how they are refused.

use std::{collections::BTreeMap, fmt, str::FromStr};

use brigade_index::{
    ids::{Ballot, Partition},
    names::MemberName,
};

use super::MAX_MEMBERS;

/// One ownership of a partition. Later ones are greater, over all reigns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The reign in which it began.
    pub reign: Ballot,
    /// Counts ownerships within the reign, from 1.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.reign, self.number)
    }
}

impl FromStr for Epoch {
    type Err = std::num::ParseIntError;

    /// From its display: ballot, point, number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (reign, number) = text.rsplit_once('.').unwrap_or((text, ""));
        Ok(Self { reign: reign.parse()?, number: number.parse()? })
    }
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Rises with every change of the group within a reign.
    pub generation: u64,
    /// What it reads, ascending.
    pub partitions: Vec<(Partition, Epoch)>,
    /// What it still owns and is to give up: it reads no more of these, commits what it has, and names them in no further
    /// heartbeat. Ascending.
    pub revoke: Vec<Partition>,
    /// How long partitions that nobody claims are held back after a takeover, in milliseconds.
    pub settles_in_ms: Option<u64>,
}

impl Assignment {
    /// Whether a member that owns `owned` has nothing to do about it.
    pub(crate) fn is_known(&self, owned: &BTreeMap<Partition, Epoch>) -> bool {
        let owned = owned.iter().map(|(partition, epoch)| (*partition, *epoch));
        self.revoke.is_empty() && self.partitions.iter().copied().eq(owned)
    }

    /// Whether both ask the same of the member.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.partitions, &self.revoke) == (&other.partitions, &other.revoke)
    }
}

/// Why a member may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It never joined in this reign, or its session has ended.
    #[error("{0} is no member now: it has not joined since the leader took over, or its session has ended")]
    Unknown(MemberName),
    /// The partition is somebody else's, or nobody's, or the member's under another epoch.
    #[error("partition {partition} is not assigned to {member}{}", if *.reassigned { " under that epoch" } else { "" })]
    NotAssigned {
        /// The member.
        member: MemberName,
        /// The partition.
        partition: Partition,
        /// Whether it is the member's, but under another epoch.
        reassigned: bool,
    },
    /// There are too many members already.
    #[error("the subscription has {MAX_MEMBERS} members already")]
    TooMany,
}

/// A member as others see it.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Its name.
    pub member: MemberName,
    /// How long its session lasts without a heartbeat, in milliseconds.
    pub session_ms: u64,
    /// For how long it has not been heard of, in milliseconds.
    pub quiet_ms: u64,
    /// What it reads, and what it is to give up.
    pub assignment: Assignment,
}
