//! Rows in memory, bounded by weight.
//!
//! Never talks to an engine. Invariants: a row that is not committed yet is
//! never dropped, nor one that changed while a load was under way (the load
//! may bring an older one); a row in memory is always newer than a loaded one.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::{RowKey, Table};
use crate::rows::Row;

/// What memory knows of a key.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// The row; `None`: known not to exist.
    pub(crate) row: Option<Arc<Row>>,
    /// The batch that last changed it; 0 when it was only loaded.
    pub(crate) ticket: u64,
    touched: u32,
}

#[derive(Debug, Default)]
struct Directory {
    buckets: BTreeMap<u64, Slot>,
    /// Every existing bucket is in memory, so a missing one does not exist.
    complete: bool,
    ticket: u64,
    touched: u32,
}

/// The rows.
#[derive(Debug)]
pub(crate) struct RowCache {
    rows: HashMap<RowKey, Slot>,
    directories: HashMap<u64, Directory>,
    weight: usize,
    weight_max: usize,
    generation: u32,
}

/// The list that a row is kept in, for tables whose partitions are read as a whole: directories by their number, the
/// catalogue of tags behind all of those.
fn list_of(table: Table, partition: u64) -> Option<u64> {
    match table {
        Table::Dentry => Some(partition),
        Table::Tag => Some(u64::MAX - partition),
        _ => None,
    }
}

fn weight_of(row: Option<&Arc<Row>>) -> usize {
    row.map_or(100, |row| row.weight())
}

impl RowCache {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { rows: HashMap::new(), directories: HashMap::new(), weight: 0, weight_max, generation: 1 }
    }

    /// Its bound.
    pub(crate) fn weight_max(&self) -> usize {
        self.weight_max
    }

    /// Is there room for rows that nobody asked for?
    pub(crate) fn has_room(&self) -> bool {
        self.weight < self.weight_max / 2
    }

    /// What is known of `key`; `None` when it must be loaded. The number is the batch that last changed it.
    pub(crate) fn get(&mut self, key: RowKey) -> Option<(Option<Arc<Row>>, u64)> {
        let generation = self.generation;
        if let Some(list) = list_of(key.table, key.partition) {
            let directory = self.directories.get_mut(&list)?;
            directory.touched = generation;
            return match directory.buckets.get(&key.sort) {
                Some(slot) => Some((slot.row.clone(), slot.ticket)),
                None if directory.complete => Some((None, 0)),
                None => None,
            };
        }
        let slot = self.rows.get_mut(&key)?;
        slot.touched = generation;
        Some((slot.row.clone(), slot.ticket))
    }

    /// A change made by batch `ticket`.
    pub(crate) fn put(&mut self, key: RowKey, row: Option<Arc<Row>>, ticket: u64) {
        let slot = Slot { row, ticket, touched: self.generation };
        self.weight += weight_of(slot.row.as_ref());
        let old = if let Some(list) = list_of(key.table, key.partition) {
            let directory = self.directories.entry(list).or_default();
            directory.touched = slot.touched;
            directory.ticket = directory.ticket.max(ticket);
            directory.buckets.insert(key.sort, slot)
        } else {
            self.rows.insert(key, slot)
        };
        if let Some(old) = old {
            self.weight = self.weight.saturating_sub(weight_of(old.row.as_ref()));
        }
    }

    /// A row an engine brought; ignored when memory knows better.
    pub(crate) fn install(&mut self, key: RowKey, row: Option<Arc<Row>>) {
        let known = match list_of(key.table, key.partition) {
            Some(list) => {
                self.directories.get(&list).is_some_and(|directory| directory.buckets.contains_key(&key.sort))
            }
            None => self.rows.contains_key(&key),
        };
        if !known {
            self.put(key, row, 0);
        }
    }

    /// A directory was just made, or loaded whole: all its buckets are here.
    pub(crate) fn mark_complete(&mut self, directory: u64) {
        let touched = self.generation;
        let entry = self.directories.entry(directory).or_default();
        entry.complete = true;
        entry.touched = touched;
    }

    /// Every row of a partition whose rows are listed is here.
    pub(crate) fn mark_complete_list(&mut self, table: Table, partition: u64) {
        if let Some(list) = list_of(table, partition) {
            self.mark_complete(list);
        }
    }

    /// Is every row of a partition here?
    pub(crate) fn is_complete_list(&self, table: Table, partition: u64) -> bool {
        list_of(table, partition).is_some_and(|list| self.is_complete(list))
    }

    /// Sorts of the rows of a partition that are here and exist.
    pub(crate) fn listed(&self, table: Table, partition: u64) -> Vec<u64> {
        let rows = list_of(table, partition).and_then(|list| self.buckets(list, 0));
        rows.into_iter().flatten().filter(|(_, slot)| slot.row.is_some()).map(|(sort, _)| *sort).collect()
    }

    /// Are all buckets of a directory in memory?
    pub(crate) fn is_complete(&self, directory: u64) -> bool {
        self.directories.get(&directory).is_some_and(|entry| entry.complete)
    }

    /// Buckets of a directory from a hash on, as far as they are in memory.
    pub(crate) fn buckets(&self, directory: u64, from: u64) -> Option<Range<'_, u64, Slot>> {
        self.directories.get(&directory).map(|entry| entry.buckets.range(from..))
    }

    /// Rows in memory.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.directories.values().map(|entry| entry.buckets.len()).sum::<usize>()
    }

    /// Drops what was not used lately when memory is over its bound. Rows changed by a batch
    /// after `keep_after` stay.
    pub(crate) fn trim(&mut self, keep_after: u64) {
        if self.weight <= self.weight_max {
            return;
        }
        let generation = self.generation;
        self.retain(
            |entry| entry.touched == generation || entry.ticket > keep_after,
            |slot| slot.touched == generation || slot.ticket > keep_after,
        );
        if self.weight > self.weight_max / 2 {
            // Of a directory, too, only what must stay: one with a million names is changed in every batch.
            self.directories.values_mut().for_each(|entry| entry.drop_committed(keep_after));
            self.retain(|entry| !entry.buckets.is_empty(), |slot| slot.ticket > keep_after);
        }
        self.generation = self.generation.wrapping_add(1);
    }

    fn retain(&mut self, keep_directory: impl Fn(&Directory) -> bool, keep_row: impl Fn(&Slot) -> bool) {
        let mut weight = 0;
        self.rows.retain(|_, slot| {
            let stays = keep_row(slot);
            weight += if stays { weight_of(slot.row.as_ref()) } else { 0 };
            stays
        });
        self.directories.retain(|_, entry| {
            let stays = keep_directory(entry);
            weight += if stays { directory_weight(entry) } else { 0 };
            stays
        });
        self.weight = weight;
    }
}

impl Directory {
    fn drop_committed(&mut self, keep_after: u64) {
        let before = self.buckets.len();
        self.buckets.retain(|_, slot| slot.ticket > keep_after);
        self.complete &= self.buckets.len() == before;
    }
}

fn directory_weight(directory: &Directory) -> usize {
    directory.buckets.values().map(|slot| weight_of(slot.row.as_ref())).sum()
}

#[cfg(test)]
mod tests {
    use super::RowCache;
    use crate::engine::{RowKey, Table};
    use crate::rows::Row;
    use std::sync::Arc;

    fn bucket(sort: u64) -> RowKey {
        RowKey { table: Table::Dentry, partition: 7, sort }
    }

    #[test]
    fn a_large_directory_that_changes_in_every_batch_stays_within_the_bound() {
        let mut cache = RowCache::new(100_000);
        cache.mark_complete(7);
        let row = || Some(Arc::new(Row::Dentries(Vec::new())));
        for ticket in 1..=10_000 {
            cache.put(bucket(ticket), row(), ticket);
            cache.trim(ticket - 1);
            assert!(cache.weight <= 100_000 + 200 && cache.len() <= 1_000, "{} rows in memory", cache.len());
            assert!(cache.get(bucket(ticket)).is_some(), "not committed yet, and gone");
        }
        assert!(!cache.is_complete(7), "some of its names are not in memory");
        assert_eq!(cache.get(bucket(1)).map(|(_, ticket)| ticket), None, "it must be loaded");
    }
}
