//! What is known of each message that was touched: picked, delivered, held or put off by this dispatcher.

use std::collections::BTreeMap;

use brigade_index::sparse::{PAGE, Sparse};

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

/// A touched message.
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

/// What is kept of every touched message.
#[derive(Clone, Copy, Debug)]
struct Common {
    first_ms: i64,
    when_ms: i64,
    number: u64,
    deliveries: u32,
    priority: u8,
    state: State,
    has_group: bool,
    delivered: bool,
}

/// What is kept only of those that have a group, a tenant or an end.
#[derive(Clone, Copy, Debug)]
struct Rare {
    group: u64,
    tenant: u64,
    expires_ms: i64,
}

const _: () = assert!(size_of::<Common>() == 32 && size_of::<Rare>() == 24);

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

    fn split(self) -> (Common, Option<Rare>) {
        let Self { group, tenant, expires_ms, first_ms, when_ms, number, deliveries, .. } = self;
        let Self { priority, state, has_group, delivered, .. } = self;
        let rare = (has_group || tenant != 0 || expires_ms != i64::MAX).then_some(Rare { group, tenant, expires_ms });
        (Common { first_ms, when_ms, number, deliveries, priority, state, has_group, delivered }, rare)
    }

    fn join(common: &Common, rare: Option<&Rare>) -> Self {
        let Common { first_ms, when_ms, number, deliveries, priority, state, has_group, delivered } = *common;
        let Rare { group, tenant, expires_ms } =
            rare.copied().unwrap_or(Rare { group: 0, tenant: 0, expires_ms: i64::MAX });
        Self { group, tenant, expires_ms, first_ms, when_ms, number, deliveries, priority, state, has_group, delivered }
    }
}

/// Touched messages of 64 consecutive offsets. What is touched lies close together as a rule, so a page costs little more
/// than its records: 32 bytes of each, and 24 more of those with a group, a tenant or an end.
#[derive(Debug, Default)]
struct Page {
    common: Sparse<Common>,
    rare: Sparse<Rare>,
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
    pub(super) fn get(&self, at: At) -> Option<Record> {
        let (page, bit) = place(at);
        let page = self.pages.get(&page)?;
        page.common.get(bit).map(|common| Record::join(common, page.rare.get(bit)))
    }

    pub(super) fn contains(&self, at: At) -> bool {
        let (page, bit) = place(at);
        self.pages.get(&page).is_some_and(|page| page.common.get(bit).is_some())
    }

    /// Whether a message is in flight or delayed, and until when.
    pub(super) fn waits_until(&self, at: At) -> Option<i64> {
        let (page, bit) = place(at);
        let common = self.pages.get(&page)?.common.get(bit)?;
        matches!(common.state, State::InFlight | State::Delayed).then_some(common.when_ms)
    }

    /// Puts a record in, or in the place of the one that is there.
    pub(super) fn put(&mut self, at: At, record: Record) {
        let (page, bit) = place(at);
        let page = self.pages.entry(page).or_default();
        let (common, rare) = record.split();
        page.common.put(bit, common);
        match rare {
            Some(rare) => page.rare.put(bit, rare),
            None => page.rare.remove(bit),
        }
    }

    pub(super) fn remove(&mut self, at: At) {
        let (number, bit) = place(at);
        let Some(page) = self.pages.get_mut(&number) else { return };
        page.common.remove(bit);
        page.rare.remove(bit);
        if page.common.present() == 0 {
            self.pages.remove(&number);
        }
    }

    /// The first touched message from `from` on and before `end`.
    pub(super) fn first_within(&self, from: At, end: At) -> Option<At> {
        let (first, bit) = place(from);
        let found = self.pages.range(first..).find_map(|(number, page)| {
            let from = if *number == first { bit } else { 0 };
            let present = page.common.present() & (u64::MAX << from);
            (present != 0).then(|| At(number * PAGE + u64::from(present.trailing_zeros())))
        });
        found.filter(|at| *at < end)
    }
}
