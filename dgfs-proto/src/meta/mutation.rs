//! Changes of the truth that a client asks for.
//!
//! Never repeated in effect: each travels with its (session, op).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{FileKind, Timestamp};
use crate::chunk::ChunkRef;
use crate::graph::HandRelation;
use crate::ids::{Ino, Seq};
use crate::meta::{Caller, LockFamily, LockSpec};
use crate::name::Name;
use crate::tag::Tag;

/// What `Make` makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewNode {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink to these bytes.
    Symlink(Vec<u8>),
    /// A pipe, socket or device; `kind` is one of those.
    Special {
        /// Which.
        kind: FileKind,
        /// Device number, 0 for pipes and sockets.
        rdev: u32,
    },
}

/// How a rename treats its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// Replaces it (POSIX).
    Replace,
    /// Fails with EEXIST (RENAME_NOREPLACE).
    NoReplace,
    /// Swaps both (RENAME_EXCHANGE).
    Exchange,
}

/// What `Remove` may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoveKind {
    /// `unlink`: anything but a directory.
    Unlink,
    /// `rmdir`: an empty directory.
    Rmdir,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    /// Meta's clock (UTIME_NOW).
    Now,
    /// This time.
    At(Timestamp),
    /// For `atime` only, after a read: meta's clock if the access time is not newer than mtime and ctime, or a day
    /// old (relatime). Alone it never changes ctime; when nothing is due the attributes stay as they are.
    Relatime,
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permission bits, `0o7777`.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size; shrinking drops bytes, growing makes a hole.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Clear setuid (and setgid of executables), as a write or chown by an ordinary user does.
    pub kill_privileges: bool,
}

/// How `SetXattr` treats an attribute that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// Creates or replaces.
    Any,
    /// Fails with EEXIST when it is there.
    Create,
    /// Fails with ENODATA when it is not.
    Replace,
}

/// A chunk slot to change. Refused with `Conflict` when the slot does not hold `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEdit {
    /// Which chunk of the file.
    pub index: u64,
    /// What the writer started from; compared whole (a truncate changes only `len`).
    pub base: Option<ChunkRef>,
    /// What it holds now; `None` makes a hole.
    pub new: Option<ChunkRef>,
}

/// New content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewContent {
    /// The whole file, inline. `base_data_version` must be current (`Conflict` otherwise) and the file must have no chunks.
    Inline {
        /// The version the writer started from.
        base_data_version: u64,
        /// At most [`crate::limits::INLINE_BYTES_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// Chunk slots, at most [`crate::limits::EDITS_MAX`]. An inline file becomes a chunked one: then
    /// `inline_base` must be its current data version and the edits must carry its bytes.
    Slots {
        /// The data version of the inline content replaced, when the writer knew the file as inline.
        inline_base: Option<u64>,
        /// The edits.
        edits: Vec<SlotEdit>,
    },
}

/// Makes written data part of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The file.
    pub ino: Ino,
    /// Its new content.
    pub content: NewContent,
    /// The file is at least this long now (end of the last byte written).
    pub size_at_least: u64,
    /// Refused with `Conflict` when the file is not exactly this long (an append by one of several mounts).
    pub size_expected: Option<u64>,
    /// When the last byte was written.
    pub mtime: Timestamp,
    /// The map's `policies` that the writer went by. Refused with `OldMap` when chunks are new and policies have changed since.
    pub policies: u64,
}

/// What an open is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenMode {
    /// Reading only.
    Read,
    /// Writing (and reading).
    Write,
    /// Writing, after cutting the file to nothing (O_TRUNC).
    Truncate,
}

/// A change of the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// Makes an inode under a name.
    Make {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Name,
        /// What.
        node: NewNode,
        /// Permission bits asked for.
        mode: u16,
        /// The process's umask; a default ACL replaces it.
        umask: u16,
        /// Who owns it (a setgid directory decides the group).
        caller: Caller,
        /// Also register an open of the new file, as `Open` does.
        open: bool,
        /// Its number, granted to this session and greater than every one used before; none: the next one.
        ino: Option<Ino>,
    },
    /// A further name.
    Link {
        /// The inode.
        ino: Ino,
        /// Directory of the new name.
        parent: Ino,
        /// The new name.
        name: Name,
    },
    /// Removes a name.
    Remove {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Name,
        /// What it may be.
        kind: RemoveKind,
    },
    /// Moves a name.
    Rename {
        /// From this directory
        parent: Ino,
        /// and name
        name: Name,
        /// to this directory
        new_parent: Ino,
        /// and name.
        new_name: Name,
        /// What of a target.
        mode: RenameMode,
    },
    /// Sets attributes; a size makes it a truncate.
    SetAttr {
        /// The inode.
        ino: Ino,
        /// What to set.
        set: SetAttr,
    },
    /// Makes written data part of a file.
    Commit(Commit),
    /// Sets an extended attribute.
    SetXattr {
        /// The inode.
        ino: Ino,
        /// Name with its namespace prefix.
        name: Vec<u8>,
        /// Value.
        value: Vec<u8>,
        /// What of one that is there.
        mode: XattrMode,
        /// Whoever sets it, as the kernel says: tags that `user.xdg.tags` makes are this user's.
        uid: u32,
    },
    /// Removes an extended attribute.
    RemoveXattr {
        /// The inode.
        ino: Ino,
        /// Name with its namespace prefix.
        name: Vec<u8>,
    },
    /// Shares whole chunks of one file with another: offsets and length in chunks, the target's slots replaced.
    /// Grows the target to at least `size_at_least`.
    CopyChunks {
        /// Source file.
        from: Ino,
        /// First source chunk.
        from_index: u64,
        /// Target file.
        to: Ino,
        /// First target chunk.
        to_index: u64,
        /// Chunks, at most [`crate::limits::EDITS_MAX`].
        count: u32,
        /// The target is at least this long afterwards.
        size_at_least: u64,
    },
    /// Registers an open: the inode outlives its last name until released.
    Open {
        /// The inode.
        ino: Ino,
        /// What for.
        mode: OpenMode,
    },
    /// Registers `count` opens of each inode that the session's client took by itself while it was alone. Inodes that
    /// are gone are passed over.
    Register {
        /// At most [`crate::limits::LIST_MAX`].
        opens: Vec<(Ino, u32)>,
    },
    /// Takes back `count` opens of each inode.
    Release {
        /// At most [`crate::limits::LIST_MAX`].
        opens: Vec<(Ino, u32)>,
    },
    /// Sets or gives up a lock.
    Lock {
        /// The inode.
        ino: Ino,
        /// The lock.
        lock: LockSpec,
        /// Answer only once it is held (F_SETLKW).
        wait: bool,
    },
    /// Gives up all locks of an owner on an inode (close, release).
    UnlockOwner {
        /// The inode.
        ino: Ino,
        /// Lock space.
        family: LockFamily,
        /// The owner.
        owner: u64,
    },
    /// Ids for new chunks and versions, for this session alone.
    Grant {
        /// How many chunk ids, at most 65,536.
        chunks: u32,
        /// How many version ids, at most 16,777,216.
        versions: u32,
    },
    /// Numbers for new inodes, for this session alone.
    GrantInodes {
        /// How many, at most 65,536.
        count: u32,
    },
    /// Tags and untags inodes, all in one.
    Tag(TagEdit),
    /// Changes the catalogue of tags. `NotPermitted` where `by` may not change one of the tags.
    Tags {
        /// What.
        command: TagCommand,
        /// On whose behalf.
        by: Actor,
    },
    /// Adds or takes back a relation that a person made.
    Relate {
        /// From this inode.
        from: Ino,
        /// What.
        relation: HandRelation,
        /// To that one.
        to: Ino,
        /// Adds it; else takes it back.
        on: bool,
    },
    /// Saves a query under a name, or forgets it.
    SaveQuery {
        /// 1 to [`crate::limits::NAME_BYTES_MAX`] bytes, no slash.
        name: String,
        /// As [`crate::query`] shows it; none: forget it (`NotFound` when there is none).
        expression: Option<String>,
        /// Takes the place of one of that name, which is refused with `Exists` otherwise.
        replace: bool,
        /// On whose behalf: a new one is this user's; `NotPermitted` where one that is there is another's.
        by: Actor,
    },
}

/// On whose behalf tags and saved queries are changed, as the mount says: it is trusted, as with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// File-system user: owns what is made.
    pub uid: u32,
    /// Whoever mounted: may change what others made.
    pub operator: bool,
}

impl Actor {
    /// May it change what `owner` made? Its own, and everything for root and whoever mounted.
    #[must_use]
    pub const fn may_change(self, owner: u32) -> bool {
        self.operator || self.uid == 0 || self.uid == owner
    }
}

/// Tags to add and to take away. A tag that does not exist is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagEdit {
    /// Of these, at most [`crate::limits::TAGGED_MAX`]; those that are gone are passed over unless it is only one.
    pub inos: Vec<Ino>,
    /// At most [`crate::limits::TAGS_PER_FILE_MAX`] with what is there.
    pub add: Vec<Tag>,
    /// Those that an inode does not carry are passed over.
    pub remove: Vec<Tag>,
    /// Taggers are not to say these any more.
    pub veto: Vec<Tag>,
    /// They may again.
    pub unveto: Vec<Tag>,
    /// Refused with `Exists` when an inode carries all of `add` already (`ln` into a tag's directory).
    pub exclusive: bool,
    /// On behalf of this user, who owns the tags that are made.
    pub uid: u32,
}

/// A change of the catalogue of tags. Making needs nothing; everything else needs every tag it changes, every tag that gets more
/// carriers by it (what those imply included), and every tag above such a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagCommand {
    /// Makes a tag that nobody carries yet; `Exists` when there is one.
    Make(Tag),
    /// Gives it another name, with what is below it; `Exists` when there is one of that name.
    Rename {
        /// This one.
        from: Tag,
        /// Is called so.
        to: Tag,
    },
    /// Whoever carries the first carries the second, and the first is a name for the second.
    Merge {
        /// This one ends.
        from: Tag,
        /// In this one.
        into: Tag,
    },
    /// It is gone from every inode. With `unused_at`, refused with `NotEmpty` when somebody may have been given it behind that seq.
    Delete {
        /// Which.
        tag: Tag,
        /// The caller knows that nobody carried it at that seq.
        unused_at: Option<Seq>,
    },
    /// Another name for a tag.
    Alias {
        /// The other name; `Exists` when a tag has it.
        alias: Tag,
        /// The tag; none: the alias is taken away.
        tag: Option<Tag>,
    },
    /// Who carries the first carries the second, too.
    Imply {
        /// The first.
        tag: Tag,
        /// The second.
        implied: Tag,
        /// Adds it; else takes it back.
        on: bool,
    },
}
