//! Which inodes this session holds open, for a meta that has to learn it (anew).
//!
//! Never sends. Always: an open that was or may have been registered at meta is counted until its release is asked for; an own
//! open (taken while no other session existed, and unknown to meta) is registered before its inode may lose a name.

use std::collections::HashMap;

use parking_lot::Mutex;

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::LIST_MAX;

/// Counts of opens, and releases that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// All opens.
    opens: HashMap<Ino, u32>,
    /// Those of them that meta does not know.
    own: HashMap<Ino, u32>,
    /// Those that are on their way to meta.
    telling: HashMap<Ino, u32>,
    /// How often all were collected to be told together, and the last such collection that meta heard.
    collected: u64,
    told_all: u64,
    leaving: HashMap<Ino, u32>,
    /// Inodes that are about to lose a name: how many changes are under way.
    losing: HashMap<Ino, u32>,
    /// Changes under way by which any inode may lose a name.
    losing_any: u32,
}

/// All opens held, and those of them that are told to meta with them for the first time.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    pub(crate) all: Vec<(Ino, u32)>,
    pub(crate) own: Vec<(Ino, u32)>,
    number: u64,
}

/// While it lives, nobody takes an own open of what is about to lose a name.
#[derive(Debug)]
pub(crate) struct Losing<'a> {
    ledger: &'a Ledger,
    which: Option<Ino>,
}

impl Ledger {
    /// An open is about to be registered.
    pub(crate) fn add(&self, ino: Ino) {
        *self.books.lock().opens.entry(ino).or_insert(0) += 1;
    }

    /// Takes an own open if `alone` says that no other session exists; false when it must be registered.
    pub(crate) fn add_own(&self, ino: Ino, alone: impl FnOnce() -> bool) -> bool {
        let mut books = self.books.lock();
        // Asked under the lock: whoever ends the time alone looks at the own opens afterwards.
        if !alone() || books.losing_any > 0 || books.losing.contains_key(&ino) {
            return false;
        }
        *books.opens.entry(ino).or_insert(0) += 1;
        *books.own.entry(ino).or_insert(0) += 1;
        true
    }

    /// An open was refused.
    pub(crate) fn take_back(&self, ino: Ino) {
        lower(&mut self.books.lock().opens, ino, 1);
    }

    /// An open is to be released; true when so many wait that they should be sent now.
    pub(crate) fn release(&self, ino: Ino) -> bool {
        let mut books = self.books.lock();
        if books.own.contains_key(&ino) {
            lower(&mut books.own, ino, 1);
            lower(&mut books.opens, ino, 1);
            return false;
        }
        *books.leaving.entry(ino).or_insert(0) += 1;
        books.leaving.len() >= 256
    }

    /// The releases to send, at most one message full; they count as released from now on.
    pub(crate) fn take_releases(&self) -> Vec<(Ino, u32)> {
        let mut books = self.books.lock();
        let mut taken = listed(&books.leaving);
        taken.truncate(LIST_MAX);
        for (ino, count) in &taken {
            books.leaving.remove(ino);
            lower(&mut books.opens, *ino, *count);
        }
        taken
    }

    /// All opens held, by inode, to be told together. Own ones count as known to meta from now on.
    pub(crate) fn take_all(&self) -> Opens {
        let mut books = self.books.lock();
        let own = listed(&books.own);
        books.own.clear();
        for (ino, count) in &own {
            *books.telling.entry(*ino).or_insert(0) += count;
        }
        books.collected += 1;
        Opens { all: listed(&books.opens), own, number: books.collected }
    }

    /// Own opens to register, at most one message full: of one inode, or of all. They count as known to meta from now on.
    /// With how often all had been collected before.
    pub(crate) fn take_own(&self, which: Option<Ino>) -> (Vec<(Ino, u32)>, u64) {
        let mut books = self.books.lock();
        let mut taken = listed(&books.own);
        taken.retain(|(ino, _)| which.is_none_or(|wanted| wanted == *ino));
        taken.truncate(LIST_MAX);
        for (ino, count) in &taken {
            books.own.remove(ino);
            *books.telling.entry(*ino).or_insert(0) += count;
        }
        (taken, books.collected)
    }

    /// Has meta heard of all opens together that were collected after the first `collected` times?
    pub(crate) fn told_all_since(&self, collected: u64) -> bool {
        self.books.lock().told_all > collected
    }

    /// Is an own open (of one inode, or of any) on its way to meta?
    pub(crate) fn is_telling(&self, which: Option<Ino>) -> bool {
        let books = self.books.lock();
        which.map_or(!books.telling.is_empty(), |ino| books.telling.contains_key(&ino))
    }

    /// Are there opens of an inode that meta does not know?
    pub(crate) fn has_own(&self, ino: Ino) -> bool {
        let books = self.books.lock();
        books.own.contains_key(&ino) || books.telling.contains_key(&ino)
    }

    /// Meta heard of all opens together.
    pub(crate) fn told_together(&self, opens: &Opens) {
        let mut books = self.books.lock();
        books.told_all = books.told_all.max(opens.number);
        drop(books);
        self.told(&opens.own);
    }

    /// Own opens that were taken to be registered are.
    pub(crate) fn told(&self, taken: &[(Ino, u32)]) {
        let mut books = self.books.lock();
        for (ino, count) in taken {
            lower(&mut books.telling, *ino, *count);
        }
    }

    /// They could not be registered.
    pub(crate) fn give_own_back(&self, taken: &[(Ino, u32)]) {
        let mut books = self.books.lock();
        for (ino, count) in taken {
            lower(&mut books.telling, *ino, *count);
            // Closed meanwhile, they wait to be released: meta never knew them.
            let closed = books.leaving.get(ino).copied().unwrap_or(0).min(*count);
            lower(&mut books.leaving, *ino, closed);
            lower(&mut books.opens, *ino, closed);
            if *count > closed {
                *books.own.entry(*ino).or_insert(0) += count - closed;
            }
        }
    }

    /// Something (or, unknown which, anything) is about to lose a name.
    pub(crate) fn losing(&self, which: Option<Ino>) -> Losing<'_> {
        let mut books = self.books.lock();
        match which {
            Some(ino) => *books.losing.entry(ino).or_insert(0) += 1,
            None => books.losing_any += 1,
        }
        Losing { ledger: self, which }
    }
}

impl Drop for Losing<'_> {
    fn drop(&mut self) {
        let mut books = self.ledger.books.lock();
        match self.which {
            Some(ino) => lower(&mut books.losing, ino, 1),
            None => books.losing_any = books.losing_any.saturating_sub(1),
        }
    }
}

fn lower(counts: &mut HashMap<Ino, u32>, ino: Ino, by: u32) {
    if let Some(count) = counts.get_mut(&ino) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(&ino);
        }
    }
}

fn listed(counts: &HashMap<Ino, u32>) -> Vec<(Ino, u32)> {
    let mut list: Vec<(Ino, u32)> = counts.iter().map(|(ino, count)| (*ino, *count)).collect();
    list.sort_unstable();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_open_costs_no_message_unless_its_inode_may_lose_a_name() {
        let ledger = Ledger::default();
        let ino = Ino::new(7).unwrap();
        assert!(ledger.add_own(ino, || true));
        assert!(!ledger.release(ino));
        assert_eq!((ledger.take_releases(), ledger.take_all().all), (vec![], vec![]));
        assert!(!ledger.add_own(ino, || false));

        assert!(ledger.add_own(ino, || true) && ledger.add_own(ino, || true));
        {
            let _losing = ledger.losing(Some(ino));
            assert!(!ledger.add_own(ino, || true));
            assert_eq!(ledger.take_own(Some(ino)).0, vec![(ino, 2)]);
        }
        assert!(ledger.add_own(ino, || true));
        let _ = ledger.release(ino);
        let _ = ledger.release(ino);
        assert_eq!(ledger.take_releases(), vec![(ino, 1)], "the own open went first, then a registered one");
        assert_eq!(ledger.take_all().all, vec![(ino, 1)]);
    }

    #[test]
    fn opens_told_at_a_resumption_are_not_own_any_more() {
        let ledger = Ledger::default();
        let (told, later) = (Ino::new(7).unwrap(), Ino::new(8).unwrap());
        assert!(ledger.add_own(told, || true));
        let opens = ledger.take_all();
        assert!(ledger.add_own(later, || true));
        let _ = ledger.release(told);
        assert!(ledger.is_telling(Some(told)) && !ledger.is_telling(Some(later)) && !ledger.told_all_since(0));
        ledger.told_together(&opens);
        assert!(!ledger.is_telling(None) && ledger.told_all_since(0) && !ledger.told_all_since(1));
        assert_eq!(ledger.take_all().own, vec![(later, 1)]);
        assert_eq!(ledger.take_releases(), vec![(told, 1)], "closed while it was told: meta has to hear of it");
        let _any = ledger.losing(None);
        assert!(!ledger.add_own(told, || true));
    }
}
