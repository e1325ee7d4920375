//! What the metadata service answers.
//!
//! Bounded: lists by [`crate::limits`], so that every answer fits a frame.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{Attr, TreeStat};
use crate::chunk::{ChunkRef, Upkeep};
use crate::class::Class;
use crate::compression::Compression;
use crate::graph::{Catalogue, GraphNode};
use crate::ids::{ChunkVersion, Epoch, Ino, Seq, ServerId, SessionId};
use crate::log::Event;
use crate::map::{ClusterMap, ServerInfo};
use crate::meta::{
    Applied, ClientInfo, GarbageItem, KeptAnswer, LivingSessions, LockSpec, Notice, Recall, VolumeInfo, WatchReply,
};
use crate::name::Name;
use crate::status::Status;

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
    /// What sessions may believe until it is recalled: inodes and directories, each counted for each session.
    pub leases: u64,
    /// Recalls since the start.
    pub recalls: u64,
    /// Operations that wait for recalls now.
    pub recall_waits: u64,
    /// Requests that wait for a lock.
    pub lock_waits: u64,
    /// Garbage entries waiting.
    pub garbage: u64,
    /// Inodes without a name, waiting for their last close.
    pub orphans: u64,
    /// The mounts.
    pub sessions: Vec<SessionStatus>,
    /// The storage.
    pub map: ClusterMap,
    /// How redundant the data are.
    pub health: Vec<ClassHealth>,
}

/// Partitions of one class by how redundant they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassHealth {
    /// The class.
    pub class: Class,
    /// All members hold everything and answer.
    pub full: u32,
    /// Members are missing or not full, and at least the minimum answers.
    pub degraded: u32,
    /// Writes wait: fewer than the minimum answer.
    pub under_minimum: u32,
    /// Nobody who holds everything answers.
    pub unavailable: u32,
    /// Places (member and partition) that are not full.
    pub places_left: u32,
}

/// A storage server, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// As the map has it.
    pub info: ServerInfo,
    /// Milliseconds since its last heartbeat.
    pub idle_ms: u64,
    /// Places (member and partition) it is assigned.
    pub places: u64,
    /// Places it was assigned to before and still holds for others, or holds as a stand-in.
    pub extras: u64,
    /// Places of which it has yet to fetch what it lacks.
    pub places_left: u64,
    /// Milliseconds since it joined.
    pub known_ms: u64,
    /// Milliseconds of them it was down.
    pub down_ms: u64,
    /// How often it went down.
    pub downs: u32,
    /// Repair and scrub as it told last.
    pub upkeep: Upkeep,
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
        /// No other session exists: everything may be cached until a `Shared` notice.
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
    /// First numbers of the granted ranges.
    Granted {
        /// First chunk number; a class makes an id of it.
        chunk: u64,
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
        /// The change of policies now, while one asks for the compression of old data; else 0.
        policies: u64,
        /// Versions to drop.
        garbage: Vec<GarbageItem>,
        /// Which sessions live, when that is newer than what the server has.
        sessions: Option<LivingSessions>,
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
    // Answers are kept in rows: what comes later goes behind.
    /// To a session's heartbeat.
    Alive {
        /// The map now.
        epoch: Epoch,
    },
    /// What new data of an inode follow.
    Policy {
        /// The class of new chunks.
        class: Class,
        /// What becomes of what is written.
        compression: Compression,
    },
    /// Storage servers.
    Servers(Vec<ServerStatus>),
    /// Refused, with a sentence for a person.
    Denied(String),
    /// One answer for each question: the class that the version should be moved to.
    Moves(Vec<Option<Class>>),
    /// One answer for each question: what the version should be compressed with; none: it stays as it is.
    Compressions(Vec<Option<Compression>>),
    /// From a poll: what must not be believed any more.
    Recalls {
        /// Grows by one with each batch; the next poll says that it arrived.
        number: u64,
        /// At most [`crate::limits::RECALLS_MAX`].
        recalls: Vec<Recall>,
    },
    /// The right to keep writes back, with the file's attributes now; none: not granted.
    WritesLeased(Option<Attr>),
    /// To changes that were kept back: one answer for each.
    KeptBack(Vec<KeptAnswer>),
    /// The first of the inode numbers granted.
    InodesGranted(Ino),
    /// Kept by meta: how far a session's changes were applied.
    Applied(Applied),
    /// A file, and others that came along.
    Contents {
        /// Attributes of the one that was asked for.
        attr: Attr,
        /// Its content from slot 0.
        content: Content,
        /// The others, with their inline bytes or first [`crate::limits::CONTENTS_SLOTS_MAX`] slots.
        also: Vec<(Attr, Content)>,
    },
    /// A page of inodes for the graph; empty means the end.
    Graph(Vec<GraphNode>),
    /// A page of tags; empty means the end.
    Catalogue(Catalogue),
    /// Who follows the change log.
    Consumers(Vec<ConsumerStatus>),
    /// About the cluster itself.
    Watch(WatchReply),
}

/// Somebody who follows the change log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStatus {
    /// What it calls itself.
    pub name: String,
    /// The last event it has carried out.
    pub seq: Seq,
    /// Milliseconds since it last asked.
    pub idle_ms: u64,
}
