//! What fitted when those who watch were answered last, so that they can be told what left.
//!
//! Never decides who sees what. Always: of at most [`WATCHES_MAX`] watches is remembered, and nothing of one with more than
//! [`INOS_MAX`] inodes: such a one is told of what fits only.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringTreemap;

use dgfs_proto::graph::Viewer;
use dgfs_proto::graph::request::Sought;
use dgfs_proto::ids::Seq;

/// Watches remembered; each takes a few bytes for an inode at most.
const WATCHES_MAX: usize = 32;
/// Inodes of one.
const INOS_MAX: u64 = 1 << 20;

/// Numbers of inodes that fitted.
pub(crate) type Inos = Arc<RoaringTreemap>;

/// Whose watch, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) sought: Sought,
    pub(crate) viewer: Viewer,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<VecDeque<(Watched, Seq, Inos)>>);

impl Watches {
    /// What fitted when this watch was answered up to `at`.
    pub(crate) fn get(&self, watched: &Watched, at: Seq) -> Option<Inos> {
        let kept = self.0.lock();
        kept.iter().find(|(of, seq, _)| of == watched && *seq == at).map(|(_, _, inos)| Arc::clone(inos))
    }

    /// It is answered up to `at`. What is remembered of earlier answers stays: of two who watch the same, one may be behind.
    pub(crate) fn put(&self, watched: Watched, at: Seq, inos: Inos) {
        if inos.len() > INOS_MAX {
            return;
        }
        let mut kept = self.0.lock();
        kept.retain(|(of, seq, _)| !(*of == watched && *seq == at));
        kept.push_back((watched, at, inos));
        let excess = kept.len().saturating_sub(WATCHES_MAX);
        kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roaring::RoaringTreemap;

    use super::{INOS_MAX, WATCHES_MAX, Watched, Watches};
    use dgfs_proto::graph::Viewer;
    use dgfs_proto::graph::request::Sought;
    use dgfs_proto::ids::{Ino, Seq};
    use dgfs_proto::query::Query;

    #[test]
    fn the_last_answers_are_remembered_and_large_ones_are_not() {
        let sought = Sought { scope: Ino::ROOT, query: Query::default() };
        let watched = Watched { sought, viewer: Viewer::root() };
        let watches = Watches::default();
        for seq in 0..=WATCHES_MAX as u64 {
            watches.put(watched.clone(), Seq(seq), Arc::new(RoaringTreemap::from_iter([seq])));
        }
        assert!(watches.get(&watched, Seq(0)).is_none(), "the oldest one is forgotten");
        assert!(watches.get(&watched, Seq(1)).unwrap().contains(1));
        let other = Watched { viewer: Viewer { uid: 5, gids: vec![5] }, ..watched.clone() };
        assert!(watches.get(&other, Seq(1)).is_none());
        let mut large = RoaringTreemap::new();
        large.insert_range(0..=INOS_MAX);
        watches.put(other.clone(), Seq(1), Arc::new(large));
        assert!(watches.get(&other, Seq(1)).is_none());
    }
}
