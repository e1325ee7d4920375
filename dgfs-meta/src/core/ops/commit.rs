//! Written data become part of a file.

use dgfs_proto::attr::change::{self, NewInode};
use dgfs_proto::attr::{Attr, AttrFlags, FileKind};
use dgfs_proto::chunk::ChunkRef;
use dgfs_proto::limits::{EDITS_MAX, FILE_BYTES_MAX};
use dgfs_proto::log::{Change, DataChange, SlotChange};
use dgfs_proto::meta::{Commit, NewContent, SlotEdit};
use dgfs_proto::status::Status;

use crate::core::ops::truncate::count_size;
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Row, key};

/// Applies a commit; refuses with `Conflict` when the writer started from something that is not current.
pub(crate) fn commit(tx: &mut Tx<'_>, commit: &Commit) -> Step<Attr> {
    let mut row = tx.live_inode(commit.ino)?;
    if row.attr.kind != FileKind::File {
        return Err(Status::Invalid.into());
    }
    if commit.size_at_least > FILE_BYTES_MAX {
        return Err(Status::FileTooBig.into());
    }
    if commit.size_expected.is_some_and(|expected| expected != row.attr.size) {
        return Err(Status::Conflict.into());
    }
    let mut data = DataChange {
        ino: commit.ino,
        slots: Vec::new(),
        old_size: row.attr.size,
        new_size: row.attr.size.max(commit.size_at_least),
        old_mtime: row.attr.mtime,
        old_inline: None,
    };
    match &commit.content {
        NewContent::Inline { base_data_version, bytes } => {
            if *base_data_version != row.attr.data_version || !row.attr.flags.has(AttrFlags::INLINE) {
                return Err(Status::Conflict.into());
            }
            data.old_inline = set_inline(tx, &mut row, bytes)?;
            data.new_size = data.new_size.max(bytes.len() as u64);
        }
        NewContent::Slots { inline_base, edits } => {
            data.old_inline = leave_inline(tx, &mut row, *inline_base)?;
            data.slots = edit_slots(tx, &mut row, edits, data.new_size)?;
        }
    }
    change::commit(&mut row.attr, data.new_size, commit.mtime, tx.now);
    count_size(tx, &row, data.old_size)?;
    let attr = row.attr.clone();
    tx.put_inode(row);
    tx.changes.push(Change::Data(data));
    Ok(attr)
}

fn set_allocated(tx: &mut Tx<'_>, row: &mut InodeRow, allocated: u64) {
    tx.counters.allocated = (tx.counters.allocated + allocated).saturating_sub(row.attr.allocated);
    row.attr.allocated = allocated;
}

fn set_inline(tx: &mut Tx<'_>, row: &mut InodeRow, bytes: &[u8]) -> Step<Option<Vec<u8>>> {
    if bytes.len() > tx.inline_bytes_max as usize {
        return Err(Status::Malformed.into());
    }
    let ino = row.attr.ino;
    let old = if row.attr.size == 0 { Vec::new() } else { tx.inline(ino)? };
    if bytes.is_empty() {
        if !old.is_empty() {
            tx.delete(key::inline(ino));
        }
    } else {
        if row.attr.data_version == NewInode::DATA_VERSION {
            // It never had content.
            tx.cache.install(key::inline(ino), None);
        }
        tx.put(key::inline(ino), Row::Inline(bytes.to_vec()));
    }
    set_allocated(tx, row, change::inline_allocated(bytes.len() as u64));
    Ok((!old.is_empty()).then_some(old))
}

/// A file whose bytes lay inline gets chunks instead.
fn leave_inline(tx: &mut Tx<'_>, row: &mut InodeRow, inline_base: Option<u64>) -> Step<Option<Vec<u8>>> {
    if !row.attr.flags.has(AttrFlags::INLINE) {
        return if inline_base.is_some() { Err(Status::Conflict.into()) } else { Ok(None) };
    }
    if inline_base != Some(row.attr.data_version) {
        return Err(Status::Conflict.into());
    }
    let ino = row.attr.ino;
    let old = if row.attr.size == 0 { Vec::new() } else { tx.inline(ino)? };
    if !old.is_empty() {
        tx.delete(key::inline(ino));
    }
    row.attr.flags.set(AttrFlags::INLINE, false);
    set_allocated(tx, row, 0);
    Ok((!old.is_empty()).then_some(old))
}

fn edit_slots(tx: &mut Tx<'_>, row: &mut InodeRow, edits: &[SlotEdit], new_size: u64) -> Step<Vec<SlotChange>> {
    if edits.len() > EDITS_MAX {
        return Err(Status::Malformed.into());
    }
    let ino = row.attr.ino;
    let chunk_bytes = u64::from(tx.chunk_bytes);
    let keys: Vec<_> = edits.iter().map(|edit| key::slots(ino, edit.index)).collect();
    tx.want_slots(ino, row.attr.size, &keys)?;
    let mut changes = Vec::with_capacity(edits.len());
    for edit in edits {
        let too_long = edit.new.is_some_and(|new| u64::from(new.len) > chunk_bytes);
        if too_long || edit.index.checked_mul(chunk_bytes).is_none_or(|start| start >= new_size) {
            return Err(Status::Malformed.into());
        }
        let old = tx.slot(ino, edit.index)?;
        if old != edit.base {
            return Err(Status::Conflict.into());
        }
        tx.set_slot(ino, edit.index, edit.new)?;
        replace(tx, row, old, edit.new)?;
        changes.push(SlotChange { index: edit.index, old, new: edit.new });
    }
    Ok(changes)
}

/// Accounts for a slot that held `old` and holds `new`.
pub(crate) fn replace(tx: &mut Tx<'_>, row: &mut InodeRow, old: Option<ChunkRef>, new: Option<ChunkRef>) -> Step<()> {
    let same_version = |old: ChunkRef| new.is_some_and(|new| (new.chunk, new.version) == (old.chunk, old.version));
    if let Some(old) = old.filter(|old| !same_version(*old)) {
        tx.unrefer(old)?;
    }
    let before = old.map_or(0, |old| u64::from(old.allocated));
    let after = new.map_or(0, |new| u64::from(new.allocated));
    tx.counters.allocated = (tx.counters.allocated + after).saturating_sub(before);
    row.attr.allocated = (row.attr.allocated + after).saturating_sub(before);
    Ok(())
}
