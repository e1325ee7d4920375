//! A bounded map in shards, each with a generation that refuses answers older than a change.
//!
//! Never evicts cleverly: a full shard starts anew. Always: what was asked before a change is not kept after it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// The moment a question was asked, as the shard of its key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u64);

/// The moment a question was asked whose keys were not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedAny(u64);

#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K, V>>>,
    each: usize,
    /// Changes of all keys.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Shard<K, V> {
    changes: u64,
    map: HashMap<K, V>,
}

impl<K: Hash + Eq, V: Clone> Shards<K, V> {
    /// Room for about `capacity` items.
    pub(crate) fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard { changes: 0, map: HashMap::new() })).collect();
        Self { hasher: RandomState::new(), shards, each: capacity.div_ceil(SHARDS), changes: AtomicU64::new(0) }
    }

    fn shard<T>(&self, key: &K, act: impl FnOnce(&mut Shard<K, V>) -> T) -> Option<T> {
        let at = (self.hasher.hash_one(key) as usize) % SHARDS;
        self.shards.get(at).map(|shard| act(&mut shard.lock()))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.shard(key, |shard| shard.map.get(key).cloned()).flatten()
    }

    /// Call before asking a peer about `key`.
    pub(crate) fn asking(&self, key: &K) -> Asked {
        Asked(self.shard(key, |shard| shard.changes).unwrap_or(0))
    }

    /// Call before asking a peer something whose keys are known only from the answer.
    pub(crate) fn asking_any(&self) -> AskedAny {
        AskedAny(self.changes.load(Ordering::Acquire))
    }

    /// Keeps an answer, unless anything changed since it was asked for.
    pub(crate) fn keep_any(&self, asked: AskedAny, key: K, value: V) {
        let changes = &self.changes;
        let each = self.each;
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        // Counted under the shard's lock, so a change of this key is either seen here or removes what is put.
        if changes.load(Ordering::Acquire) == asked.0 {
            shard.insert(each, key, value);
        }
    }

    /// Puts a value if `wanted` agrees, seeing the one that is there.
    pub(crate) fn put_if(&self, key: K, value: V, wanted: impl FnOnce(Option<&V>) -> bool) {
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        if wanted(shard.map.get(&key)) {
            shard.insert(self.each, key, value);
        }
    }

    /// Keeps an answer, unless something changed since it was asked for.
    pub(crate) fn keep(&self, asked: Asked, key: K, value: V) {
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        if shard.changes == asked.0 {
            shard.insert(self.each, key, value);
        }
    }

    /// Something changed: forgets `key` and refuses answers asked for before.
    pub(crate) fn change(&self, key: &K) {
        self.shard(key, |shard| {
            shard.changes += 1;
            self.changes.fetch_add(1, Ordering::AcqRel);
            shard.map.remove(key);
        });
    }

    /// This session changed `key` and was answered `value`: kept, unless something else changed since `asked`.
    pub(crate) fn settle(&self, asked: Asked, key: K, value: V) {
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        let alone = shard.changes == asked.0;
        shard.changes += 1;
        self.changes.fetch_add(1, Ordering::AcqRel);
        if alone {
            shard.insert(self.each, key, value);
        } else {
            shard.map.remove(&key);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.changes += 1;
            self.changes.fetch_add(1, Ordering::AcqRel);
            shard.map.clear();
        }
    }
}

impl<K: Hash + Eq, V> Shard<K, V> {
    fn insert(&mut self, each: usize, key: K, value: V) {
        if self.map.len() >= each {
            self.map.clear();
        }
        self.map.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_older_than_a_change_is_not_kept() {
        let shards = Shards::new(100);
        let asked = shards.asking(&1_u64);
        shards.change(&1);
        shards.keep(asked, 1, "old");
        assert_eq!(shards.get(&1), None);
        shards.keep(shards.asking(&1), 1, "new");
        assert_eq!(shards.get(&1), Some("new"));
    }

    #[test]
    fn the_map_stays_bounded() {
        let shards = Shards::new(64);
        for key in 0..10_000_u64 {
            shards.keep(shards.asking(&key), key, key);
        }
        let held = (0..10_000_u64).filter(|key| shards.get(key).is_some()).count();
        assert!(held <= 64, "{held} items");
    }
}
