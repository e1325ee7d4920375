//! Names last looked up, also those that are not there, and directories known as a whole.
//!
//! Believed while leased, or while no other session exists. Bounded: when there are too many names, whole directories are forgotten.
//! Always: of a directory that counts as complete every name is known, or known to be unsure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;

use crate::cache::shards::Asked;

const SHARDS: u64 = 16;
const NAMES_MAX: usize = 256 << 10;
/// Names asked for one by one in a directory before it is worth reading as a whole.
const MISSES_MAX: u32 = 3;

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    There(Ino),
    Missing,
    Unsure,
}

#[derive(Debug, Default)]
struct Directory {
    names: HashMap<Name, Known>,
    /// A name that is not in `names` does not exist.
    complete: bool,
    /// When anything in it changed last, or may have.
    changed: u64,
    /// Names that had to be asked for, since it was last read as a whole.
    missed: u32,
    /// How many are too many; grows each time a reading was in vain.
    patience: u32,
    /// Files in it whose content had to be asked for.
    read: u32,
}

#[derive(Debug, Default)]
struct Shard {
    directories: HashMap<Ino, Directory>,
    /// Directories that are not in the map may have changed up to here.
    floor: u64,
}

/// Inodes by directory and name.
#[derive(Debug)]
pub(crate) struct EntryCache {
    shards: Vec<Mutex<Shard>>,
    /// Names and directories.
    held: AtomicUsize,
    changes: AtomicU64,
    names_max: usize,
}

/// An own change of one or two names.
#[derive(Debug)]
pub(crate) struct OwnChange {
    asked: Asked,
    /// The number of the last place that was settled.
    last: u64,
    /// Nothing else had changed where it was.
    alone: bool,
}

impl OwnChange {
    /// Since when what it brought is known.
    pub(crate) const fn since(&self) -> Asked {
        Asked(self.last)
    }
}

impl EntryCache {
    pub(crate) fn new(on: bool) -> Self {
        Self::with_room(if on { NAMES_MAX } else { 0 })
    }

    fn with_room(names_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, held: AtomicUsize::new(0), changes: AtomicU64::new(0), names_max }
    }

    fn directory<T>(&self, parent: Ino, act: impl FnOnce(&mut Directory) -> T) -> Option<T> {
        // In process nothing is remembered: asking is as cheap.
        let shard = self.shards.get((parent.get() % SHARDS) as usize).filter(|_| self.names_max > 0)?;
        let mut shard = shard.lock();
        let floor = shard.floor;
        let before = shard.directories.get(&parent).map_or(0, Directory::weight);
        let directory = shard.directories.entry(parent).or_insert_with(|| Directory {
            changed: floor,
            patience: MISSES_MAX,
            ..Directory::default()
        });
        let answer = act(directory);
        let after = directory.weight();
        if after > before {
            let held = self.held.fetch_add(after - before, Ordering::AcqRel) + after - before;
            if held > self.names_max {
                self.make_room(&mut shard, parent);
            }
        } else {
            self.held.fetch_sub(before - after, Ordering::AcqRel);
        }
        Some(answer)
    }

    /// Forgets the other directories of all shards that nobody uses just now; this one too when that is not enough.
    fn make_room(&self, shard: &mut Shard, but: Ino) {
        // What is forgotten counts as changed: a reading under way must not call a directory complete whose first names are gone.
        let change = self.next_change();
        self.held.fetch_sub(shard.forget(change, |ino| ino != but), Ordering::AcqRel);
        for other in self.shards.iter().filter_map(Mutex::try_lock) {
            let mut other = other;
            self.held.fetch_sub(other.forget(change, |_| true), Ordering::AcqRel);
        }
        if self.held.load(Ordering::Acquire) > self.names_max {
            self.held.fetch_sub(shard.forget(change, |_| true), Ordering::AcqRel);
        }
    }

    fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The inode of a name; `Some(None)` when there is no such name.
    pub(crate) fn get(&self, parent: Ino, name: &Name) -> Option<Option<Ino>> {
        let shard = self.shards.get((parent.get() % SHARDS) as usize)?.lock();
        let directory = shard.directories.get(&parent)?;
        match directory.names.get(name) {
            Some(Known::There(ino)) => Some(Some(*ino)),
            Some(Known::Missing) => Some(None),
            Some(Known::Unsure) => None,
            None => directory.complete.then_some(None),
        }
    }

    /// All names of a directory and what they lead to; none when any is not known, or there are more than `most`.
    pub(crate) fn all(&self, parent: Ino, most: usize) -> Option<Vec<(Name, Ino)>> {
        let shard = self.shards.get((parent.get() % SHARDS) as usize)?.lock();
        let directory = shard.directories.get(&parent).filter(|directory| directory.complete)?;
        if directory.names.len() > most {
            return None;
        }
        let mut all = Vec::with_capacity(directory.names.len());
        for (name, known) in &directory.names {
            match known {
                Known::There(ino) => all.push((name.clone(), *ino)),
                Known::Missing => {}
                Known::Unsure => return None,
            }
        }
        Some(all)
    }

    /// The content of a file in it had to be asked for: how often that was so.
    pub(crate) fn content_missed(&self, parent: Ino) -> u32 {
        let read = self.directory(parent, |directory| {
            directory.read = directory.read.saturating_add(1);
            directory.read
        });
        read.unwrap_or(0)
    }

    /// The inodes behind `ino` that have names in a directory, as far as they are known: in their order, at most `most`.
    pub(crate) fn behind(&self, parent: Ino, ino: Ino, most: usize) -> Vec<Ino> {
        let Some(shard) = self.shards.get((parent.get() % SHARDS) as usize) else { return Vec::new() };
        let shard = shard.lock();
        let names = shard.directories.get(&parent).into_iter().flat_map(|directory| directory.names.values());
        let mut behind: Vec<Ino> = names
            .filter_map(|known| if let Known::There(other) = known { Some(*other) } else { None })
            .filter(|other| *other > ino)
            .collect();
        if behind.len() > most {
            behind.select_nth_unstable(most);
            behind.truncate(most);
        }
        behind.sort_unstable();
        behind
    }

    /// Call before asking a peer, or before changing something.
    pub(crate) fn asking(&self) -> Asked {
        Asked(self.changes.load(Ordering::Acquire))
    }

    /// Has nothing in the directory changed since?
    pub(crate) fn unchanged(&self, asked: Asked, parent: Ino) -> bool {
        let Some(shard) = self.shards.get((parent.get() % SHARDS) as usize) else { return false };
        let shard = shard.lock();
        shard.directories.get(&parent).map_or(shard.floor, |directory| directory.changed) <= asked.0
    }

    /// Keeps an answer, unless something in the directory changed since it was asked for.
    pub(crate) fn keep(&self, asked: Asked, parent: Ino, name: Name, ino: Option<Ino>) {
        self.directory(parent, |directory| {
            if directory.changed <= asked.0 {
                directory.put(name, ino);
            }
        });
    }

    /// A change that this session asked for at `asked` was answered.
    pub(crate) const fn own_change(asked: Asked) -> OwnChange {
        OwnChange { asked, last: 0, alone: true }
    }

    /// By an own change the entry leads to `ino` now, unless something else in the directory changed since it was asked for.
    pub(crate) fn settle(&self, change: &mut OwnChange, parent: Ino, name: Name, ino: Option<Ino>) {
        self.directory(parent, |directory| {
            // The same change may concern two names of one directory.
            let alone = directory.changed <= change.asked.0 || change.alone && directory.changed == change.last;
            change.alone = alone;
            directory.changed = self.next_change();
            change.last = directory.changed;
            if alone {
                directory.put(name, ino);
            } else {
                directory.doubt(name);
            }
        });
    }

    /// The entry changed, or may have.
    pub(crate) fn change(&self, parent: Ino, name: &Name) {
        self.directory(parent, |directory| {
            // Under the lock: whoever reads the old before has asked before.
            directory.changed = self.next_change();
            directory.doubt(name.clone());
        });
    }

    /// Nothing is known of a directory any more.
    pub(crate) fn forget(&self, parent: Ino) {
        self.directory(parent, |directory| {
            directory.changed = self.next_change();
            directory.complete = false;
            directory.names.clear();
        });
    }

    /// This session made the directory, asked for at `asked`: it is empty, unless something in it changed since.
    pub(crate) fn made(&self, asked: Asked, ino: Ino) {
        self.directory(ino, |directory| {
            directory.complete = directory.names.is_empty() && directory.changed <= asked.0;
        });
    }

    /// The directory was read as a whole, page by page since `asked`: names that were not kept do not exist.
    pub(crate) fn completed(&self, asked: Asked, parent: Ino) {
        self.directory(parent, |directory| {
            if directory.changed <= asked.0 {
                directory.complete = true;
                directory.missed = 0;
            }
        });
    }

    /// A name had to be asked for; true when the directory should rather be read as a whole.
    pub(crate) fn missed(&self, parent: Ino) -> bool {
        let full = self.directory(parent, |directory| {
            directory.missed = directory.missed.saturating_add(1);
            let due = !directory.complete && directory.missed == directory.patience;
            if due {
                // The next time only after many more.
                directory.missed = 0;
                directory.patience = directory.patience.saturating_mul(16);
            }
            due
        });
        full.unwrap_or(false)
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let change = self.next_change();
            let mut shard = shard.lock();
            self.held.fetch_sub(shard.forget(change, |_| true), Ordering::AcqRel);
        }
    }
}

impl Shard {
    /// Forgets directories, as if they had changed by `change`; how much they held.
    fn forget(&mut self, change: u64, which: impl Fn(Ino) -> bool) -> usize {
        let mut freed = 0;
        self.directories.retain(|ino, directory| {
            let goes = which(*ino);
            freed += if goes { directory.weight() } else { 0 };
            !goes
        });
        self.floor = self.floor.max(change);
        freed
    }
}

impl Directory {
    /// What it counts for against the bound.
    fn weight(&self) -> usize {
        self.names.len() + 1
    }

    fn put(&mut self, name: Name, ino: Option<Ino>) {
        match ino {
            Some(ino) => {
                self.names.insert(name, Known::There(ino));
            }
            None if self.complete => {
                self.names.remove(&name);
            }
            None => {
                self.names.insert(name, Known::Missing);
            }
        }
    }

    fn doubt(&mut self, name: Name) {
        if self.complete {
            self.names.insert(name, Known::Unsure);
        } else {
            self.names.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ino(number: u64) -> Ino {
        Ino::new(number).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_directory_made_here_knows_what_is_not_in_it() {
        let entries = EntryCache::new(true);
        entries.made(entries.asking(), ino(5));
        assert_eq!(entries.get(ino(5), &name("a")), Some(None));
        entries.settle(&mut EntryCache::own_change(entries.asking()), ino(5), name("a"), Some(ino(6)));
        assert_eq!(entries.get(ino(5), &name("a")), Some(Some(ino(6))));
        entries.settle(&mut EntryCache::own_change(entries.asking()), ino(5), name("a"), None);
        assert_eq!(entries.get(ino(5), &name("a")), Some(None));
        assert_eq!(entries.get(ino(7), &name("a")), None);
    }

    #[test]
    fn a_rename_within_a_directory_settles_both_names() {
        let entries = EntryCache::new(true);
        entries.made(entries.asking(), ino(5));
        let mut change = EntryCache::own_change(entries.asking());
        entries.settle(&mut change, ino(5), name("old"), None);
        entries.settle(&mut change, ino(5), name("new"), Some(ino(6)));
        assert_eq!(entries.get(ino(5), &name("old")), Some(None));
        assert_eq!(entries.get(ino(5), &name("new")), Some(Some(ino(6))));
    }

    #[test]
    fn a_name_whose_change_may_have_failed_is_asked_for() {
        let entries = EntryCache::new(true);
        entries.made(entries.asking(), ino(5));
        entries.change(ino(5), &name("a"));
        assert_eq!(entries.get(ino(5), &name("a")), None);
        assert_eq!(entries.get(ino(5), &name("b")), Some(None));
        let (first, second) = (entries.asking(), entries.asking());
        entries.settle(&mut EntryCache::own_change(first), ino(5), name("c"), Some(ino(6)));
        entries.settle(&mut EntryCache::own_change(second), ino(5), name("c"), None);
        assert_eq!(entries.get(ino(5), &name("c")), None, "two changes at once: which came last is not known");
    }

    #[test]
    fn a_reading_during_which_something_changed_does_not_complete_a_directory() {
        let entries = EntryCache::new(true);
        let asked = entries.asking();
        entries.keep(asked, ino(5), name("a"), Some(ino(6)));
        entries.completed(asked, ino(5));
        assert_eq!(entries.get(ino(5), &name("b")), Some(None));
        let asked = entries.asking();
        entries.settle(&mut EntryCache::own_change(entries.asking()), ino(8), name("new"), Some(ino(9)));
        entries.completed(asked, ino(8));
        assert_eq!(entries.get(ino(8), &name("b")), None);
    }

    #[test]
    fn names_stay_bounded_and_a_forgotten_directory_is_not_complete() {
        let entries = EntryCache::with_room(100);
        entries.made(entries.asking(), ino(16));
        for number in 0..1000 {
            entries.settle(
                &mut EntryCache::own_change(entries.asking()),
                ino(16),
                name(&format!("f{number}")),
                Some(ino(1000 + number)),
            );
            assert!(entries.held.load(Ordering::Relaxed) <= 100);
        }
        assert_eq!(entries.get(ino(16), &name("f0")), None, "it exists, and is not remembered");
        entries.clear();
        assert_eq!(entries.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_directory_that_was_forgotten_while_it_was_read_is_not_complete() {
        let entries = EntryCache::with_room(20);
        let asked = entries.asking();
        for number in 0..30 {
            entries.keep(asked, ino(5), name(&format!("f{number}")), Some(ino(100 + number)));
        }
        entries.completed(asked, ino(5));
        assert_eq!(entries.get(ino(5), &name("f0")), None, "it exists");
    }

    #[test]
    fn a_directory_is_worth_reading_after_a_few_single_questions() {
        let entries = EntryCache::new(true);
        let asked: Vec<bool> = (0..60).map(|_| entries.missed(ino(5))).collect();
        assert_eq!(asked.iter().filter(|due| **due).count(), 2);
        assert!(asked[2] && asked[2 + 48]);
    }
}
