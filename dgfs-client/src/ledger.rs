//! Which inodes this session holds open at meta, for a meta that has to learn it anew.
//!
//! Never sends. Always: an open that was or may have been registered is counted until its release is asked for.

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
    opens: HashMap<Ino, u32>,
    leaving: HashMap<Ino, u32>,
}

impl Ledger {
    /// An open is about to be registered.
    pub(crate) fn add(&self, ino: Ino) {
        *self.books.lock().opens.entry(ino).or_insert(0) += 1;
    }

    /// An open was refused.
    pub(crate) fn take_back(&self, ino: Ino) {
        let mut books = self.books.lock();
        lower(&mut books.opens, ino, 1);
    }

    /// An open is to be released; true when so many wait that they should be sent now.
    pub(crate) fn release(&self, ino: Ino) -> bool {
        let mut books = self.books.lock();
        *books.leaving.entry(ino).or_insert(0) += 1;
        books.leaving.len() >= 256
    }

    /// The releases to send, at most one message full; they count as released from now on.
    pub(crate) fn take_releases(&self) -> Vec<(Ino, u32)> {
        let mut books = self.books.lock();
        let mut taken: Vec<(Ino, u32)> = books.leaving.iter().map(|(ino, count)| (*ino, *count)).collect();
        taken.sort_unstable();
        taken.truncate(LIST_MAX);
        for (ino, count) in &taken {
            books.leaving.remove(ino);
            lower(&mut books.opens, *ino, *count);
        }
        taken
    }

    /// All opens held, by inode.
    pub(crate) fn opens(&self) -> Vec<(Ino, u32)> {
        let mut opens: Vec<(Ino, u32)> = self.books.lock().opens.iter().map(|(ino, count)| (*ino, *count)).collect();
        opens.sort_unstable();
        opens
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
