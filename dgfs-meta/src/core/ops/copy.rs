//! copy_file_range of whole chunks: the target refers to the source's versions.

use dgfs_proto::attr::{Attr, AttrFlags, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{EDITS_MAX, FILE_BYTES_MAX};
use dgfs_proto::log::{Change, DataChange, SlotChange};
use dgfs_proto::status::Status;

use crate::core::ops::commit::replace;
use crate::core::ops::truncate::count_size;
use crate::core::tx::{Step, Tx};
use crate::rows::key;

/// Which chunks go where.
pub(crate) struct CopyChunks {
    pub(crate) from: Ino,
    pub(crate) from_index: u64,
    pub(crate) to: Ino,
    pub(crate) to_index: u64,
    pub(crate) count: u32,
    pub(crate) size_at_least: u64,
}

/// Makes `count` slots of `to` refer to what those of `from` refer to.
pub(crate) fn copy_chunks(tx: &mut Tx<'_>, copy: &CopyChunks) -> Step<Attr> {
    let source = tx.live_inode(copy.from)?;
    let mut row = tx.live_inode(copy.to)?;
    if source.attr.kind != FileKind::File || row.attr.kind != FileKind::File {
        return Err(Status::Invalid.into());
    }
    let inline = |flags: AttrFlags| flags.has(AttrFlags::INLINE);
    if inline(source.attr.flags) || (inline(row.attr.flags) && row.attr.size > 0) {
        return Err(Status::NotSupported.into());
    }
    if copy.count as usize > EDITS_MAX || copy.size_at_least > FILE_BYTES_MAX {
        return Err(Status::Malformed.into());
    }
    row.attr.flags.set(AttrFlags::INLINE, false);
    let old_size = row.attr.size;
    let new_size = old_size.max(copy.size_at_least);
    let indexes = || (0..u64::from(copy.count)).map(|at| (copy.from_index + at, copy.to_index + at));
    let mut keys: Vec<_> =
        indexes().flat_map(|(from, to)| [key::slots(copy.from, from), key::slots(copy.to, to)]).collect();
    keys.dedup();
    tx.want(&keys)?;
    let mut slots = Vec::new();
    for (from, to) in indexes() {
        if to.checked_mul(u64::from(tx.chunk_bytes)).is_none_or(|start| start >= new_size) {
            return Err(Status::Malformed.into());
        }
        let new = tx.slot(copy.from, from)?;
        let old = tx.slot(copy.to, to)?;
        if old == new {
            continue;
        }
        if let Some(new) = new {
            tx.share(new.version)?;
        }
        tx.set_slot(copy.to, to, new)?;
        replace(tx, &mut row, old, new)?;
        slots.push(SlotChange { index: to, old, new });
    }
    let old_mtime = row.attr.mtime;
    row.attr.size = new_size;
    row.attr.data_version += 1;
    row.attr.mtime = tx.now;
    row.attr.ctime = tx.now;
    count_size(tx, &row, old_size)?;
    let attr = row.attr.clone();
    tx.put_inode(row);
    let ino = copy.to;
    tx.changes.push(Change::Data(DataChange { ino, slots, old_size, new_size, old_mtime, old_inline: None }));
    Ok(attr)
}
