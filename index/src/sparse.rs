//! Items of some of 64 consecutive offsets, in little more than the items take: what is remembered of single messages lies
//! close together as a rule, and a map of single ones would take twice as much.

/// Offsets that a [`Sparse`] covers.
pub const PAGE: u64 = u64::BITS as u64;

/// Items of some of [`PAGE`] places, in ascending order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse<T> {
    present: u64,
    items: Vec<T>,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { present: 0, items: Vec::new() }
    }
}

impl<T> Sparse<T> {
    /// The places that have an item, a bit each.
    pub const fn present(&self) -> u64 {
        self.present
    }

    /// Where the item of a place is, or would be.
    fn rank(&self, place: u64) -> usize {
        (self.present & ((1 << place) - 1)).count_ones() as usize
    }

    /// The item of a place below [`PAGE`].
    pub fn get(&self, place: u64) -> Option<&T> {
        if self.present >> place & 1 == 1 { self.items.get(self.rank(place)) } else { None }
    }

    /// The places that have an item, with it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        places(self.present).zip(&self.items)
    }

    /// Puts an item in, or in the place of the one that is there.
    pub fn put(&mut self, place: u64, item: T) {
        let rank = self.rank(place);
        if self.present >> place & 1 == 1 {
            self.items[rank] = item;
            return;
        }
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact(self.items.len().max(1));
        }
        self.items.insert(rank, item);
        self.present |= 1 << place;
    }

    /// Forgets the item of a place.
    pub fn remove(&mut self, place: u64) {
        if self.present >> place & 1 == 1 {
            self.items.remove(self.rank(place));
            self.present &= !(1 << place);
            self.shrink();
        }
    }

    /// Forgets the items of all places that are not in the mask.
    pub fn keep(&mut self, mask: u64) {
        let mut places = places(self.present);
        self.items.retain(|_| places.next().is_some_and(|place| mask >> place & 1 == 1));
        self.present &= mask;
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.items.len() * 4 <= self.items.capacity() {
            self.items.shrink_to(self.items.len() * 2);
        }
    }
}

/// Places of the bits that are set, ascending.
fn places(mut set: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let place = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (place < u64::BITS).then_some(u64::from(place))
    })
}
