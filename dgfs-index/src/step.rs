//! The small changes that an event, or a page of inodes, comes down to.
//!
//! Never depends on what is stored: a step carries the whole new value, so that one taken twice, or on top of a state
//! that had it already, ends in the same state. What a step means is decided once, by the store, which adds steps for
//! what follows from it (whoever had a name loses it); memory then does the same without asking.

use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::{GraphNode, HandRelation, NodeFacts, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::log::{Change, DataChange, Event};
use dgfs_proto::name::Name;
use dgfs_proto::tag::Tag;

/// A change of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Attributes.
    Node(NodeFacts),
    /// The inode is no more, nor anything that was known of it.
    Gone(Ino),
    /// This name leads to this inode.
    Name {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Name,
        /// Inode.
        ino: Ino,
    },
    /// This name leads nowhere, if it led to this inode.
    NoName {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Name,
        /// Inode.
        ino: Ino,
    },
    /// An extended attribute that the graph keeps.
    Xattr {
        /// Inode.
        ino: Ino,
        /// Its name.
        name: Vec<u8>,
        /// Its value; none: it has none.
        value: Option<Vec<u8>>,
    },
    /// A tag of the catalogue; none: there is no such tag, and nobody carries it.
    Tag(TagId, Option<TagFacts>),
    /// All tags that people gave an inode.
    Tagged(Ino, Vec<TagId>),
    /// All that taggers are not to say of it.
    Vetoes(Ino, Vec<Tag>),
    /// All relations from it that people made.
    Related(Ino, Vec<(HandRelation, Ino)>),
    /// A saved query; none: forgotten.
    Saved(String, Option<String>),
    /// What attributes and taggers say of it: made by the store only.
    Derived(Ino, Derived),
}

/// What is known of an inode besides its attributes and what people tagged it with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Tags and `key=value`, vetoes taken off, each once.
    pub words: Vec<String>,
    /// When the picture was taken: nanoseconds since 1970.
    pub taken_ns: Option<i64>,
    /// The hash of its content.
    pub content: Option<ContentHash>,
    /// Its owner does not want it examined.
    pub unindexed: bool,
}

/// BLAKE3 (or what the taggers agree on) of a file's bytes.
pub type ContentHash = [u8; 32];

/// Nanoseconds since 1970, cut to what 64 bits hold (the years 1678 to 2262).
#[must_use]
pub fn nanoseconds(time: Timestamp) -> i64 {
    time.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// The steps of one event, in order.
pub fn steps_of_event(event: &Event, steps: &mut Vec<Step>) {
    steps.extend(event.nodes.iter().cloned().map(Step::Node));
    let named = |ino: Ino, parent: Ino, name: &Name| Step::Name { parent, name: name.clone(), ino };
    let unnamed = |ino: Ino, parent: Ino, name: &Name| Step::NoName { parent, name: name.clone(), ino };
    match &event.change {
        Change::Made { ino, parent, name, .. } | Change::Linked { ino, parent, name } => {
            steps.push(named(*ino, *parent, name));
        }
        Change::Unlinked { ino, parent, name, .. } => steps.push(unnamed(*ino, *parent, name)),
        Change::Renamed { ino, parent, name, new_parent, new_name, replaced, exchanged } => {
            if let (Some(other), true) = (replaced, exchanged) {
                steps.push(named(*other, *parent, name));
            } else if (parent, name) != (new_parent, new_name) {
                steps.push(unnamed(*ino, *parent, name));
            }
            steps.push(named(*ino, *new_parent, new_name));
        }
        Change::Freed { ino } => steps.push(Step::Gone(*ino)),
        Change::KeptXattr { ino, name, value } => {
            steps.push(Step::Xattr { ino: *ino, name: name.clone(), value: value.clone() });
        }
        Change::Tagged { made, tags, vetoes } => {
            steps.extend(made.iter().map(|(id, facts)| Step::Tag(*id, Some(facts.clone()))));
            steps.extend(tags.iter().map(|(ino, tags)| Step::Tagged(*ino, tags.clone())));
            steps.extend(vetoes.iter().map(|(ino, vetoes)| Step::Vetoes(*ino, vetoes.clone())));
        }
        Change::TagsChanged(tags) => steps.extend(tags.iter().map(|(id, facts)| Step::Tag(*id, facts.clone()))),
        Change::Related { ino, to } => steps.push(Step::Related(*ino, to.clone())),
        Change::Saved { name, expression } => steps.push(Step::Saved(name.clone(), expression.clone())),
        // Their attributes came above; their content is none of the graph's business.
        Change::AttrSet { .. } | Change::Data(_) | Change::Xattr { .. } => {}
    }
}

/// The inodes that an event names.
#[must_use]
pub fn inos_of_event(event: &Event) -> Vec<Ino> {
    match &event.change {
        Change::Made { ino, parent, .. }
        | Change::Linked { ino, parent, .. }
        | Change::Unlinked { ino, parent, .. } => {
            vec![*ino, *parent]
        }
        Change::Renamed { ino, parent, new_parent, replaced, .. } => {
            [*ino, *parent, *new_parent].into_iter().chain(*replaced).collect()
        }
        Change::AttrSet { ino }
        | Change::Xattr { ino, .. }
        | Change::Freed { ino }
        | Change::KeptXattr { ino, .. }
        | Change::Data(DataChange { ino, .. }) => vec![*ino],
        Change::Tagged { tags, vetoes, .. } => {
            tags.iter().map(|(ino, _)| *ino).chain(vetoes.iter().map(|(ino, _)| *ino)).collect()
        }
        Change::Related { ino, to } => to.iter().map(|(_, to)| *to).chain([*ino]).collect(),
        Change::TagsChanged(_) | Change::Saved { .. } => Vec::new(),
    }
}

/// The steps that make an inode what a page of inodes says of it, in a graph that knew nothing of it.
pub fn steps_of_node(node: GraphNode, steps: &mut Vec<Step>) {
    let ino = node.facts.ino;
    steps.push(Step::Node(node.facts));
    steps.extend(node.names.into_iter().map(|(parent, name)| Step::Name { parent, name, ino }));
    steps.extend(node.xattrs.into_iter().map(|(name, value)| Step::Xattr { ino, name, value: Some(value) }));
    if !node.tags.is_empty() {
        steps.push(Step::Tagged(ino, node.tags));
    }
    if !node.vetoes.is_empty() {
        steps.push(Step::Vetoes(ino, node.vetoes));
    }
    if !node.related.is_empty() {
        steps.push(Step::Related(ino, node.related));
    }
}
