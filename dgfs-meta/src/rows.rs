//! The rows of a volume: their types, keys and bytes.
//!
//! Never reads or writes an engine. A stored row is one format byte and the
//! postcard encoding of its type; the table of its key says which type.

pub mod key;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use dgfs_proto::attr::{Attr, FileKind, Timestamp, TreeStat};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;
use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::{Epoch, Ino, OpId, Seq, ServerId, SessionId, TagId, Uuid};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::map::{ClassMap, Labels, Standing};
use dgfs_proto::meta::{Announce, ClientInfo, ClusterEvent, LockSpec, MetaReply, VolumeInfo};
use dgfs_proto::name::Name;

use crate::engine::{RowKey, Table};

/// The format of rows this code writes, and the newest it reads.
pub const ROW_FORMAT: u8 = 1;
/// Chunk slots in one row: a random 4 KiB write rewrites at most this many references.
pub const SLOTS_PER_ROW: u64 = 32;
/// Rows of classes in the table of the volume: this and the class's byte.
const CLASSES_FROM: u64 = 256;
const CLASSES_UNTIL: u64 = 512;
/// Inodes in one partition, so that an engine may keep them together.
const INODES_PER_PARTITION: u64 = 64;

/// A row that is not what its key says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    /// Written by a newer DGFS.
    #[error("row {key:?} has format {found}; this dgfs knows {ROW_FORMAT}: use a newer dgfs")]
    Newer {
        /// Which row.
        key: RowKey,
        /// Its format.
        found: u8,
    },
    /// Not a row of its table.
    #[error("row {key:?} is damaged")]
    Damaged {
        /// Which row.
        key: RowKey,
    },
}

/// Counters of a volume, one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Next free inode number.
    pub next_ino: u64,
    /// Next free chunk number.
    pub next_chunk: u64,
    /// Next free version number.
    pub next_version: u64,
    /// Next free session number.
    pub next_session: u64,
    /// Next free garbage number.
    pub next_garbage: u64,
    /// Next free server number.
    pub next_server: u32,
    /// Last seq of the change log.
    pub seq: Seq,
    /// First seq that is still in the log, less one.
    pub trimmed: Seq,
    /// All data referred to by events up to here are synced to disk (embedded volumes).
    pub data_synced: Seq,
    /// Epoch of the cluster map.
    pub map_epoch: Epoch,
    /// Inodes in use.
    pub inodes: u64,
    /// Bytes allocated to files.
    pub allocated: u64,
    /// Rows in the table of shared versions; 0 saves every look-up there.
    pub shares: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            next_ino: 2,
            next_chunk: 1,
            next_version: 1,
            next_session: 1,
            next_garbage: 1,
            next_server: 1,
            seq: Seq(0),
            trimmed: Seq(0),
            data_synced: Seq(0),
            map_epoch: Epoch(1),
            inodes: 1,
            allocated: 0,
            shares: 0,
        }
    }
}

/// A name of an inode: where it is and its directory cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The directory.
    pub parent: Ino,
    /// The entry's cookie in it.
    pub cookie: u64,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeRow {
    /// Its attributes.
    pub attr: Attr,
    /// Its names; statistics count it at the first one.
    pub links: Vec<Link>,
    /// A directory's recursive statistics.
    pub tree: TreeStat,
    /// A symlink's target.
    pub target: Vec<u8>,
}

/// One entry of a hash bucket of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DentryRow {
    /// Tells entries of one hash apart.
    pub slot: u8,
    /// The name.
    pub name: Name,
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
}

/// A lock that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Whose.
    pub session: SessionId,
    /// What.
    pub lock: LockSpec,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// Proves on resumption that it is the same client.
    pub key: u64,
    /// Who.
    pub client: ClientInfo,
    /// Version numbers granted: first, count.
    pub versions: Vec<(u64, u64)>,
    /// Answers up to here were received and are forgotten.
    pub acked: OpId,
}

/// A storage server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its number.
    pub id: ServerId,
    /// Lies on its disk.
    pub identity: Uuid,
    /// `HOST:PORT`.
    pub address: String,
    /// For people.
    pub label: String,
}

/// What is known of a storage server besides who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Where it stands.
    pub labels: Labels,
    /// An operator named it: what it says of itself does not count.
    pub named: bool,
    /// Its share, where an operator set it.
    pub weight: Option<u32>,
    /// What was decided about it.
    pub standing: Standing,
    /// It answers.
    pub up: bool,
    /// When it joined, milliseconds since 1970.
    pub joined_ms: u64,
    /// When `up` changed last.
    pub changed_ms: u64,
    /// Milliseconds it was down, up to `changed_ms`.
    pub down_ms: u64,
    /// How often it went down.
    pub downs: u32,
}

impl MemberRow {
    /// Of a server that is up, known since `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            labels: Labels::default(),
            named: false,
            weight: None,
            standing: Standing::Active,
            up: true,
            joined_ms: now_ms,
            changed_ms: now_ms,
            down_ms: 0,
            downs: 0,
        }
    }
}

/// What may be changed of a volume after it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsRow {
    /// The class of new chunks where no directory says otherwise.
    pub class: Class,
    /// Grows with each change of a policy.
    pub policies: u64,
    /// Directories with a class of their own, at most [`dgfs_proto::limits::POLICIES_MAX`].
    pub classes: BTreeMap<Ino, Class>,
    /// Those of them whose old data follow, too.
    pub applied: BTreeSet<Ino>,
    /// Directories whose class follows an availability target, in billionths of the time.
    pub targets: BTreeMap<Ino, u32>,
    /// Directories with a compression of their own, at most [`dgfs_proto::limits::POLICIES_MAX`].
    pub compressions: BTreeMap<Ino, Compression>,
    /// Those of them whose old data follow, too.
    pub recompressed: BTreeSet<Ino>,
}

/// As volumes have it that were made before data could be compressed.
#[derive(Deserialize)]
struct SettingsBeforeCompression {
    class: Class,
    policies: u64,
    classes: BTreeMap<Ino, Class>,
    applied: BTreeSet<Ino>,
    targets: BTreeMap<Ino, u32>,
}

impl From<SettingsBeforeCompression> for SettingsRow {
    fn from(before: SettingsBeforeCompression) -> Self {
        let SettingsBeforeCompression { class, policies, classes, applied, targets } = before;
        Self { class, policies, classes, applied, targets, ..Self::default() }
    }
}

fn settings(key: RowKey, bytes: &[u8]) -> Result<SettingsRow, RowError> {
    decoded(key, bytes).or_else(|_| decoded::<SettingsBeforeCompression>(key, bytes).map(SettingsRow::from))
}

/// As volumes have it from before there was a graph.
#[derive(Deserialize)]
struct EventBeforeGraph {
    seq: Seq,
    at: Timestamp,
    session: Option<SessionId>,
    change: Change,
}

impl From<EventBeforeGraph> for Event {
    fn from(before: EventBeforeGraph) -> Self {
        let EventBeforeGraph { seq, at, session, change } = before;
        Self { seq, at, session, change, nodes: Vec::new(), continues: false }
    }
}

fn event(key: RowKey, bytes: &[u8]) -> Result<Event, RowError> {
    decoded(key, bytes).or_else(|_| decoded::<EventBeforeGraph>(key, bytes).map(Event::from))
}

/// A consumer of the change log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRow {
    /// Its name.
    pub name: String,
    /// The last seq it has carried out.
    pub seq: Seq,
    /// When it last asked.
    pub seen: Timestamp,
}

/// A saved query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRow {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub expression: String,
    /// The user who saved it.
    pub owner: u32,
}

/// Which events of the journal are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRow {
    /// The number of the oldest, 0 when there is none.
    pub first: u64,
    /// The number of the newest.
    pub head: u64,
}

/// Any row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// [`Table::Volume`] 0.
    Volume(VolumeInfo),
    /// [`Table::Volume`] 1.
    Counters(Counters),
    /// [`Table::Volume`] 2: replicas of each partition, of a volume from before there were classes.
    Assignment(Vec<Vec<ServerId>>),
    /// [`Table::Volume`] 3.
    Settings(SettingsRow),
    /// [`Table::Volume`] 256 and the class's byte.
    Class(ClassMap),
    /// [`Table::Inode`].
    Inode(InodeRow),
    /// [`Table::Inline`].
    Inline(Vec<u8>),
    /// [`Table::Xattr`].
    Xattrs(BTreeMap<Vec<u8>, Vec<u8>>),
    /// [`Table::Dentry`]: the entries of one hash.
    Dentries(Vec<DentryRow>),
    /// [`Table::Chunks`]: position in the row and reference, sorted.
    Slots(Vec<(u8, ChunkRef)>),
    /// [`Table::Lock`].
    Locks(Vec<HeldLock>),
    /// [`Table::Log`].
    Event(Event),
    /// [`Table::Session`].
    Session(SessionRow),
    /// [`Table::Answer`].
    Answer(MetaReply),
    /// [`Table::Garbage`].
    Garbage(VersionId),
    /// [`Table::Shared`]: how many slots refer to a version that more than one slot refers (or referred) to.
    Shared(u32),
    /// [`Table::Orphan`].
    Orphan,
    /// [`Table::Server`], partition 0.
    Server(ServerRow),
    /// [`Table::Server`], partition 1.
    Member(MemberRow),
    /// [`Table::Consumer`].
    Consumer(ConsumerRow),
    /// [`Table::Tag`], partition 0.
    Tag(TagFacts),
    /// [`Table::Tag`], partition 1: folded names and what they mean.
    TagNames(Vec<(String, TagId)>),
    /// [`Table::Tag`], partition 2: saved queries.
    Saved(Vec<SavedRow>),
    /// [`Table::Watch`], partition 0.
    Happened(ClusterEvent),
    /// [`Table::Watch`], partition 1.
    Journal(JournalRow),
    /// [`Table::Watch`], partition 2: what a storage server announced last.
    Announced(Announce),
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = vec![ROW_FORMAT];
    // A row holds only plain data, which postcard can always encode into a growing buffer.
    postcard::to_extend(value, bytes).unwrap_or_default()
}

fn decoded<T: DeserializeOwned>(key: RowKey, bytes: &[u8]) -> Result<T, RowError> {
    match bytes.split_first() {
        Some((&ROW_FORMAT, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(RowError::Damaged { key }),
        },
        Some((&found, _)) if found > ROW_FORMAT => Err(RowError::Newer { key, found }),
        Some(_) | None => Err(RowError::Damaged { key }),
    }
}

impl Row {
    /// The bytes an engine keeps.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Volume(row) => encoded(row),
            Self::Counters(row) => encoded(row),
            Self::Assignment(row) => encoded(row),
            Self::Settings(row) => encoded(row),
            Self::Class(row) => encoded(row),
            Self::Inode(row) => encoded(row),
            Self::Inline(row) => encoded(row),
            Self::Xattrs(row) => encoded(row),
            Self::Dentries(row) => encoded(row),
            Self::Slots(row) => encoded(row),
            Self::Locks(row) => encoded(row),
            Self::Event(row) => encoded(row),
            Self::Session(row) => encoded(row),
            Self::Answer(row) => encoded(row),
            Self::Garbage(row) => encoded(row),
            Self::Shared(row) => encoded(row),
            Self::Orphan => encoded(&()),
            Self::Server(row) => encoded(row),
            Self::Member(row) => encoded(row),
            Self::Consumer(row) => encoded(row),
            Self::Tag(row) => encoded(row),
            Self::TagNames(row) => encoded(row),
            Self::Saved(row) => encoded(row),
            Self::Happened(row) => encoded(row),
            Self::Journal(row) => encoded(row),
            Self::Announced(row) => encoded(row),
        }
    }

    /// The row that `bytes` are, by the table of `key`.
    ///
    /// # Errors
    /// `Newer` for a row of a later format, `Damaged` for anything else.
    pub fn decode(key: RowKey, bytes: &[u8]) -> Result<Self, RowError> {
        Ok(match key.table {
            Table::Volume => match key.sort {
                0 => Self::Volume(decoded(key, bytes)?),
                1 => Self::Counters(decoded(key, bytes)?),
                2 => Self::Assignment(decoded(key, bytes)?),
                3 => Self::Settings(settings(key, bytes)?),
                CLASSES_FROM..CLASSES_UNTIL => Self::Class(decoded(key, bytes)?),
                _ => return Err(RowError::Damaged { key }),
            },
            Table::Inode => Self::Inode(decoded(key, bytes)?),
            Table::Inline => Self::Inline(decoded(key, bytes)?),
            Table::Xattr => Self::Xattrs(decoded(key, bytes)?),
            Table::Dentry => Self::Dentries(decoded(key, bytes)?),
            Table::Chunks => Self::Slots(decoded(key, bytes)?),
            Table::Lock => Self::Locks(decoded(key, bytes)?),
            Table::Log => Self::Event(event(key, bytes)?),
            Table::Session => Self::Session(decoded(key, bytes)?),
            Table::Answer => Self::Answer(decoded(key, bytes)?),
            Table::Garbage => Self::Garbage(decoded(key, bytes)?),
            Table::Shared => Self::Shared(decoded(key, bytes)?),
            Table::Orphan => Self::Orphan,
            Table::Server if key.partition == 0 => Self::Server(decoded(key, bytes)?),
            Table::Server => Self::Member(decoded(key, bytes)?),
            Table::Consumer => Self::Consumer(decoded(key, bytes)?),
            Table::Tag => match key.partition {
                0 => Self::Tag(decoded(key, bytes)?),
                1 => Self::TagNames(decoded(key, bytes)?),
                2 => Self::Saved(decoded(key, bytes)?),
                _ => return Err(RowError::Damaged { key }),
            },
            Table::Watch => match key.partition {
                0 => Self::Happened(decoded(key, bytes)?),
                1 => Self::Journal(decoded(key, bytes)?),
                2 => Self::Announced(decoded(key, bytes)?),
                _ => return Err(RowError::Damaged { key }),
            },
        })
    }

    /// About how many bytes of memory the row takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        160 + match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Inode(row) => 160 + row.links.len() * 16 + row.target.len(),
            Self::Xattrs(all) => all.iter().map(|(name, value)| 96 + name.len() + value.len()).sum(),
            Self::Dentries(entries) => entries.iter().map(|entry| 56 + entry.name.as_bytes().len()).sum(),
            Self::Slots(slots) => slots.len() * 32,
            Self::Locks(locks) => locks.len() * 64,
            Self::Assignment(all) => all.len() * 40,
            Self::Class(map) => map.placements.len() * 100,
            Self::Settings(row) => (row.classes.len() + row.compressions.len()) * 64,
            Self::Answer(_) | Self::Event(_) | Self::Happened(_) | Self::Announced(_) => 400,
            Self::Tag(row) => 200 + (row.aliases.len() + row.implies.len()) * 64,
            Self::TagNames(names) => names.iter().map(|(name, _)| 64 + name.len()).sum(),
            Self::Saved(all) => all.iter().map(|saved| 64 + saved.name.len() + saved.expression.len()).sum(),
            Self::Volume(_)
            | Self::Counters(_)
            | Self::Session(_)
            | Self::Garbage(_)
            | Self::Shared(_)
            | Self::Orphan
            | Self::Server(_)
            | Self::Member(_)
            | Self::Consumer(_)
            | Self::Journal(_) => 100,
        }
    }
}
