//! open and release: what keeps an unnamed inode alive.

use dgfs_proto::attr::{Attr, AttrFlags, FileKind};
use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::{CHUNK_PAGE_MAX, LIST_MAX};
use dgfs_proto::log::Change;
use dgfs_proto::meta::{Content, OpenMode};
use dgfs_proto::status::Status;

use crate::core::ops::{free, truncate};
use crate::core::tx::{Step, Stop, Tx};
use crate::rows::{InodeRow, SLOTS_PER_ROW};

/// Slots that come with an open: enough for 128 MiB at the default chunk size.
const OPEN_SLOTS: u32 = 32;

/// Registers an open and gives what the opener needs first.
pub(crate) fn open(tx: &mut Tx<'_>, ino: Ino, mode: OpenMode) -> Step<(Attr, Content)> {
    let mut row = tx.live_inode(ino)?;
    if row.attr.kind == FileKind::Directory {
        return Err(Status::IsDirectory.into());
    }
    if mode == OpenMode::Truncate && row.attr.kind == FileKind::File {
        empty(tx, &mut row)?;
        if tx.more {
            return Ok((row.attr, Content::Inline(Vec::new())));
        }
    }
    let content = content(tx, &row.attr, 0, OPEN_SLOTS)?;
    tx.opened.push((ino, 1));
    Ok((row.attr, content))
}

/// O_TRUNC. It touches an empty file too: `: > stamp` is how scripts do it.
fn empty(tx: &mut Tx<'_>, row: &mut InodeRow) -> Step<()> {
    let old_size = row.attr.size;
    if old_size > 0 {
        tx.more = !truncate::resize(tx, row, 0)?;
        truncate::count_size(tx, row, old_size)?;
    } else {
        row.attr.mtime = tx.now;
        tx.changes.push(Change::AttrSet { ino: row.attr.ino });
    }
    row.attr.ctime = tx.now;
    tx.put_inode(row.clone());
    Ok(())
}

/// A page of a file's content.
pub(crate) fn content(tx: &mut Tx<'_>, attr: &Attr, first: u64, count: u32) -> Step<Content> {
    if attr.kind != FileKind::File {
        return Ok(Content::Slots { first, slots: Vec::new() });
    }
    if attr.flags.has(AttrFlags::INLINE) {
        let bytes = if attr.size == 0 { Vec::new() } else { tx.inline(attr.ino)? };
        return Ok(Content::Inline(bytes));
    }
    let end = attr.size.div_ceil(u64::from(tx.chunk_bytes));
    let last = first.saturating_add(u64::from(count.min(CHUNK_PAGE_MAX))).min(end);
    let keys: Vec<_> = (first / SLOTS_PER_ROW..last.div_ceil(SLOTS_PER_ROW))
        .map(|at| crate::rows::key::slots(attr.ino, at * SLOTS_PER_ROW))
        .collect();
    tx.want(&keys)?;
    let mut slots = Vec::new();
    for index in first..last {
        slots.push(tx.slot(attr.ino, index)?);
    }
    while slots.last() == Some(&None) {
        slots.pop();
    }
    Ok(Content::Slots { first, slots })
}

/// Registers opens that a client took by itself.
pub(crate) fn register(tx: &mut Tx<'_>, opens: &[(Ino, u32)]) -> Step<()> {
    if opens.len() > LIST_MAX {
        return Err(Status::Malformed.into());
    }
    for (ino, count) in opens {
        match tx.inode(*ino) {
            Ok(_) => tx.opened.push((*ino, *count)),
            Err(Stop::Refused(Status::NotFound)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Takes opens back; inodes without a name end with their last one.
pub(crate) fn release(tx: &mut Tx<'_>, session: SessionId, opens: &[(Ino, u32)]) -> Step<()> {
    if opens.len() > LIST_MAX {
        return Err(Status::Malformed.into());
    }
    for (ino, count) in opens {
        tx.released.push((*ino, *count));
        if tx.opens.is_open_after(*ino, session, *count) {
            continue;
        }
        match tx.inode(*ino) {
            Ok(row) if row.attr.nlink == 0 => {
                tx.delete(crate::rows::key::orphan(*ino));
                free::free(tx, row)?;
            }
            Ok(_) | Err(Stop::Refused(Status::NotFound)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}
