//! Numbers that name things: offsets, partitions, topics, shards, sequences, ballots.
//!
//! Each is its own type so that an offset can never be passed where a sequence is meant.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number!(
    /// Position of a message in its partition, from 0. Assigned once, never reused.
    Offset(u64)
);
number!(
    /// Partition of a topic, from 0.
    Partition(u32)
);
number!(
    /// Identity of a topic. A topic that is deleted and created again under the same name gets a new one.
    TopicId(u64)
);
number!(
    /// Identity of a queue subscription, given once: one that is deleted and created again is another one.
    SubscriptionId(u64)
);
number!(
    /// Identity of an archive file, given with the claim to write it and never again.
    FileId(u64)
);
number!(
    /// A shard: a group of partitions with one journal per region and one leader.
    ShardId(u32)
);
number!(
    /// A region of the cluster. Given when the region joins and never again, so that a region which was lost and is
    /// replaced under the same name is another one.
    RegionNo(u16)
);
number!(
    /// Position of an entry in its shard's log. The first entry has sequence 1; 0 means "none yet".
    Sequence(u64)
);

impl Offset {
    /// The offset `messages` further on.
    #[must_use]
    pub const fn plus(self, messages: u64) -> Self {
        Self(self.0 + messages)
    }
}

/// The ballot of a reign: totally ordered, never reused, not even by the same node after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Rises with every takeover attempt.
    pub round: u64,
    /// Random nonce of the leader, drawn anew for every attempt; breaks ties between rounds.
    pub nonce: u64,
}

impl Ballot {
    /// The directory in which every path begins before the first takeover. Nobody ever leads under it.
    pub const BOOTSTRAP: Self = Self { round: 0, nonce: 0 };

    /// The timeline: the high part of the round. A promotion, which may lose entries, begins a new one.
    pub const fn timeline(self) -> u64 {
        self.round >> 32
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.round, self.nonce)
    }
}

impl std::str::FromStr for Ballot {
    type Err = std::num::ParseIntError;

    /// From its display: round, point, nonce in hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (round, nonce) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { round: round.parse()?, nonce: u64::from_str_radix(nonce, 16)? })
    }
}

/// Unique identity of one write, carried inside the object, by which a writer recognises its own success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u128);

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
