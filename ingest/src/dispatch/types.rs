//! What goes into a dispatcher and what comes out.

use brigade_index::ids::{Offset, Partition};

/// Bits of an [`At`] that hold the offset; the rest holds the partition, enough for all that a topic may have.
const OFFSET_BITS: u32 = 54;

const _: () = assert!(brigade_index::limits::MAX_PARTITIONS as u64 <= 1 << (64 - OFFSET_BITS));

/// Priority of a message that names none; 9 comes first.
pub(crate) const DEFAULT_PRIORITY: u8 = 4;

/// Number of priorities.
pub(crate) const PRIORITIES: usize = 10;

/// Where a message is: its partition and its offset in one word, ordered by partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At(pub(crate) u64);

impl At {
    /// Offsets stay far below 2^54: that many messages do not fit into a store.
    pub(crate) const fn new(partition: Partition, offset: Offset) -> Self {
        debug_assert!(offset.0 < 1 << OFFSET_BITS);
        Self((partition.0 as u64) << OFFSET_BITS | offset.0)
    }

    pub(crate) const fn partition(self) -> Partition {
        Partition((self.0 >> OFFSET_BITS) as u32)
    }

    pub(crate) const fn offset(self) -> Offset {
        Offset(self.0 & ((1 << OFFSET_BITS) - 1))
    }

    /// The same word ordered by offset and then by partition, so that no partition comes before all others.
    pub(super) const fn by_age(self) -> u64 {
        self.0.rotate_left(64 - OFFSET_BITS)
    }

    pub(super) const fn from_age(age: u64) -> Self {
        Self(age.rotate_right(64 - OFFSET_BITS))
    }
}

/// A message that is open: not settled, and not known to the dispatcher yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: At,
    /// Hash of its group's name, if it has a group.
    pub(crate) group: Option<u64>,
    /// Hash of its tenant's name. Give messages that are shared out by group their group's hash: that is stored best.
    pub(crate) tenant: u64,
    /// 0 to 9, 9 first.
    pub(crate) priority: u8,
    /// It is not delivered before this time, milliseconds since the epoch; 0 for at once.
    pub(crate) ready_ms: i64,
    /// From this time on it is not delivered any more but handed out as expired.
    pub(crate) expires_ms: Option<i64>,
    /// How often it was delivered before, by earlier reigns.
    pub(crate) deliveries: u32,
    /// When it was delivered first, if it was.
    pub(crate) first_ms: i64,
}

impl Found {
    /// A message without attributes that was never delivered.
    pub(crate) const fn plain(at: At) -> Self {
        let (group, tenant, priority, expires_ms) = (None, 0, DEFAULT_PRIORITY, None);
        Self { at, group, tenant, priority, ready_ms: 0, expires_ms, deliveries: 0, first_ms: 0 }
    }

    /// When it has to be looked at: as soon as it is ready or expired.
    pub(super) fn wake_ms(&self) -> i64 {
        self.ready_ms.min(self.expires_ms.unwrap_or(i64::MAX))
    }
}

/// What a subscription's settings say about the order of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Messages of a group one after the other; otherwise groups mean nothing.
    pub(crate) ordered: bool,
    /// Tenants in turn; otherwise all messages are one tenant's.
    pub(crate) fair: bool,
    /// How long a message waits after its receipt expired, in milliseconds.
    pub(crate) retry_delay_ms: u32,
}

/// A message that was picked: it belongs to the caller until it is delivered, put back or settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) at: At,
    /// Hash of its group, if the rules know groups: of each group at most one message is out at a time.
    pub(crate) group: Option<u64>,
    /// Deliveries so far.
    pub(crate) deliveries: u32,
    /// When it was delivered first, if it was.
    pub(crate) first_ms: i64,
    /// Its time is over: it must be settled instead of delivered.
    pub(crate) expired: bool,
}

/// A delivery, for the receipt and for the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Different for each delivery of a dispatcher, and rising.
    pub(crate) number: u64,
    /// Deliveries so far, this one included.
    pub(crate) deliveries: u32,
    /// When the message was delivered first.
    pub(crate) first_ms: i64,
}

/// A message whose receipt expired. It waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut {
    pub(crate) at: At,
    /// Deliveries so far.
    pub(crate) deliveries: u32,
    /// When it was delivered first.
    pub(crate) first_ms: i64,
    /// When it can be delivered again; 0 for at once.
    pub(crate) ready_ms: i64,
}

/// Why a receipt is not good for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Its deadline is over.
    Expired,
    /// The message was delivered again since.
    Superseded,
    /// The message is being settled by an earlier call with this receipt.
    BeingSettled,
    /// It is not in flight: settled, waiting again, or not known.
    NotInFlight,
}

/// How many messages are where. Each message counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Can be delivered, or are behind the first of their group.
    pub(crate) waiting: u64,
    /// Not ready yet.
    pub(crate) delayed: u64,
    /// Delivered under a receipt.
    pub(crate) in_flight: u64,
    /// In the caller's hands: picked and not delivered yet, or being settled.
    pub(crate) held: u64,
}

impl Counts {
    pub(crate) const fn total(&self) -> u64 {
        self.waiting + self.delayed + self.in_flight + self.held
    }
}
