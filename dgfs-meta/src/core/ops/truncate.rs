//! Cutting a file: references go, the last one gets shorter. Never touches stored bytes.

use dgfs_proto::attr::AttrFlags;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::FILE_BYTES_MAX;
use dgfs_proto::log::{Change, DataChange, SlotChange};
use dgfs_proto::status::Status;

use crate::core::ops::{TreeDelta, bump_tree};
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Row, SLOTS_PER_ROW, key};

/// Slot rows one step may drop: with 32 slots of 4 MiB each, 128 GiB of file.
const ROWS_PER_STEP: u64 = 1024;

/// What one step did.
pub(crate) struct Cut {
    /// The wanted size is reached.
    pub(crate) done: bool,
    /// The slots changed.
    pub(crate) slots: Vec<SlotChange>,
}

/// Sets the size of a file in `row` (not stored yet). False: only a part was cut, ask again.
pub(crate) fn resize(tx: &mut Tx<'_>, row: &mut InodeRow, size: u64) -> Step<bool> {
    if size > FILE_BYTES_MAX {
        return Err(Status::FileTooBig.into());
    }
    let old_size = row.attr.size;
    let old_mtime = row.attr.mtime;
    let mut old_inline = None;
    let mut slots = Vec::new();
    let mut done = true;
    if row.attr.flags.has(AttrFlags::INLINE) {
        old_inline = resize_inline(tx, row, size)?;
    } else if size < old_size {
        let cut = cut(tx, row, size)?;
        done = cut.done;
        slots = cut.slots;
    } else {
        row.attr.size = size;
    }
    if done && size == 0 {
        row.attr.flags.set(AttrFlags::INLINE, true);
    }
    row.attr.data_version += 1;
    row.attr.mtime = tx.now;
    let new_size = row.attr.size;
    let ino = row.attr.ino;
    tx.changes.push(Change::Data(DataChange { ino, slots, old_size, new_size, old_mtime, old_inline }));
    Ok(done)
}

/// The bytes kept may be shorter than the size: the rest reads as zeros. An empty file that grows past the
/// inline bound becomes a chunked one; one with bytes stays inline until its next write moves them.
fn resize_inline(tx: &mut Tx<'_>, row: &mut InodeRow, size: u64) -> Step<Option<Vec<u8>>> {
    let ino = row.attr.ino;
    let old = if row.attr.size == 0 { Vec::new() } else { tx.inline(ino)? };
    let mut bytes = old.clone();
    if size < bytes.len() as u64 {
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    }
    row.attr.size = size;
    let allocated = (bytes.len() as u64).next_multiple_of(512);
    tx.counters.allocated = (tx.counters.allocated + allocated).saturating_sub(row.attr.allocated);
    row.attr.allocated = allocated;
    if bytes.is_empty() {
        if !old.is_empty() {
            tx.delete(key::inline(ino));
        }
        row.attr.flags.set(AttrFlags::INLINE, size <= u64::from(tx.inline_bytes_max));
    } else if bytes != old {
        tx.put(key::inline(ino), Row::Inline(bytes));
    }
    Ok((!old.is_empty()).then_some(old))
}

/// Drops references behind `size` in `row`, from the end, as many as one step may.
pub(crate) fn cut(tx: &mut Tx<'_>, row: &mut InodeRow, size: u64) -> Step<Cut> {
    let ino = row.attr.ino;
    let chunk_bytes = u64::from(tx.chunk_bytes);
    let end_row = row.attr.size.div_ceil(chunk_bytes).div_ceil(SLOTS_PER_ROW);
    let first_row = size / chunk_bytes / SLOTS_PER_ROW;
    let from_row = first_row.max(end_row.saturating_sub(ROWS_PER_STEP));
    let done = from_row == first_row;
    let reached = if done { size } else { from_row * SLOTS_PER_ROW * chunk_bytes };
    let keys: Vec<_> = (from_row..end_row).map(|at| key::slots(ino, at * SLOTS_PER_ROW)).collect();
    tx.want(&keys)?;
    let mut slots = Vec::new();
    for at in from_row..end_row {
        cut_row(tx, row, at, reached, &mut slots)?;
    }
    row.attr.size = reached;
    Ok(Cut { done, slots })
}

fn cut_row(tx: &mut Tx<'_>, row: &mut InodeRow, at: u64, size: u64, changed: &mut Vec<SlotChange>) -> Step<()> {
    let ino: Ino = row.attr.ino;
    let chunk_bytes = u64::from(tx.chunk_bytes);
    let mut kept = Vec::new();
    let before = tx.slot_row(ino, at * SLOTS_PER_ROW)?;
    if before.is_empty() {
        return Ok(());
    }
    for (position, old) in &before {
        let index = at * SLOTS_PER_ROW + u64::from(*position);
        let start = index * chunk_bytes;
        if start >= size {
            tx.unrefer(*old)?;
            tx.counters.allocated = tx.counters.allocated.saturating_sub(u64::from(old.allocated));
            row.attr.allocated = row.attr.allocated.saturating_sub(u64::from(old.allocated));
            changed.push(SlotChange { index, old: Some(*old), new: None });
        } else if start + u64::from(old.len) > size {
            let mut new = *old;
            new.len = u32::try_from(size - start).unwrap_or(old.len);
            changed.push(SlotChange { index, old: Some(*old), new: Some(new) });
            kept.push((*position, new));
        } else {
            kept.push((*position, *old));
        }
    }
    if kept.is_empty() {
        tx.delete(key::slots(ino, at * SLOTS_PER_ROW));
    } else if kept != before {
        tx.put(key::slots(ino, at * SLOTS_PER_ROW), Row::Slots(kept));
    }
    Ok(())
}

/// The size of a named file changed: the directories above it count the difference.
pub(crate) fn count_size(tx: &mut Tx<'_>, row: &InodeRow, old_size: u64) -> Step<()> {
    if row.links.is_empty() || row.attr.size == old_size {
        return Ok(());
    }
    let bytes = row.attr.size as i64 - old_size as i64;
    bump_tree(tx, row.attr.parent, TreeDelta { files: 0, dirs: 0, bytes })
}
