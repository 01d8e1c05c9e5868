//! A hash table that grows in small steps.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3Builder;

/// Enough that the tables of ten million entries are a megabyte or two each.
const SHARDS: usize = 256;

/// Many small tables instead of a large one: a large one is copied as a whole when it grows, which takes a second and
/// twice the memory. Looked up, never iterated; the hash has no random seed.
#[derive(Debug)]
pub(super) struct Shards<V> {
    tables: Vec<HashMap<u64, V, Xxh3Builder>>,
}

impl<V> Shards<V> {
    pub(super) fn new() -> Self {
        Self { tables: Vec::new() }
    }

    fn table(&self, key: u64) -> Option<&HashMap<u64, V, Xxh3Builder>> {
        self.tables.get(shard(key))
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.table(key)?.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.tables.get_mut(shard(key))?.get_mut(&key)
    }

    pub(super) fn insert(&mut self, key: u64, value: V) {
        if self.tables.is_empty() {
            self.tables.resize_with(SHARDS, || HashMap::with_hasher(Xxh3Builder::new()));
        }
        self.tables[shard(key)].insert(key, value);
    }

    /// Gives memory back when few are left.
    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        let table = self.tables.get_mut(shard(key))?;
        let removed = table.remove(&key);
        if table.capacity() > 64 && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2);
        }
        removed
    }
}

/// The high bits of a multiplicative hash: the tables themselves use another.
const fn shard(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

const _: () = assert!(SHARDS == 1 << 8);
