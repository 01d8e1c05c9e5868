//! Whose turn it is: priorities, in them tenants in turn, and the messages of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    line::{Common, Line, Packed},
    shards::Shards,
    types::{At, DEFAULT_PRIORITY, Found, PRIORITIES},
};

/// What may be delivered next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Candidate {
    /// A touched message.
    Touched(At),
    /// A message as it was found. It may have been settled since.
    Untouched(Found),
}

/// What one tenant has waiting in one priority.
#[derive(Debug, Default)]
struct Lane {
    /// Messages that were delivered before, by age.
    again: BTreeSet<u64>,
    /// What is left of a run that was reached.
    run: Option<(At, u64)>,
    /// Messages as they were found.
    line: Line,
}

/// A tenant's lane. Millions of tenants have one message each: then there is nothing else.
#[derive(Debug)]
enum Slot {
    /// It leaves when its turn comes.
    Empty,
    /// One message as it was found.
    One(Packed),
    Many(Box<Lane>),
}

const _: () = assert!(size_of::<Slot>() == 16);

/// One priority.
#[derive(Debug)]
struct Level {
    /// Messages that were put back, in the order in which they had been picked.
    returned: BTreeMap<u64, At>,
    /// Tenants with a lane, the one whose turn it is first.
    turns: VecDeque<u64>,
    lanes: Shards<Slot>,
}

impl Level {
    fn new() -> Self {
        Self { returned: BTreeMap::new(), turns: VecDeque::new(), lanes: Shards::new() }
    }

    /// A tenant's lane. A tenant that had none gets the last turn.
    fn slot(&mut self, tenant: u64) -> &mut Slot {
        if self.lanes.get(tenant).is_none() {
            self.lanes.insert(tenant, Slot::Empty);
            self.turns.push_back(tenant);
        }
        self.lanes.get_mut(tenant).expect("it was there or put there")
    }

    /// The tenant whose turn it is has nothing. Gives memory back when few are left.
    fn leave(&mut self, tenant: u64) {
        self.turns.pop_front();
        self.lanes.remove(tenant);
        if self.turns.capacity() > 64 && self.turns.len() < self.turns.capacity() / 8 {
            self.turns.shrink_to(self.turns.len() * 2);
        }
    }
}

/// All that waits and may be delivered.
#[derive(Debug)]
pub(super) struct Lanes {
    levels: [Level; PRIORITIES],
    /// A bit for each priority that has something, or had.
    occupied: u16,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { levels: std::array::from_fn(|_| Level::new()), occupied: 0 }
    }

    fn level(&mut self, priority: u8) -> &mut Level {
        self.occupied |= 1 << priority;
        &mut self.levels[usize::from(priority)]
    }

    pub(super) fn push(&mut self, found: &Found) {
        let common = common(found.priority, found.tenant);
        let slot = self.level(found.priority).slot(found.tenant);
        match Packed::of(&common, found) {
            Some(packed) if matches!(slot, Slot::Empty) => *slot = Slot::One(packed),
            _ => slot.lane(&common).line.push(&common, found),
        }
    }

    /// Plain messages: those of the default tenant and priority.
    pub(super) fn push_run(&mut self, first: At, rows: u64) {
        self.level(DEFAULT_PRIORITY).slot(0).lane(&common(DEFAULT_PRIORITY, 0)).line.push_run(first, rows);
    }

    pub(super) fn push_again(&mut self, priority: u8, tenant: u64, at: At) {
        self.level(priority).slot(tenant).lane(&common(priority, tenant)).again.insert(at.by_age());
    }

    pub(super) fn remove_again(&mut self, priority: u8, tenant: u64, at: At) {
        if let Some(Slot::Many(lane)) = self.levels[usize::from(priority)].lanes.get_mut(tenant) {
            lane.again.remove(&at.by_age());
        }
    }

    pub(super) fn push_returned(&mut self, priority: u8, number: u64, at: At) {
        self.level(priority).returned.insert(number, at);
    }

    pub(super) fn remove_returned(&mut self, priority: u8, number: u64) {
        self.levels[usize::from(priority)].returned.remove(&number);
    }

    /// Pops what is next. If it cannot be delivered after all, the turn is not used up: the next call goes on in the
    /// same lane. Else [`Lanes::end_turn`].
    ///
    /// `skip` says from which message on a run that is reached is worth looking at.
    pub(super) fn pop(&mut self, skip: impl Fn(At) -> At) -> Option<(Turn, Candidate)> {
        while self.occupied != 0 {
            let priority = self.occupied.ilog2() as u8;
            let level = &mut self.levels[usize::from(priority)];
            if let Some((_, at)) = level.returned.pop_first() {
                return Some((Turn::OutOfTurn, Candidate::Touched(at)));
            }
            let Some(&tenant) = level.turns.front() else {
                self.occupied &= !(1 << priority);
                continue;
            };
            let common = common(priority, tenant);
            if let Some(candidate) = level.lanes.get_mut(tenant).and_then(|slot| slot.pop(&common, &skip)) {
                return Some((Turn::Of(priority), candidate));
            }
            level.leave(tenant);
        }
        None
    }

    /// The tenant whose turn it was in this priority comes last now, even if it has nothing left: it leaves when its
    /// turn comes and it has nothing.
    pub(super) fn end_turn(&mut self, turn: Turn) {
        if let Turn::Of(priority) = turn {
            let turns = &mut self.levels[usize::from(priority)].turns;
            turns.rotate_left(turns.len().min(1));
        }
    }
}

/// Whose turn a candidate takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// That of the first tenant of a priority.
    Of(u8),
    /// Nobody's: it was put back, so its turn was taken before.
    OutOfTurn,
}

/// What the messages of a lane have in common.
const fn common(priority: u8, tenant: u64) -> Common {
    Common { group: None, tenant, priority }
}

impl Slot {
    /// Makes room for more than one message.
    fn lane(&mut self, common: &Common) -> &mut Lane {
        if !matches!(self, Self::Many(_)) {
            let mut lane = Box::<Lane>::default();
            if let Self::One(packed) = self {
                lane.line.push(common, &packed.unpack(common));
            }
            *self = Self::Many(lane);
        }
        match self {
            Self::Many(lane) => lane,
            _ => unreachable!("it was just made so"),
        }
    }

    fn pop(&mut self, common: &Common, skip: impl Fn(At) -> At) -> Option<Candidate> {
        match self {
            Self::Many(lane) => lane.pop(common, skip),
            Self::One(packed) => {
                let found = packed.unpack(common);
                *self = Self::Empty;
                Some(Candidate::Untouched(found))
            }
            Self::Empty => None,
        }
    }
}

impl Lane {
    fn pop(&mut self, common: &Common, skip: impl Fn(At) -> At) -> Option<Candidate> {
        if let Some(age) = self.again.pop_first() {
            return Some(Candidate::Touched(At::from_age(age)));
        }
        loop {
            if let Some((at, rows)) = self.run.take() {
                let jump = skip(at).0.saturating_sub(at.0);
                if jump < rows {
                    let (at, rows) = (At(at.0 + jump), rows - jump);
                    self.run = (rows > 1).then_some((At(at.0 + 1), rows - 1));
                    return Some(Candidate::Untouched(Found::plain(at)));
                }
            }
            let (found, rows) = self.line.pop(common)?;
            if rows == 1 {
                return Some(Candidate::Untouched(found));
            }
            self.run = Some((found.at, rows));
        }
    }
}
