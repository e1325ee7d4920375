//! Client (or daemon) ↔ metadata service.
//!
//! Reads and waits may be repeated freely. A [`Mutation`] carries (session,
//! op): meta applies it once and answers a repetition with the first answer.

mod kept_back;
mod label;
mod lease;
mod mutation;
mod reply;
mod service;
mod watch;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::Timestamp;
use crate::ids::{Epoch, Ino, OpId, SessionId, Uuid};
use crate::name::Name;

pub use self::kept_back::{Applied, KeptAnswer, KeptBack, digest};
pub use self::lease::{Leasing, Recall, RecallOf};
pub use self::mutation::{
    Actor, Commit, Mutation, NewContent, NewNode, OpenMode, RemoveKind, RenameMode, SetAttr, SetTime, SlotEdit,
    TagCommand, TagEdit, XattrMode,
};
pub use self::reply::{
    ClassHealth, ConsumerStatus, Content, DirEntry, InodeChunks, MetaReply, MetaStatus, Named, ServerStatus,
    SessionStatus, VolumeUsage,
};
pub use self::service::{
    AdminRequest, Filled, GarbageItem, LiveQuery, LivingSessions, Notice, ServerCommand, ServerRequest, SessionRequest,
};
pub use self::watch::{Announce, ClusterEvent, EventKind, MemberStatus, ProcessKind, WatchReply, WatchRequest};

/// What a volume is, fixed at format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its id; also keys the directory hash.
    pub uuid: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Bytes of a chunk, a power of two.
    pub chunk_bytes: u32,
    /// Largest inline file.
    pub inline_bytes_max: u32,
    /// Version of rows and events; a newer one is refused.
    pub format: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Storage servers that must have joined before partitions are assigned.
    pub initial_servers: u32,
}

/// Who mounts, for `dgfs status` and for the sentence "mounted by …".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Host name.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// Mount point, empty for tools.
    pub mount_point: String,
    /// `dgfs` version.
    pub version: String,
}

/// Who acts, as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
}

/// Which lock space: they do not see each other, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockFamily {
    /// `fcntl` (also OFD).
    Posix,
    /// `flock`.
    Flock,
}

/// What to do with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// Give up.
    Unlock,
}

/// A lock asked for or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSpec {
    /// Lock space.
    pub family: LockFamily,
    /// The kernel's owner, unique inside the session.
    pub owner: u64,
    /// What.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte (inclusive); `u64::MAX` to the end of time.
    pub end: u64,
    /// The process, for F_GETLK.
    pub pid: u32,
}

/// A question about the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// An entry by name.
    Lookup {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Name,
    },
    /// Attributes.
    GetAttr(Ino),
    /// Attributes of several inodes, in order; gone ones are left out.
    GetAttrs(Vec<Ino>),
    /// Entries of a directory after `cookie`.
    ReadDir {
        /// Directory.
        ino: Ino,
        /// 0, or the cookie of the last entry seen.
        cookie: u64,
        /// At most [`crate::limits::READDIR_PAGE_MAX`].
        limit: u32,
    },
    /// A symlink's target.
    ReadLink(Ino),
    /// A file's inline bytes, or its chunk slots from `first`, with fresh attributes.
    Content {
        /// The file.
        ino: Ino,
        /// First slot.
        first: u64,
        /// Slots, at most [`crate::limits::CHUNK_PAGE_MAX`].
        count: u32,
    },
    /// The next slot at or behind `first` that holds a chunk.
    NextChunk {
        /// The file.
        ino: Ino,
        /// First slot.
        first: u64,
    },
    /// One extended attribute.
    GetXattr {
        /// The inode.
        ino: Ino,
        /// Name with its prefix.
        name: Vec<u8>,
    },
    /// Names of all extended attributes.
    ListXattr(Ino),
    /// Everything below a directory.
    TreeStat(Ino),
    /// A lock that stands in the way of this one (F_GETLK).
    TestLock {
        /// The inode.
        ino: Ino,
        /// The lock that would be set.
        lock: LockSpec,
    },
    /// Space and inodes of the volume.
    StatFs,
    /// The path of an inode from the root, by its first link.
    PathOf(Ino),
    /// The policy that new data of an inode follow.
    Policy(Ino),
    /// May this session keep writes of a file back? Granted when no other session has it open.
    LeaseWrites(Ino),
    /// A file's content from slot 0, and that of other files that are expected to be read next. What of them cannot be told at
    /// once, or is too long, is left out.
    Contents {
        /// The file.
        ino: Ino,
        /// At most [`crate::limits::CONTENTS_MAX`].
        also: Vec<Ino>,
    },
}

/// A request to the metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaRequest {
    /// Session life.
    Session(SessionRequest),
    /// A question.
    Query(Query),
    /// A change; answered once by (session, op).
    Mutate {
        /// Its number in the session.
        op: OpId,
        /// All answers up to this one have arrived: meta may forget them.
        acked: OpId,
        /// The change.
        mutation: Mutation,
    },
    /// Give up the lock wait of this op: it answers `Interrupted`.
    CancelWait(OpId),
    /// Answers once everything answered before is durable in the engine (fsync).
    Sync,
    /// The map, if newer than this.
    GetMap(Epoch),
    /// The volume.
    Volume,
    /// From a storage daemon.
    Server(ServerRequest),
    /// From a tool or follower.
    Admin(AdminRequest),
    /// Changes that the client kept back, in their order. Each is applied once, however often it is sent.
    KeptBack {
        /// All answers up to this one have arrived: meta may forget them.
        acked: OpId,
        /// At most [`crate::limits::KEPT_BACK_MAX`].
        changes: Vec<KeptBack>,
    },
    /// About the cluster itself: from everybody.
    Watch(WatchRequest),
}

/// A request with what every request carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaCall {
    /// Made at the edge, in every log line on the way.
    pub request_id: u64,
    /// The caller's session; daemons and tools have none.
    pub session: Option<SessionId>,
    /// What is asked.
    pub request: MetaRequest,
}
