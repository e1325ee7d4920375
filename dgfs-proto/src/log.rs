//! The change log: one event for each committed mutation, in the same batch.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{FileKind, Timestamp};
use crate::chunk::ChunkRef;
use crate::graph::{HandRelation, NodeFacts, TagFacts};
use crate::ids::{Ino, Seq, SessionId, TagId};
use crate::name::Name;
use crate::tag::Tag;

/// A committed change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position.
    pub seq: Seq,
    /// Meta's clock.
    pub at: Timestamp,
    /// Who did it; none for meta itself (orphans, recovery).
    pub session: Option<SessionId>,
    /// What happened.
    pub change: Change,
    /// What the graph keeps of the inodes whose attributes it changed, as they are now. A change of several events names
    /// them in the first.
    pub nodes: Vec<NodeFacts>,
    /// The next event belongs to the same change: whoever applies this one applies that one with it.
    pub continues: bool,
}

/// A chunk slot before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotChange {
    /// Which chunk of the file.
    pub index: u64,
    /// Before; none is a hole.
    pub old: Option<ChunkRef>,
    /// After.
    pub new: Option<ChunkRef>,
}

/// A change of a file's content, with what is needed to take it back after a
/// power cut that kept the metadata and lost the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChange {
    /// The file.
    pub ino: Ino,
    /// Slots that changed.
    pub slots: Vec<SlotChange>,
    /// Size before.
    pub old_size: u64,
    /// Size after.
    pub new_size: u64,
    /// Modification time before.
    pub old_mtime: Timestamp,
    /// The inline bytes that this change replaced by chunks, if it did.
    pub old_inline: Option<Vec<u8>>,
}

/// What one mutation changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new inode under a name.
    Made {
        /// The inode.
        ino: Ino,
        /// Its directory.
        parent: Ino,
        /// Its name.
        name: Name,
        /// What it is.
        kind: FileKind,
    },
    /// A further name of an inode.
    Linked {
        /// The inode.
        ino: Ino,
        /// Directory of the new name.
        parent: Ino,
        /// The new name.
        name: Name,
    },
    /// A name removed.
    Unlinked {
        /// The inode.
        ino: Ino,
        /// Its directory.
        parent: Ino,
        /// The name that is gone.
        name: Name,
        /// No name is left.
        last: bool,
    },
    /// A name moved (or two exchanged).
    Renamed {
        /// The inode that moved.
        ino: Ino,
        /// From this directory
        parent: Ino,
        /// and this name
        name: Name,
        /// to this directory
        new_parent: Ino,
        /// and this name.
        new_name: Name,
        /// The inode that had the new name before.
        replaced: Option<Ino>,
        /// `replaced` got the old name (RENAME_EXCHANGE).
        exchanged: bool,
    },
    /// Mode, owner or times set.
    AttrSet {
        /// The inode.
        ino: Ino,
    },
    /// Content or size changed.
    Data(DataChange),
    /// An extended attribute set or removed.
    Xattr {
        /// The inode.
        ino: Ino,
        /// Its name.
        name: Vec<u8>,
    },
    /// An inode without a name was freed.
    Freed {
        /// The inode.
        ino: Ino,
    },
    /// An extended attribute that the graph keeps ([`crate::graph::is_kept_xattr`]) set or removed.
    KeptXattr {
        /// The inode.
        ino: Ino,
        /// Its name.
        name: Vec<u8>,
        /// Its value now.
        value: Option<Vec<u8>>,
    },
    /// Tags that people set, and what they do not want taggers to say: everything of each inode, as it is now.
    Tagged {
        /// Tags that were made for it.
        made: Vec<(TagId, TagFacts)>,
        /// All tags of an inode.
        tags: Vec<(Ino, Vec<TagId>)>,
        /// All vetoes of an inode.
        vetoes: Vec<(Ino, Vec<Tag>)>,
    },
    /// Tags made, renamed, merged or deleted (none).
    TagsChanged(Vec<(TagId, Option<TagFacts>)>),
    /// All relations from an inode that people made, as they are now.
    Related {
        /// The inode.
        ino: Ino,
        /// What to which.
        to: Vec<(HandRelation, Ino)>,
    },
    /// A query saved under a name, or forgotten.
    Saved {
        /// Its name.
        name: String,
        /// As [`crate::query`] shows it.
        expression: Option<String>,
    },
}
