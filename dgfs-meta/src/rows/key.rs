//! Keys of rows.
//!
//! Never changes: where a row lies is part of the format (FORMATS.md).

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkVersion, Ino, OpId, Seq, ServerId, SessionId, TagId};

use super::{CLASSES_FROM, INODES_PER_PARTITION, SLOTS_PER_ROW};
use crate::engine::{RowKey, Table};

const fn of(table: Table, partition: u64, sort: u64) -> RowKey {
    RowKey { table, partition, sort }
}

/// The volume's description.
pub const VOLUME: RowKey = of(Table::Volume, 0, 0);
/// Its counters.
pub const COUNTERS: RowKey = of(Table::Volume, 0, 1);
/// Its partitions' replicas.
pub const ASSIGNMENT: RowKey = of(Table::Volume, 0, 2);
/// What may be changed of it.
pub const SETTINGS: RowKey = of(Table::Volume, 0, 3);

/// The placements of a class.
#[must_use]
pub const fn class(class: Class) -> RowKey {
    of(Table::Volume, 0, CLASSES_FROM + class.to_byte() as u64)
}

/// An inode.
#[must_use]
pub const fn inode(ino: Ino) -> RowKey {
    of(Table::Inode, ino.get() / INODES_PER_PARTITION, ino.get())
}
/// A file's inline bytes.
#[must_use]
pub const fn inline(ino: Ino) -> RowKey {
    of(Table::Inline, ino.get() / INODES_PER_PARTITION, ino.get())
}
/// An inode's extended attributes.
#[must_use]
pub const fn xattr(ino: Ino) -> RowKey {
    of(Table::Xattr, ino.get() / INODES_PER_PARTITION, ino.get())
}
/// An inode's locks.
#[must_use]
pub const fn lock(ino: Ino) -> RowKey {
    of(Table::Lock, ino.get() / INODES_PER_PARTITION, ino.get())
}
/// The bucket of a name hash.
#[must_use]
pub const fn dentry(parent: Ino, hash: u64) -> RowKey {
    of(Table::Dentry, parent.get(), hash)
}
/// The row that holds a chunk slot.
#[must_use]
pub const fn slots(ino: Ino, index: u64) -> RowKey {
    of(Table::Chunks, ino.get(), index / SLOTS_PER_ROW)
}
/// An event.
#[must_use]
pub const fn event(seq: Seq) -> RowKey {
    of(Table::Log, 0, seq.0)
}
/// A session.
#[must_use]
pub const fn session(id: SessionId) -> RowKey {
    of(Table::Session, 0, id.get())
}
/// The answer of an operation.
#[must_use]
pub const fn answer(id: SessionId, op: OpId) -> RowKey {
    of(Table::Answer, id.get(), op.0)
}
/// A garbage item.
#[must_use]
pub const fn garbage(number: u64) -> RowKey {
    of(Table::Garbage, 0, number)
}
/// A shared version.
#[must_use]
pub const fn shared(version: ChunkVersion) -> RowKey {
    of(Table::Shared, version.get() / INODES_PER_PARTITION, version.get())
}
/// An orphan.
#[must_use]
pub const fn orphan(ino: Ino) -> RowKey {
    of(Table::Orphan, 0, ino.get())
}
/// A server.
#[must_use]
pub const fn server(id: ServerId) -> RowKey {
    of(Table::Server, 0, id.0 as u64)
}
/// What is known of a server.
#[must_use]
pub const fn member(id: ServerId) -> RowKey {
    of(Table::Server, 1, id.0 as u64)
}
/// A tag.
#[must_use]
pub const fn tag(id: TagId) -> RowKey {
    of(Table::Tag, 0, id.get())
}
/// The bucket of tags' names with this hash.
#[must_use]
pub const fn tag_names(hash: u64) -> RowKey {
    of(Table::Tag, 1, hash)
}
/// The bucket of saved queries whose names have this hash.
#[must_use]
pub const fn saved(hash: u64) -> RowKey {
    of(Table::Tag, 2, hash)
}
/// A consumer, by the hash of its name.
#[must_use]
pub const fn consumer(hash: u64) -> RowKey {
    of(Table::Consumer, 0, hash)
}
/// An event of the journal.
#[must_use]
pub const fn happened(number: u64) -> RowKey {
    of(Table::Watch, 0, number)
}
/// Which events are kept.
pub const JOURNAL: RowKey = of(Table::Watch, 1, 0);
/// What a storage server announced last.
#[must_use]
pub const fn announced(id: ServerId) -> RowKey {
    of(Table::Watch, 2, id.0 as u64)
}
