//! Client (or daemon) ↔ metadata service.
//!
//! Reads and waits may be repeated freely. A [`Mutation`] carries (session,
//! op): meta applies it once and answers a repetition with the first answer.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{Attr, FileKind, Timestamp, TreeStat};
use crate::chunk::{ChunkRef, VersionId};
use crate::ids::{ChunkId, ChunkVersion, Epoch, Ino, OpId, Seq, ServerId, SessionId, Uuid};
use crate::log::Event;
use crate::map::ClusterMap;
use crate::name::Name;
use crate::status::Status;

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
}

/// Life of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRequest {
    /// Starts one, or takes one up again after a reconnect.
    Open {
        /// Who.
        client: ClientInfo,
        /// A random number by which the client proves later that the session is its own.
        key: u64,
        /// The session to go on with.
        resume: Option<SessionId>,
        /// With `resume`: all opens held, for a meta that has just taken over.
        opens: Vec<(Ino, u32)>,
    },
    /// I live.
    Beat,
    /// Answers when meta has something to say, or nothing after [`crate::limits::POLL_MS`].
    Poll {
        /// The number of the last notice carried out; meta waits for it.
        done: u64,
    },
    /// Ends it: locks and opens are given up.
    Close,
}

/// What meta says through a poll. Numbered; the client carries it out, then polls with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Other sessions exist from now on: drop every cached attribute and entry, in the
    /// kernel too, and cache none until `Sole`.
    Shared,
    /// No other session exists: what is cached stays true until `Shared`.
    Sole,
}

/// Requests of storage daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRequest {
    /// Joins (or comes back) under an identity that lies on its disk.
    Join {
        /// Written on the disk when it was first used.
        identity: Uuid,
        /// The number it had; none the first time.
        id: Option<ServerId>,
        /// `HOST:PORT`, empty in process.
        address: String,
        /// For people.
        label: String,
        /// Names the file system it lies on, the same for all servers on that one; 0: not known.
        disk: u64,
        /// Bytes of its file system.
        capacity_bytes: u64,
        /// Bytes it takes.
        used_bytes: u64,
        /// Bytes it can still take.
        free_bytes: u64,
    },
    /// I live; and what garbage I removed.
    Beat {
        /// Its number.
        id: ServerId,
        /// As at the join.
        disk: u64,
        /// Bytes of its file system.
        capacity_bytes: u64,
        /// Bytes it takes.
        used_bytes: u64,
        /// Bytes it can still take.
        free_bytes: u64,
        /// Garbage entries carried out, by their numbers.
        collected: Vec<u64>,
    },
    /// Which of these versions does anything refer to, or may a live session still commit?
    CheckLive(Vec<LiveQuery>),
}

/// A held version whose use is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveQuery {
    /// Which.
    pub id: VersionId,
    /// The inode it was written for.
    pub owner: Ino,
    /// Which chunk of that inode.
    pub index: u64,
}

/// A version that nothing refers to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageItem {
    /// Its number, to report it collected.
    pub number: u64,
    /// What to drop.
    pub id: VersionId,
}

/// Requests of tools and followers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// Numbers and sessions.
    Status,
    /// A page of files with their chunks, for `dgfs fsck` and `dgfs info`.
    Inodes {
        /// The last inode seen, none at first.
        after: Option<Ino>,
        /// At most [`crate::limits::LIST_MAX`].
        limit: u32,
    },
    /// Events after `after`; waits for one when there is none and `wait` is set.
    Log {
        /// A name; meta trims the log only behind every registered consumer.
        consumer: String,
        /// The last seq carried out.
        after: Seq,
        /// At most [`crate::limits::LOG_PAGE_MAX`].
        limit: u32,
        /// Long poll.
        wait: bool,
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

/// A directory entry with its inode's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Where to go on after this entry.
    pub cookie: u64,
    /// Its name.
    pub name: Name,
    /// Its inode.
    pub attr: Attr,
}

/// A file's content as metadata sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The bytes; where the file is longer (it was grown by truncate), the rest reads as zeros. A file
    /// longer than `inline_bytes_max` may still be inline: its next write moves the bytes into chunk 0.
    Inline(Vec<u8>),
    /// Slots from `first`; trailing holes may be left out.
    Slots {
        /// The first slot's index.
        first: u64,
        /// The slots.
        slots: Vec<Option<ChunkRef>>,
    },
}

/// Space and inodes of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUsage {
    /// Bytes of all storage servers that are up.
    pub capacity_bytes: u64,
    /// Bytes of them that can still be taken.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Bytes allocated to files.
    pub allocated_bytes: u64,
}

/// A mounted session, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number.
    pub id: SessionId,
    /// Who.
    pub client: ClientInfo,
    /// Milliseconds since its last heartbeat.
    pub idle_ms: u64,
    /// Inodes it holds open.
    pub opens: u64,
}

/// Numbers of the metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaStatus {
    /// The volume.
    pub volume: VolumeInfo,
    /// Usage.
    pub usage: VolumeUsage,
    /// The engine and its durability level, in words.
    pub engine: String,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The last seq.
    pub seq: Seq,
    /// Mutations since the start.
    pub mutations: u64,
    /// Commit groups since the start.
    pub commits: u64,
    /// Calls to the engine since the start (round trips for Redis).
    pub engine_calls: u64,
    /// Rows in memory.
    pub rows_cached: u64,
    /// Garbage entries waiting.
    pub garbage: u64,
    /// Inodes without a name, waiting for their last close.
    pub orphans: u64,
    /// The mounts.
    pub sessions: Vec<SessionStatus>,
    /// The storage.
    pub map: ClusterMap,
}

/// A file with its chunks, for fsck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeChunks {
    /// Its attributes.
    pub attr: Attr,
    /// Its chunks that are not holes.
    pub chunks: Vec<(u64, ChunkRef)>,
}

/// What became of names, with the attributes of everything that changed by it, so that the client need not ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What was made, linked, removed or moved.
    pub ino: Ino,
    /// The inode that lost a name (the removed one, or the one a rename replaced) and its link count now.
    pub lost: Option<(Ino, u32)>,
    /// The attributes now: of `ino` first, unless its last name is gone; then of the directories and of what was
    /// replaced or exchanged.
    pub attrs: Vec<Attr>,
}

/// The metadata service's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub enum MetaReply {
    /// Done, nothing to tell.
    Done,
    /// The session.
    Session {
        /// Its number.
        id: SessionId,
        /// Caching is allowed until a `Shared` notice.
        sole: bool,
        /// The volume.
        volume: VolumeInfo,
    },
    /// From a poll; none when nothing happened.
    Notice(Option<(u64, Notice)>),
    /// Attributes (lookup, make, link, setattr, open …).
    Attr(Attr),
    /// Attributes of several.
    Attrs(Vec<Attr>),
    /// An open file: attributes and the first page of its content.
    Opened {
        /// Attributes.
        attr: Attr,
        /// Content from slot 0.
        content: Content,
    },
    /// Names changed (make, link, remove, rename).
    Named(Named),
    /// Entries; `end` when none follow.
    Entries {
        /// In cookie order.
        entries: Vec<DirEntry>,
        /// Nothing follows.
        end: bool,
    },
    /// Bytes: a link target or an attribute's value.
    Bytes(Vec<u8>),
    /// Names of attributes.
    Names(Vec<Vec<u8>>),
    /// A slot with a chunk, if any follows.
    NextChunk(Option<(u64, ChunkRef)>),
    /// Everything below a directory.
    TreeStat(TreeStat),
    /// The lock in the way, if any.
    LockHolder(Option<LockSpec>),
    /// Usage.
    StatFs(VolumeUsage),
    /// Path components from the root.
    Path(Vec<Name>),
    /// First ids of the granted ranges.
    Granted {
        /// First chunk id.
        chunk: ChunkId,
        /// First version id.
        version: ChunkVersion,
    },
    /// The map, when newer than asked.
    Map(Option<ClusterMap>),
    /// The volume.
    Volume(VolumeInfo),
    /// To a storage daemon that joined.
    Joined {
        /// Its number.
        id: ServerId,
        /// The volume's chunk size.
        chunk_bytes: u32,
        /// The map now.
        epoch: Epoch,
    },
    /// To a storage daemon's heartbeat.
    Beat {
        /// The map now.
        epoch: Epoch,
        /// Versions to drop.
        garbage: Vec<GarbageItem>,
    },
    /// One answer for each question: still used, or maybe.
    Live(Vec<bool>),
    /// Numbers.
    Status(MetaStatus),
    /// A page of inodes, by number; empty means the end.
    Inodes(Vec<InodeChunks>),
    /// Events in order, and the last seq there is.
    Log {
        /// The page.
        events: Vec<Event>,
        /// The log's end.
        head: Seq,
    },
    /// Refused.
    Refused(Status),
}
