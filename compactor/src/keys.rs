//! The keys of the dirty part of a partition: which of its messages is the last of each.
//!
//! A key is known by a hash of 128 bits with a seed that is drawn at random for each compaction: so nobody can choose two
//! keys that are taken for one, and by chance it does not happen. The map has a fixed size. When it is full it says so, and
//! what follows stays dirty; a file that has more keys than the map has room for is compacted in several passes, each for a
//! part of the keys.

use brigade_index::ids::Offset;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A part of all keys: those whose hashes end in `number`, of a power of two of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPart {
    number: u64,
    parts: u64,
}

impl KeyPart {
    /// All keys.
    pub const ALL: Self = Self { number: 0, parts: 1 };

    /// One of `parts` parts, which is rounded up to a power of two.
    pub fn of(number: u64, parts: u64) -> Self {
        Self { number, parts: parts.next_power_of_two() }
    }
}

/// A place of the table. Offsets are stored with one added: zero is an empty place.
#[derive(Clone, Copy, Default)]
struct Place {
    hash: [u64; 2],
    next: u64,
}

/// Keys with the last offset of each. Its memory is taken when it is made.
pub struct KeyMap {
    places: Vec<Place>,
    seed: u64,
    part: KeyPart,
    keys: usize,
}

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl KeyMap {
    /// A map for `keys` keys, or for as many as `memory_bytes` suffice for, at least one. Keys that are not in `part` are
    /// left out.
    pub fn new(keys: u64, memory_bytes: usize, seed: u64, part: KeyPart) -> Self {
        let most = (memory_bytes / size_of::<Place>()).max(2);
        // A quarter stays empty, so that looking takes few steps.
        let wanted = usize::try_from(keys.saturating_add(keys / 3)).unwrap_or(usize::MAX).saturating_add(2);
        Self { places: vec![Place::default(); most.min(wanted)], seed, part, keys: 0 }
    }

    /// How many keys fit.
    pub fn room(&self) -> u64 {
        (self.places.len() as u64 * 3 / 4).max(1)
    }

    /// Keys in it.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Whether it is for all keys.
    pub fn is_whole(&self) -> bool {
        self.part == KeyPart::ALL
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }

    /// Notes that there is a message with this key at that offset.
    ///
    /// # Errors
    /// When the key is not in it yet, and no other has room.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        if !self.has(hash) {
            return Ok(());
        }
        let at = self.find(hash);
        if self.places[at].next == 0 {
            if self.keys as u64 == self.room() {
                return Err(Full);
            }
            self.keys += 1;
        }
        let place = &mut self.places[at];
        *place = Place { hash, next: place.next.max(offset.0 + 1) };
        Ok(())
    }

    /// What is known of a key.
    pub fn look_up(&self, key: &[u8]) -> Last {
        let hash = self.hash(key);
        if !self.has(hash) {
            return Last::Unknown;
        }
        match self.places[self.find(hash)].next {
            0 => Last::None,
            next => Last::At(Offset(next - 1)),
        }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let hash = xxh3_128_with_seed(key, self.seed);
        [(hash >> 64) as u64, hash as u64]
    }

    fn has(&self, hash: [u64; 2]) -> bool {
        hash[1] & (self.part.parts - 1) == self.part.number
    }

    /// The place of a key, or the empty one where it would be: there always is one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let places = self.places.len();
        // The upper half of the product spreads hashes over a table of any size.
        let mut at = ((u128::from(hash[0]) * places as u128) >> 64) as usize;
        while self.places[at].next != 0 && self.places[at].hash != hash {
            at = if at + 1 == places { 0 } else { at + 1 };
        }
        at
    }
}

/// What a [`KeyMap`] knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// The key is left out of this map.
    Unknown,
    /// No message in the dirty part has it.
    None,
    /// The last that has it.
    At(Offset),
}

/// Decides which messages stay.
pub struct Keeper<'a> {
    map: &'a KeyMap,
    /// Tombstones with a smaller timestamp are dropped, milliseconds since the Unix epoch.
    tombstones_before_ms: i64,
}

impl<'a> Keeper<'a> {
    /// By this map; tombstones with a timestamp before that time are dropped.
    pub fn new(map: &'a KeyMap, tombstones_before_ms: i64) -> Self {
        Self { map, tombstones_before_ms }
    }

    /// Whether a later message has the key.
    pub fn is_superseded(&self, key: &[u8], offset: Offset) -> bool {
        matches!(self.map.look_up(key), Last::At(last) if last > offset)
    }

    /// Whether a message stays. A tombstone whose time is over goes with what is before it: files are written from the
    /// first to the last, so when its turn comes nothing with its key is left before it.
    pub fn keeps(&self, key: Option<&[u8]>, offset: Offset, timestamp_ms: i64, is_tombstone: bool) -> bool {
        let Some(key) = key else { return true };
        match self.map.look_up(key) {
            Last::Unknown => true,
            Last::At(last) if last > offset => false,
            Last::None | Last::At(_) => !is_tombstone || timestamp_ms >= self.tombstones_before_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_map_knows_what_a_hash_map_knows(
            notes in vec((0..200u16, 0..1_000u64), 0..400),
            memory in 0..8_000usize,
            (part, parts) in (0..4u64, 1..4u64),
        ) {
            let parts = parts.next_power_of_two();
            let mut map = KeyMap::new(400, memory, 7, KeyPart::of(part % parts, parts));
            let mut model = HashMap::new();
            for (key, offset) in notes {
                let bytes = key.to_le_bytes();
                let known = map.look_up(&bytes);
                match map.note(&bytes, Offset(offset)) {
                    Ok(()) if known == Last::Unknown => prop_assert!(!model.contains_key(&key)),
                    Ok(()) => {
                        let last = model.entry(key).or_insert(offset);
                        *last = offset.max(*last);
                    }
                    Err(Full) => {
                        prop_assert_eq!(map.len() as u64, map.room());
                        prop_assert_eq!(known, Last::None);
                    }
                }
                prop_assert!(map.memory() <= memory.max(2 * size_of::<Place>()));
            }
            prop_assert_eq!(map.len(), model.len());
            for (key, offset) in model {
                prop_assert_eq!(map.look_up(&key.to_le_bytes()), Last::At(Offset(offset)));
            }
        }
    }

    #[test]
    fn parts_are_disjoint_and_together_everything() {
        let parts: Vec<_> = (0..8).map(|number| KeyMap::new(10, 1_000, 3, KeyPart::of(number, 8))).collect();
        for key in 0..1_000_u32 {
            let holders = parts.iter().filter(|map| map.look_up(&key.to_le_bytes()) != Last::Unknown);
            assert_eq!(holders.count(), 1);
        }
    }

    #[test]
    fn the_last_of_a_key_stays_unless_it_is_an_old_tombstone() {
        let mut map = KeyMap::new(10, 1_000, 3, KeyPart::ALL);
        map.note(b"a", Offset(5)).unwrap();
        map.note(b"a", Offset(9)).unwrap();
        let keeper = Keeper::new(&map, 100);
        assert!(!keeper.keeps(Some(b"a"), Offset(5), 500, false));
        assert!(keeper.keeps(Some(b"a"), Offset(9), 0, false), "the last");
        assert!(keeper.keeps(Some(b"a"), Offset(9), 100, true) && !keeper.keeps(Some(b"a"), Offset(9), 99, true));
        assert!(keeper.keeps(Some(b"b"), Offset(1), 0, false) && !keeper.keeps(Some(b"b"), Offset(1), 0, true));
        assert!(keeper.keeps(None, Offset(1), 0, true), "without a key");
    }
}
