//! The change log: one event for each committed mutation, in the same batch.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{FileKind, Timestamp};
use crate::chunk::ChunkRef;
use crate::ids::{Ino, Seq, SessionId};
use crate::name::Name;

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
}
