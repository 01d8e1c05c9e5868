//! Which message of a request got which offset.

use brigade_index::{
    command::Placement,
    ids::{Offset, Partition},
};

/// How the partition of a message was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// By the client.
    Explicit(Partition),
    /// By the hash of its key.
    Key(u64),
    /// It has no key.
    Keyless,
}

impl Route {
    /// The partition, in a topic of so many partitions.
    pub(crate) fn partition(self, partitions: u32, keyless: Partition) -> Partition {
        match self {
            Self::Explicit(partition) => partition,
            Self::Key(hash) => Partition((hash % u64::from(partitions.max(1))) as u32),
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

    /// Partition and offset of each message, from the offset of the request's first message in each partition.
    pub(crate) fn place(&self, bases: &[(Partition, Offset)]) -> Vec<(Partition, Offset)> {
        let mut next = bases.to_vec();
        let mut take = |slot: usize| {
            let (partition, offset) = &mut next[slot];
            let placed = (*partition, *offset);
            *offset = offset.next();
            placed
        };
        if self.slots.is_empty() {
            (0..self.messages).map(|_| take(0)).collect()
        } else {
            self.slots.iter().map(|slot| take(usize::from(*slot))).collect()
        }
    }
}

/// The original's answer for a repeated request with these messages; `None` when they cannot be the original's.
pub(crate) fn replay(routes: &[Route], original: &Placement) -> Option<Vec<(Partition, Offset)>> {
    let mut bases = original.bases.clone();
    bases.sort_unstable_by_key(|(partition, ..)| *partition);
    let mut placed = Vec::with_capacity(routes.len());
    for route in routes {
        let partition = route.partition(original.partition_count, original.keyless);
        let at = bases.binary_search_by_key(&partition, |(partition, ..)| *partition).ok()?;
        let (_, next, left) = &mut bases[at];
        *left = left.checked_sub(1)?;
        placed.push((partition, *next));
        *next = next.next();
    }
    bases.iter().all(|(.., left)| *left == 0).then_some(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Placement {
        Placement {
            partition_count: 4,
            keyless: Partition(2),
            bases: vec![(Partition(3), Offset(70), 2), (Partition(2), Offset(10), 1)],
        }
    }

    #[test]
    fn a_repeated_request_gets_the_original_answer() {
        let routes = [Route::Key(7), Route::Keyless, Route::Explicit(Partition(3))];
        let at = |partition, offset| (Partition(partition), Offset(offset));
        assert_eq!(replay(&routes, &original()), Some(vec![at(3, 70), at(2, 10), at(3, 71)]));
    }

    #[test]
    fn other_messages_under_the_same_identity_are_recognised() {
        let more = [Route::Key(3), Route::Keyless, Route::Keyless, Route::Key(3)];
        assert_eq!(replay(&more, &original()), None);
        assert_eq!(replay(&more[..1], &original()), None);
        assert_eq!(replay(&[Route::Key(0), Route::Keyless, Route::Key(3)], &original()), None);
    }

    #[test]
    fn order_is_kept_whenever_the_second_partition_comes() {
        let mut order = Order::default();
        [0, 0, 1, 0, 2, 1].iter().for_each(|slot| order.push(*slot));
        let bases = [(Partition(5), Offset(100)), (Partition(0), Offset(7)), (Partition(9), Offset(0))];
        let placed: Vec<_> = order.place(&bases).iter().map(|(p, o)| (p.0, o.0)).collect();
        assert_eq!(placed, [(5, 100), (5, 101), (0, 7), (5, 102), (9, 0), (0, 8)]);
        assert_eq!(order.len(), 6);
    }
}
