//! A bounded map in shards that refuses answers older than a change.
//!
//! Never evicts cleverly: a full shard starts anew. Always: what was asked before a change of its key is not kept after it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// The moment a question was asked, by the count of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked(pub(crate) u64);

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
    map: HashMap<K, Slot<V>>,
    /// Keys that are not in the map may have changed up to here.
    floor: u64,
}

#[derive(Debug)]
struct Slot<V> {
    changed: u64,
    value: Option<V>,
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// Room for about `capacity` items.
    pub(crate) fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard { map: HashMap::new(), floor: 0 })).collect();
        Self { hasher: RandomState::new(), shards, each: capacity.div_ceil(SHARDS), changes: AtomicU64::new(0) }
    }

    fn shard<T>(&self, key: &K, act: impl FnOnce(&mut Shard<K, V>) -> T) -> Option<T> {
        let at = (self.hasher.hash_one(key) as usize) % SHARDS;
        self.shards.get(at).map(|shard| act(&mut shard.lock()))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.shard(key, |shard| shard.map.get(key).and_then(|slot| slot.value.clone())).flatten()
    }

    /// Call before asking a peer.
    pub(crate) fn asking(&self) -> Asked {
        Asked(self.changes.load(Ordering::Acquire))
    }

    /// Has `key` not changed since?
    pub(crate) fn unchanged(&self, asked: Asked, key: &K) -> bool {
        self.shard(key, |shard| shard.changed(key) <= asked.0).unwrap_or(false)
    }

    /// Puts a value if `wanted` agrees, seeing the one that is there.
    pub(crate) fn put_if(&self, key: K, value: V, wanted: impl FnOnce(Option<&V>) -> bool) {
        let each = self.each;
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        if wanted(shard.map.get(&key).and_then(|slot| slot.value.as_ref())) {
            let changed = shard.changed(&key);
            shard.insert(each, key, Slot { changed, value: Some(value) });
        }
    }

    /// Keeps an answer, unless its key changed since it was asked for.
    pub(crate) fn keep(&self, asked: Asked, key: K, value: V) {
        let each = self.each;
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return };
        let mut shard = shard.lock();
        let changed = shard.changed(&key);
        if changed <= asked.0 {
            shard.insert(each, key, Slot { changed, value: Some(value) });
        }
    }

    /// Something changed: forgets `key` and refuses answers asked for before.
    pub(crate) fn change(&self, key: K) {
        let _: Asked = self.set(key, |_, _| None);
    }

    /// This session changed `key` and was answered `value`: kept, unless something else changed it since `asked`. Since when
    /// it is known, if it is.
    pub(crate) fn settle(&self, asked: Asked, key: K, value: V) -> Option<Asked> {
        let mut kept = false;
        let changed = self.set(key, |shard, key| {
            kept = shard.changed(key) <= asked.0;
            kept.then_some(value)
        });
        kept.then_some(changed)
    }

    fn set(&self, key: K, value: impl FnOnce(&Shard<K, V>, &K) -> Option<V>) -> Asked {
        let at = (self.hasher.hash_one(&key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(at) else { return Asked(0) };
        let mut shard = shard.lock();
        let value = value(&shard, &key);
        let changed = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        shard.insert(self.each, key, Slot { changed, value });
        Asked(changed)
    }

    /// All keys with a value.
    pub(crate) fn keys(&self) -> Vec<K> {
        let with_value = |(key, slot): (&K, &Slot<V>)| slot.value.is_some().then(|| key.clone());
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().map.iter().filter_map(with_value).collect::<Vec<_>>())
            .collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.floor = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
            shard.map.clear();
        }
    }
}

impl<K: Hash + Eq, V> Shard<K, V> {
    /// When the key changed last, or may have.
    fn changed(&self, key: &K) -> u64 {
        self.map.get(key).map_or(self.floor, |slot| slot.changed)
    }

    fn insert(&mut self, each: usize, key: K, slot: Slot<V>) {
        if self.map.len() >= each && !self.map.contains_key(&key) {
            let newest = self.map.values().map(|slot| slot.changed).max();
            self.floor = self.floor.max(newest.unwrap_or(0));
            self.map.clear();
        }
        self.map.insert(key, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_older_than_a_change_is_not_kept() {
        let shards = Shards::new(100);
        let asked = shards.asking();
        shards.change(1_u64);
        shards.keep(asked, 1, "old");
        assert_eq!(shards.get(&1), None);
        shards.keep(asked, 2, "another");
        assert_eq!(shards.get(&2), Some("another"), "a change of one key refuses answers about another");
        shards.keep(shards.asking(), 1, "new");
        assert_eq!(shards.get(&1), Some("new"));
        assert!(shards.unchanged(shards.asking(), &1) && !shards.unchanged(asked, &1));
    }

    #[test]
    fn of_two_own_changes_under_way_at_once_neither_answer_is_kept() {
        let shards = Shards::new(100);
        let (first, second) = (shards.asking(), shards.asking());
        shards.settle(second, 1_u64, "which came last");
        shards.settle(first, 1, "is not known");
        assert_eq!(shards.get(&1), None);
    }

    #[test]
    fn the_map_stays_bounded_and_forgets_no_change() {
        let shards = Shards::new(64);
        let asked = shards.asking();
        shards.change(0_u64);
        for key in 1..10_000_u64 {
            shards.keep(shards.asking(), key, key);
        }
        let held = (0..10_000_u64).filter(|key| shards.get(key).is_some()).count();
        assert!(held <= 64, "{held} items");
        shards.keep(asked, 0, 0);
        assert_eq!(shards.get(&0), None);
    }
}
