//! What is known of each message that was touched: picked, delivered, held or put off by this dispatcher.

use std::collections::BTreeMap;

use super::types::{At, Found};

/// Where a touched message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Given to the caller, who delivers it, puts it back or settles it.
    Picked,
    /// Delivered; its receipt is good until `when_ms`.
    InFlight,
    /// Being settled.
    Held,
    /// Not ready before `when_ms`.
    Delayed,
    /// Waits in front of younger messages of its lane.
    Again,
    /// Put back: waits in front of everything of its priority.
    Returned,
}

/// A touched message, in 56 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) group: u64,
    pub(super) tenant: u64,
    /// `i64::MAX` for never.
    pub(super) expires_ms: i64,
    pub(super) first_ms: i64,
    /// Deadline of its receipt, or when it is ready.
    pub(super) when_ms: i64,
    /// Number of the pick, and of the delivery that came of it.
    pub(super) number: u64,
    pub(super) deliveries: u32,
    pub(super) priority: u8,
    pub(super) state: State,
    pub(super) has_group: bool,
    /// Whether this dispatcher delivered it.
    pub(super) delivered: bool,
}

const _: () = assert!(size_of::<Record>() == 56);

impl Record {
    pub(super) fn new(found: &Found, state: State) -> Self {
        Self {
            group: found.group.unwrap_or_default(),
            tenant: found.tenant,
            expires_ms: found.expires_ms.unwrap_or(i64::MAX),
            first_ms: found.first_ms,
            when_ms: 0,
            number: 0,
            deliveries: found.deliveries,
            priority: found.priority,
            state,
            has_group: found.group.is_some(),
            delivered: false,
        }
    }

    /// It was delivered so often before, at least.
    pub(super) fn recall(&mut self, deliveries: u32, first_ms: i64) {
        if deliveries > self.deliveries {
            self.first_ms = if self.deliveries == 0 { first_ms } else { self.first_ms };
            self.deliveries = deliveries;
        }
    }

    pub(super) fn group(&self) -> Option<u64> {
        self.has_group.then_some(self.group)
    }
}

/// Messages of a page.
const PAGE: u64 = u64::BITS as u64;

/// Touched messages of 64 consecutive offsets, in ascending order. What is touched lies close together as a rule, so a
/// page costs little more than its records.
#[derive(Debug, Default)]
struct Page {
    present: u64,
    records: Vec<Record>,
}

impl Page {
    /// Where a message's record is, or would be.
    fn rank(&self, bit: u64) -> usize {
        (self.present & ((1 << bit) - 1)).count_ones() as usize
    }

    fn has(&self, bit: u64) -> bool {
        self.present >> bit & 1 == 1
    }
}

/// Records by place.
#[derive(Debug, Default)]
pub(super) struct Records {
    pages: BTreeMap<u64, Page>,
}

const fn place(at: At) -> (u64, u64) {
    (at.0 / PAGE, at.0 % PAGE)
}

impl Records {
    pub(super) fn get(&self, at: At) -> Option<&Record> {
        let (page, bit) = place(at);
        let page = self.pages.get(&page).filter(|page| page.has(bit))?;
        page.records.get(page.rank(bit))
    }

    pub(super) fn contains(&self, at: At) -> bool {
        self.get(at).is_some()
    }

    /// Puts a record in, or in the place of the one that is there.
    pub(super) fn put(&mut self, at: At, record: Record) {
        let (page, bit) = place(at);
        let page = self.pages.entry(page).or_default();
        let rank = page.rank(bit);
        if page.has(bit) {
            page.records[rank] = record;
            return;
        }
        if page.records.len() == page.records.capacity() {
            page.records.reserve_exact(page.records.len().max(1));
        }
        page.records.insert(rank, record);
        page.present |= 1 << bit;
    }

    pub(super) fn remove(&mut self, at: At) -> Option<Record> {
        let (number, bit) = place(at);
        let page = self.pages.get_mut(&number).filter(|page| page.has(bit))?;
        let record = page.records.remove(page.rank(bit));
        page.present &= !(1 << bit);
        if page.records.is_empty() {
            self.pages.remove(&number);
        } else if page.records.len() * 4 <= page.records.capacity() {
            page.records.shrink_to(page.records.len() * 2);
        }
        Some(record)
    }

    /// The first touched message from `from` on and before `end`.
    pub(super) fn first_within(&self, from: At, end: At) -> Option<At> {
        let (first, bit) = place(from);
        let found = self.pages.range(first..).find_map(|(number, page)| {
            let from = if *number == first { bit } else { 0 };
            let present = page.present & (u64::MAX << from);
            (present != 0).then(|| At(number * PAGE + u64::from(present.trailing_zeros())))
        });
        found.filter(|at| *at < end)
    }
}
