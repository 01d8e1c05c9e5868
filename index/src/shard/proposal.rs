//! What goes into a shard and what comes out.

use bytes::Bytes;

use super::status::LAG_ENTRIES;
use crate::{
    command::{Applied, Command},
    format::Leader,
    ids::{Ballot, RegionNo, Sequence, ShardId},
    names::RegionName,
};

/// Called once with what came of a proposal, on the shard's own task: it must be quick and must not block.
pub type OnDone = Box<dyn FnOnce(Result<Committed, ProposeError>) + Send>;

/// Commands to be committed together, in one entry, and the inline batches that they refer to.
pub struct Proposal {
    /// The commands. Places of batches are relative to this proposal's body.
    pub commands: Vec<Command>,
    /// Bytes of the batches, end to end.
    pub body: Vec<Bytes>,
    /// Where the answer goes.
    pub done: OnDone,
}

/// A committed proposal.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its entry.
    pub sequence: Sequence,
    /// Where the proposal's body begins in the entry's object, in bytes.
    pub body_at: u64,
    /// What came of each command.
    pub outcomes: Vec<Applied>,
}

/// Why a proposal was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Definitely not stored: this node does not lead the shard.
    #[error("this node does not lead the shard any more; {}", describe(leader.as_ref()))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Leader>,
    },
    /// Definitely not stored: the store does not take writes at present.
    #[error("the store does not take writes: {0}")]
    Unavailable(String),
    /// Definitely not stored: too few regions take writes at present.
    #[error("too few regions take writes: {0}")]
    Quorum(String),
    /// It may or may not be stored, now or later.
    #[error("it is not known whether the write was stored: {0}")]
    Unknown(String),
    /// Definitely not stored: the node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl ProposeError {
    /// Whether this node will give the same answer to whatever comes.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::Quorum(_))
    }
}

fn describe(leader: Option<&Leader>) -> String {
    match leader {
        Some(Leader { node, address, .. }) if address.is_empty() => format!("node {node} took over"),
        Some(Leader { node, address, .. }) => format!("node {node} at {address} took over"),
        None => "another node took over".to_owned(),
    }
}

/// Why bytes of a batch could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The store did not answer in time.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The object is missing, cut off, or its checksum does not match.
    #[error("object {key} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// State of a shard in brief.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// `leading`, `deposed`, `broken` or `stopped`.
    pub state: &'static str,
    /// Ballot of this node's reign.
    pub ballot: Ballot,
    /// Last entry committed.
    pub committed: Sequence,
    /// Last entry sealed.
    pub sealed: Sequence,
    /// Appends in flight.
    pub in_flight: usize,
    /// Last entry that a snapshot covers.
    pub snapshot: Sequence,
    /// Size of that snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The present leader if another node took over.
    pub deposed_by: Option<Leader>,
    /// Why the store does not take writes at present.
    pub store_problem: Option<String>,
    /// When this reign's takeover was done, milliseconds since the Unix epoch by this node's clock; `None` when the driver
    /// did not note it.
    pub leader_since_ms: Option<i64>,
    /// How long this reign's takeover took, in milliseconds; `None` when the driver did not note it.
    pub takeover_ms: Option<u64>,
    /// The regions that vote.
    pub voters: Vec<RegionNo>,
    /// Every region that the shard is written to, those that do not vote yet included.
    pub regions: Vec<RegionStatus>,
    /// The change of the set of regions that is under way, in words.
    pub change: Option<String>,
}

/// Every state that a region can be in, as [`RegionStatus::state`] names it.
pub const REGION_STATES: [&str; 7] =
    ["in_sync", "behind", "catching_up", "joining", "unreachable", "refused", "deposed"];

/// How far a shard has come in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// The region.
    pub number: RegionNo,
    /// Its name.
    pub name: RegionName,
    /// URL of its store; empty when the cluster has no record of it. May hold what must not be shown.
    pub url: String,
    /// Whether it votes.
    pub votes: bool,
    /// One of [`REGION_STATES`].
    pub state: &'static str,
    /// Last entry accepted.
    pub accepted: Sequence,
    /// Committed entries that it has not accepted.
    pub behind_entries: u64,
    /// Bytes of those entries.
    pub behind_bytes: u64,
    /// For how long the oldest of those entries has been committed, in milliseconds.
    pub behind_ms: u64,
    /// Bodies of entries that it has accepted without having a copy of their bytes.
    pub copies_missing: u64,
    /// Archive files that it does not hold yet.
    pub files_missing: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
}

impl ShardStatus {
    /// Of a node that has not led the shard yet.
    pub fn unknown(shard: ShardId) -> Self {
        Self {
            shard,
            state: "looking",
            ballot: Ballot::BOOTSTRAP,
            committed: Sequence(0),
            sealed: Sequence(0),
            in_flight: 0,
            snapshot: Sequence(0),
            snapshot_bytes: 0,
            deposed_by: None,
            store_problem: None,
            leader_since_ms: None,
            takeover_ms: None,
            voters: Vec::new(),
            regions: Vec::new(),
            change: None,
        }
    }

    /// How many of the voters are a quorum.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether partitions of the shard are under-replicated: a region that votes is not in sync. Only a leader can say so.
    pub fn is_under_replicated(&self) -> bool {
        self.state == "leading" && self.voters_that(|region| region.state == "in_sync") < self.voters.len()
    }

    /// Whether partitions of the shard are offline: this node knows of no leader that can commit. Of a leader elsewhere it
    /// is taken for granted; this node itself can if a quorum of the regions that vote takes its entries.
    pub fn is_offline(&self) -> bool {
        if self.state != "leading" {
            return self.deposed_by.is_none();
        }
        // A region that misses nothing but archive files takes entries like any other.
        let files_only = |region: &RegionStatus| region.files_missing > 0 && region.copies_missing == 0;
        let takes_entries = |region: &RegionStatus| match region.state {
            "in_sync" | "behind" => true,
            "catching_up" => files_only(region) && region.behind_entries <= LAG_ENTRIES,
            _ => false,
        };
        self.store_problem.is_some() || self.voters_that(takes_entries) < self.quorum()
    }

    /// How many voters meet the condition; one without a status does not.
    fn voters_that(&self, condition: impl Fn(&RegionStatus) -> bool) -> usize {
        self.regions.iter().filter(|region| self.voters.contains(&region.number) && condition(region)).count()
    }
}

/// Why the set of regions was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The wanted set can never be, or not from the present one.
    #[error("{0}")]
    Invalid(String),
    /// Another change is under way.
    #[error("another change of the regions is under way: {0}")]
    InProgress(String),
    /// This node does not lead the shard.
    #[error("this node does not lead the shard; {}", describe(leader.as_ref()))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Leader>,
    },
    /// It broke off in the middle; how far it came shows in the list of regions. Begin it again.
    #[error("the change broke off: {0}; begin it again")]
    Interrupted(String),
    /// A region's store cannot be used.
    #[error("region {region} cannot be used: {problem}")]
    Store {
        /// The region.
        region: RegionName,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(number: u16, votes: bool, state: &'static str) -> RegionStatus {
        RegionStatus {
            number: RegionNo(number),
            name: RegionName::new(&format!("r{number}")).unwrap(),
            url: String::new(),
            votes,
            state,
            accepted: Sequence(1),
            behind_entries: 0,
            behind_bytes: 0,
            behind_ms: 0,
            copies_missing: 0,
            files_missing: 0,
            problem: None,
            hint: None,
        }
    }

    fn status(state: &'static str, regions: [&'static str; 3]) -> ShardStatus {
        let mut regions: Vec<_> = (0..).zip(regions).map(|(number, state)| region(number, true, state)).collect();
        regions.push(region(3, false, "joining"));
        ShardStatus {
            state,
            ballot: Ballot::default(),
            committed: Sequence(1),
            sealed: Sequence(1),
            in_flight: 0,
            snapshot: Sequence(0),
            voters: (0..3).map(RegionNo).collect(),
            regions,
            ..ShardStatus::unknown(ShardId(0))
        }
    }

    #[test]
    fn one_voter_out_of_sync_makes_partitions_under_replicated_and_two_make_them_offline() {
        let judge = |status: &ShardStatus| (status.is_under_replicated(), status.is_offline());
        assert_eq!(judge(&status("leading", ["in_sync"; 3])), (false, false), "a region that joins does not count");
        assert_eq!(judge(&status("leading", ["in_sync", "in_sync", "behind"])), (true, false));
        assert_eq!(judge(&status("leading", ["in_sync", "in_sync", "unreachable"])), (true, false));
        assert_eq!(judge(&status("leading", ["in_sync", "refused", "catching_up"])), (true, true));
        let mut unknown = status("leading", ["in_sync"; 3]);
        unknown.regions.remove(0);
        assert_eq!(judge(&unknown), (true, false));
        unknown.store_problem = Some("no".to_owned());
        assert_eq!(judge(&unknown), (true, true));
    }

    #[test]
    fn a_node_that_does_not_lead_trusts_a_leader_it_knows() {
        let mut deposed = status("deposed", ["deposed"; 3]);
        assert!(deposed.is_offline() && !deposed.is_under_replicated());
        deposed.deposed_by = Some(Leader { node: "n".to_owned(), address: String::new(), time_ms: 1 });
        assert!(!deposed.is_offline());
    }
}
