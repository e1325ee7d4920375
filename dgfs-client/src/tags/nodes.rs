//! Numbers of virtual inodes, and what each stands for while the kernel knows it.
//!
//! Never asks anybody. Always: a number stays with one thing as long as the kernel counts a look-up of it; every number has the
//! highest bit, which no inode of a volume has (they are counted up from 1); the same thing gets the same number again, as long
//! as nothing else holds it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

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
/// Chains below which nothing is swept.
const CHAINS_MIN: usize = 4096;

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
    /// The directory it is, or lies in.
    fn at(&self) -> &Spot {
        match self {
            Self::Directory(at)
            | Self::Entry { at, .. }
            | Self::Refinement { at, .. }
            | Self::Saved { at, .. }
            | Self::File { at, .. } => at,
        }
    }

    fn kept(&self) -> Kept {
        match self {
            Self::Directory(_) => Kept::Directory,
            Self::Entry { ino, .. } => Kept::Entry(*ino),
            Self::Refinement { component, .. } => Kept::Refinement(component.as_str().into()),
            Self::Saved { name, .. } => Kept::Saved(name.as_str().into()),
            Self::File { special, .. } => Kept::File(*special),
        }
    }

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

/// A component and what is above it. Directories of one path share what is above them, so that each costs its own name only.
struct Chain {
    above: Option<Arc<Chain>>,
    component: Box<str>,
}

impl Chain {
    fn new(above: Option<Arc<Self>>, component: &str) -> Arc<Self> {
        Arc::new(Self { above, component: component.into() })
    }

    fn is(&self, above: Option<&Arc<Self>>, component: &str) -> bool {
        self.above.as_ref().map(Arc::as_ptr) == above.map(Arc::as_ptr) && *self.component == *component
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // One after the other: a chain may be as long as a path.
        let mut above = self.above.take();
        while let Some(Ok(mut chain)) = above.map(Arc::try_unwrap) {
            above = chain.above.take();
        }
    }
}

/// What is kept of a node: its path is read anew when it is asked for, as what it means takes a thousand times its bytes.
struct Known {
    kind: Kept,
    scope: Ino,
    at: Option<Arc<Chain>>,
    lookups: u64,
}

enum Kept {
    Directory,
    Entry(Ino),
    Refinement(Box<str>),
    Saved(Box<str>),
    File(Special),
}

impl Known {
    fn components(&self) -> Vec<&str> {
        let mut components = Vec::new();
        let mut at = self.at.as_ref();
        while let Some(chain) = at {
            components.push(&*chain.component);
            at = chain.above.as_ref();
        }
        components.reverse();
        components
    }

    fn is(&self, node: &Node) -> bool {
        let same = match (&self.kind, node) {
            (Kept::Directory, Node::Directory(_)) => true,
            (Kept::Entry(kept), Node::Entry { ino, .. }) => kept == ino,
            (Kept::Refinement(kept), Node::Refinement { component, .. }) => **kept == **component,
            (Kept::Saved(kept), Node::Saved { name, .. }) => **kept == **name,
            (Kept::File(kept), Node::File { special, .. }) => kept == special,
            _ => false,
        };
        same && self.scope == node.at().scope && self.components() == node.at().components
    }

    fn node(&self) -> Result<Node, Status> {
        let mut spot = Spot::root(self.scope);
        for component in self.components() {
            // It was read before, and means the same now.
            spot = spot.child(component).map_err(|error| error.status())?;
        }
        let at = Arc::new(spot);
        Ok(match &self.kind {
            Kept::Directory => Node::Directory(at),
            Kept::Entry(ino) => Node::Entry { at, ino: *ino },
            Kept::Refinement(component) => Node::Refinement { at, component: component.to_string() },
            Kept::Saved(name) => Node::Saved { at, name: name.to_string() },
            Kept::File(special) => Node::File { at, special: *special },
        })
    }
}

/// The virtual inodes that the kernel knows.
pub(crate) struct Nodes {
    volume: Uuid,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<u64, Known>,
    /// Chains that others continue, by a hash of all their components.
    chains: HashMap<u64, Weak<Chain>>,
}

impl Table {
    fn chain(&mut self, volume: Uuid, components: &[String]) -> Option<Arc<Chain>> {
        let (last, before) = components.split_last()?;
        let mut above: Option<Arc<Chain>> = None;
        let mut path = Vec::new();
        for component in before {
            path.extend_from_slice(component.as_bytes());
            path.push(0);
            let key = name_hash(volume, &path);
            let known =
                self.chains.get(&key).and_then(Weak::upgrade).filter(|known| known.is(above.as_ref(), component));
            above = Some(known.unwrap_or_else(|| {
                let made = Chain::new(above.take(), component);
                self.chains.insert(key, Arc::downgrade(&made));
                made
            }));
        }
        Some(Chain::new(above, last))
    }

    /// Forgets chains that no node has any more, now and then.
    fn sweep(&mut self) {
        if self.chains.len() > CHAINS_MIN && self.chains.len() > 2 * self.known.len() {
            self.chains.retain(|_, chain| chain.strong_count() > 0);
        }
    }
}

impl Nodes {
    pub(crate) fn new(volume: Uuid) -> Self {
        Self { volume, table: Mutex::default() }
    }

    /// The number that `node` has, or would get: for listings, which count no look-up.
    pub(crate) fn number(&self, node: &Node) -> Ino {
        let raw = VIRTUAL | name_hash(self.volume, &node.key());
        Ino::new(raw).unwrap_or(Ino::ROOT)
    }

    /// A look-up: the number of `node`, to be forgotten as often as it was told.
    pub(crate) fn looked_up(&self, node: &Node) -> Result<Ino, Status> {
        let mut table = self.table.lock();
        let mut raw = self.number(node).get();
        // Two things of one hash are told apart by what is free behind it; at most as many steps as there are nodes.
        while table.known.get(&raw).is_some_and(|other| !other.is(node)) {
            raw = VIRTUAL | raw.wrapping_add(1);
        }
        if let Some(known) = table.known.get_mut(&raw) {
            known.lookups += 1;
        } else {
            if table.known.len() >= NODES_MAX {
                tracing::warn!(nodes = table.known.len(), "the kernel holds too many names below the tag directory");
                return Err(Status::NoSpace);
            }
            let at = table.chain(self.volume, &node.at().components);
            let known = Known { kind: node.kept(), scope: node.at().scope, at, lookups: 1 };
            table.known.insert(raw, known);
        }
        Ino::new(raw).ok_or(Status::Io)
    }

    /// What the kernel means by `ino`.
    pub(crate) fn get(&self, ino: Ino) -> Result<Node, Status> {
        self.table.lock().known.get(&ino.get()).ok_or(Status::Stale)?.node()
    }

    /// The kernel forgets `count` look-ups.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let mut table = self.table.lock();
        let Some(node) = table.known.get_mut(&ino.get()) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 {
            table.known.remove(&ino.get());
            table.sweep();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.lock().known.len()
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
    fn what_lies_below_one_directory_shares_it() {
        let nodes = nodes();
        let long: Vec<String> = (0..30).map(|number| format!("a{number},b{number},c{number}")).collect();
        let above: Vec<&str> = long.iter().map(String::as_str).collect();
        let spots = (0..100).map(|number| Arc::new(spot(&above).child(&format!("x{number}")).unwrap()));
        let inos: Vec<Ino> = spots.map(|spot| nodes.looked_up(&Node::Directory(spot)).unwrap()).collect();
        let table = nodes.table.lock();
        let shared = table.known.values().map(|known| Arc::as_ptr(known.at.as_ref().unwrap().above.as_ref().unwrap()));
        assert_eq!(shared.collect::<std::collections::BTreeSet<_>>().len(), 1);
        drop(table);
        inos.iter().for_each(|ino| nodes.forget(*ino, 1));
        nodes.table.lock().chains.retain(|_, chain| chain.strong_count() > 0);
        assert_eq!((nodes.len(), nodes.table.lock().chains.len()), (0, 0));
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
