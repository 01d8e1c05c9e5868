//! Which message of a request got which offset.

use brigade_index::{
    command::{DuplicateRows, Placement},
    ids::{Offset, Partition},
};

/// How the partition of a message was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// By the client.
    Explicit(Partition),
    /// By the hash of its group, or else of its key.
    Hash(u64),
    /// It has neither.
    Keyless,
}

impl Route {
    /// The partition, in a topic of so many partitions.
    pub(crate) fn partition(self, partitions: u32, keyless: Partition) -> Partition {
        match self {
            Self::Explicit(partition) => partition,
            Self::Hash(hash) => Partition((hash % u64::from(partitions.max(1))) as u32),
            Self::Keyless => keyless,
        }
    }
}

/// For each message of a request the place of its partition among those that the request used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    messages: usize,
    /// Empty while all messages went to the first partition, as in most requests.
    slots: Vec<u16>,
}

impl Order {
    pub(crate) fn push(&mut self, slot: usize) {
        if slot > 0 && self.slots.is_empty() {
            self.slots = vec![0; self.messages];
        }
        if slot > 0 || !self.slots.is_empty() {
            self.slots.push(slot as u16);
        }
        self.messages += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    /// Where each message is, from where the request's messages are in each partition that it used.
    pub(crate) fn place(&self, parts: &[PartPlaces]) -> Places {
        let mut parts: Vec<_> = parts.iter().map(Cursor::new).collect();
        let mut places = Places { placed: Vec::with_capacity(self.messages), duplicates: Vec::new() };
        if self.slots.is_empty() {
            (0..self.messages).for_each(|_| places.push(parts[0].next()));
        } else {
            self.slots.iter().for_each(|slot| places.push(parts[usize::from(*slot)].next()));
        }
        places
    }
}

/// Where the messages of a request in one partition are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartPlaces {
    pub(crate) partition: Partition,
    /// Offset of the first that was stored; the others that were stored follow it.
    pub(crate) base: Offset,
    /// Those that were dropped for their deduplication ids, ascending; rows count the request's messages for this
    /// partition.
    pub(crate) duplicates: Vec<DuplicateRows>,
}

/// Where each message of a request is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Partition and offset of each message, or of its original.
    pub(crate) placed: Vec<(Partition, Offset)>,
    /// Indexes of those that are duplicates, ascending.
    pub(crate) duplicates: Vec<usize>,
}

impl Places {
    fn push(&mut self, (place, duplicate): ((Partition, Offset), bool)) {
        if duplicate {
            self.duplicates.push(self.placed.len());
        }
        self.placed.push(place);
    }
}

/// The messages of a request in one partition, one after the other.
struct Cursor<'a> {
    partition: Partition,
    next: Offset,
    row: u32,
    duplicates: &'a [DuplicateRows],
}

impl<'a> Cursor<'a> {
    fn new(part: &'a PartPlaces) -> Self {
        Self { partition: part.partition, next: part.base, row: 0, duplicates: &part.duplicates }
    }

    /// Where the next message is, and whether it is a duplicate.
    fn next(&mut self) -> ((Partition, Offset), bool) {
        let row = self.row;
        self.row += 1;
        if let [run, rest @ ..] = self.duplicates
            && run.first <= row
        {
            let within = row - run.first;
            if within + 1 >= run.rows {
                self.duplicates = rest;
            }
            return ((run.partition, run.offset.plus(u64::from(within))), true);
        }
        let offset = self.next;
        self.next = offset.next();
        ((self.partition, offset), false)
    }
}

/// The original's answer for a repeated request with these messages; `None` when they cannot be the original's.
pub(crate) fn replay(routes: &[Route], original: &Placement) -> Option<Places> {
    let mut bases = original.bases.clone();
    bases.sort_unstable_by_key(|(partition, ..)| *partition);
    let mut parts: Vec<_> = bases.iter().map(|(partition, base, _)| part_of(*partition, *base)).collect();
    let place_of = |partition: &Partition| bases.binary_search_by_key(partition, |(partition, ..)| *partition).ok();
    for (partition, run) in &original.duplicates {
        parts[place_of(partition)?].duplicates.push(*run);
    }
    let mut cursors: Vec<_> = parts.iter().map(Cursor::new).collect();
    let mut places = Places { placed: Vec::with_capacity(routes.len()), duplicates: Vec::new() };
    for route in routes {
        let at = place_of(&route.partition(original.partition_count, original.keyless))?;
        if cursors[at].row == bases[at].2 {
            return None;
        }
        places.push(cursors[at].next());
    }
    cursors.iter().zip(&bases).all(|(cursor, (.., rows))| cursor.row == *rows).then_some(places)
}

fn part_of(partition: Partition, base: Offset) -> PartPlaces {
    PartPlaces { partition, base, duplicates: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Placement {
        Placement {
            partition_count: 4,
            keyless: Partition(2),
            bases: vec![(Partition(3), Offset(70), 2), (Partition(2), Offset(10), 1)],
            duplicates: Vec::new(),
        }
    }

    #[test]
    fn a_repeated_request_gets_the_original_answer() {
        let routes = [Route::Hash(7), Route::Keyless, Route::Explicit(Partition(3))];
        let at = |partition, offset| (Partition(partition), Offset(offset));
        let places = replay(&routes, &original()).unwrap();
        assert_eq!(places, Places { placed: vec![at(3, 70), at(2, 10), at(3, 71)], duplicates: Vec::new() });
        // The same request if its first message was a duplicate of one that went elsewhere.
        let run = DuplicateRows { first: 0, rows: 1, partition: Partition(9), offset: Offset(4) };
        let original = Placement { duplicates: vec![(Partition(3), run)], ..original() };
        let places = replay(&routes, &original).unwrap();
        assert_eq!(places, Places { placed: vec![at(9, 4), at(2, 10), at(3, 70)], duplicates: vec![0] });
    }

    #[test]
    fn duplicates_leave_no_gap_in_the_offsets_of_the_others() {
        let run = |first, rows, partition, offset| DuplicateRows {
            first,
            rows,
            partition: Partition(partition),
            offset: Offset(offset),
        };
        let duplicates = vec![run(1, 2, 7, 30), run(3, 1, 0, 5)];
        let part = PartPlaces { partition: Partition(0), base: Offset(100), duplicates };
        let mut order = Order::default();
        (0..5).for_each(|_| order.push(0));
        let places = order.place(&[part]);
        let placed: Vec<_> = places.placed.iter().map(|(p, o)| (p.0, o.0)).collect();
        assert_eq!(placed, [(0, 100), (7, 30), (7, 31), (0, 5), (0, 101)]);
        assert_eq!(places.duplicates, [1, 2, 3]);
    }

    #[test]
    fn other_messages_under_the_same_identity_are_recognised() {
        let more = [Route::Hash(3), Route::Keyless, Route::Keyless, Route::Hash(3)];
        assert_eq!(replay(&more, &original()), None);
        assert_eq!(replay(&more[..1], &original()), None);
        assert_eq!(replay(&[Route::Hash(0), Route::Keyless, Route::Hash(3)], &original()), None);
    }

    #[test]
    fn order_is_kept_whenever_the_second_partition_comes() {
        let mut order = Order::default();
        [0, 0, 1, 0, 2, 1].iter().for_each(|slot| order.push(*slot));
        let parts = [(5, 100), (0, 7), (9, 0)].map(|(partition, base)| part_of(Partition(partition), Offset(base)));
        let placed: Vec<_> = order.place(&parts).placed.iter().map(|(p, o)| (p.0, o.0)).collect();
        assert_eq!(placed, [(5, 100), (5, 101), (0, 7), (5, 102), (9, 0), (0, 8)]);
        assert_eq!(order.len(), 6);
    }
}
