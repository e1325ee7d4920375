//! Numbers of virtual inodes, and what each stands for while the kernel knows it.
//!
//! Never asks anybody. Always: a number stays with one thing as long as the kernel counts a look-up of it; every number has the
//! highest bit, which no inode of a volume has (they are counted up from 1); the same thing gets the same number again, as long
//! as nothing else holds it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use dgfs_proto::ids::{Ino, Uuid};
use dgfs_proto::name::name_hash;
use dgfs_proto::query::entry::ino_id;
use dgfs_proto::status::Status;

use crate::tags::path::{Special, Spot};

/// The bit that tells a virtual inode.
const VIRTUAL: u64 = 1 << 63;
/// Virtual inodes that the kernel may know at once. It forgets one as soon as nobody uses it, as it may keep none of their names.
const NODES_MAX: usize = 1 << 20;

/// Is it the number of a virtual inode?
#[must_use]
pub const fn is_virtual(ino: Ino) -> bool {
    ino.get() & VIRTUAL != 0
}

/// What a virtual inode stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Directory(Arc<Spot>),
    /// A file that was found: a symlink to it.
    Entry {
        /// Where.
        at: Arc<Spot>,
        /// Which.
        ino: Ino,
    },
    /// A symlink to a tag, in `@refine`, by its component.
    Refinement {
        /// The `@refine` directory.
        at: Arc<Spot>,
        /// The tag's component.
        component: String,
    },
    /// A symlink to a saved query, by its name.
    Saved {
        /// The `@saved` directory.
        at: Arc<Spot>,
        /// Its name.
        name: String,
    },
    /// A file with an answer.
    File {
        /// About this.
        at: Arc<Spot>,
        /// Which answer.
        special: Special,
    },
}

impl Node {
    /// Bytes that tell it from every other one: no component has a NUL.
    fn key(&self) -> Vec<u8> {
        let (kind, at, detail) = match self {
            Self::Directory(at) => ("d", at, String::new()),
            Self::Entry { at, ino } => ("e", at, ino_id(*ino)),
            Self::Refinement { at, component } => ("r", at, component.clone()),
            Self::Saved { at, name } => ("s", at, name.clone()),
            Self::File { at, special } => ("f", at, special.name().to_owned()),
        };
        let mut key = format!("{kind}\0{}\0{detail}", at.scope);
        for component in &at.components {
            key.push('\0');
            key.push_str(component);
        }
        key.into_bytes()
    }
}

struct Known {
    node: Node,
    lookups: u64,
}

/// The virtual inodes that the kernel knows.
pub(crate) struct Nodes {
    volume: Uuid,
    known: Mutex<HashMap<u64, Known>>,
}

impl Nodes {
    pub(crate) fn new(volume: Uuid) -> Self {
        Self { volume, known: Mutex::default() }
    }

    /// The number that `node` has, or would get: for listings, which count no look-up.
    pub(crate) fn number(&self, node: &Node) -> Ino {
        let raw = VIRTUAL | name_hash(self.volume, &node.key());
        Ino::new(raw).unwrap_or(Ino::ROOT)
    }

    /// A look-up: the number of `node`, to be forgotten as often as it was told.
    pub(crate) fn looked_up(&self, node: &Node) -> Result<Ino, Status> {
        let mut known = self.known.lock();
        let mut raw = self.number(node).get();
        // Two things of one hash are told apart by what is free behind it; at most as many steps as there are nodes.
        while known.get(&raw).is_some_and(|other| other.node != *node) {
            raw = VIRTUAL | raw.wrapping_add(1);
        }
        if known.len() >= NODES_MAX && !known.contains_key(&raw) {
            tracing::warn!(nodes = known.len(), "the kernel holds too many names below the tag directory");
            return Err(Status::NoSpace);
        }
        known.entry(raw).or_insert_with(|| Known { node: node.clone(), lookups: 0 }).lookups += 1;
        Ino::new(raw).ok_or(Status::Io)
    }

    /// What the kernel means by `ino`.
    pub(crate) fn get(&self, ino: Ino) -> Result<Node, Status> {
        self.known.lock().get(&ino.get()).map(|known| known.node.clone()).ok_or(Status::Stale)
    }

    /// The kernel forgets `count` look-ups.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let mut known = self.known.lock();
        let Some(node) = known.get_mut(&ino.get()) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 {
            known.remove(&ino.get());
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dgfs_proto::ids::{Ino, Uuid};
    use dgfs_proto::status::Status;

    use super::{Node, Nodes, is_virtual};
    use crate::tags::path::{Special, Spot};

    fn nodes() -> Nodes {
        Nodes::new(Uuid([3; 16]))
    }

    fn spot(components: &[&str]) -> Arc<Spot> {
        let root = Spot::root(Ino::ROOT);
        let spot = components.iter().fold(root, |spot, component| spot.child(component).unwrap());
        Arc::new(spot)
    }

    #[test]
    fn a_number_lives_as_long_as_its_lookups() {
        let nodes = nodes();
        let node = Node::Directory(spot(&["a", "b"]));
        let ino = nodes.looked_up(&node).unwrap();
        assert!(is_virtual(ino) && !is_virtual(Ino::ROOT));
        assert_eq!((nodes.looked_up(&node), nodes.number(&node)), (Ok(ino), ino));
        nodes.forget(ino, 1);
        assert_eq!(nodes.get(ino), Ok(node.clone()));
        nodes.forget(ino, 1);
        assert_eq!((nodes.get(ino), nodes.len()), (Err(Status::Stale), 0));
        nodes.forget(ino, 7);
        assert_eq!(nodes.looked_up(&node), Ok(ino), "the same thing has the same number again");
    }

    #[test]
    fn different_things_have_different_numbers() {
        let nodes = nodes();
        let at = spot(&["a"]);
        let different = [
            Node::Directory(spot(&[])),
            Node::Directory(Arc::clone(&at)),
            Node::Directory(spot(&["a", "b"])),
            Node::Directory(spot(&["a,b"])),
            Node::Directory(Arc::new(Spot::root(Ino::new(9).unwrap()))),
            Node::Entry { at: Arc::clone(&at), ino: Ino::new(5).unwrap() },
            Node::Entry { at: Arc::clone(&at), ino: Ino::new(6).unwrap() },
            Node::Refinement { at: Arc::clone(&at), component: "5".to_owned() },
            Node::Saved { at: Arc::clone(&at), name: "5".to_owned() },
            Node::File { at: Arc::clone(&at), special: Special::Counts },
            Node::File { at, special: Special::Explain },
        ];
        let mut numbers: Vec<Ino> = different.iter().map(|node| nodes.looked_up(node).unwrap()).collect();
        assert!(different.iter().zip(&numbers).all(|(node, ino)| nodes.get(*ino).as_ref() == Ok(node)));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), different.len());
    }
}
