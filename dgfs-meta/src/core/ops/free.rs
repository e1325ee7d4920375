//! The end of an inode that has no name and no opener.

use dgfs_proto::attr::{AttrFlags, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Change;
use dgfs_proto::status::Status;

use crate::core::ops::truncate;
use crate::core::tx::{Step, Stop, Tx};
use crate::rows::{InodeRow, Row, key};

/// Removes every row of an inode, or as much as one step may (then it is an orphan that is reaped further).
pub(crate) fn free(tx: &mut Tx<'_>, mut row: InodeRow) -> Step<()> {
    let ino = row.attr.ino;
    if row.attr.kind == FileKind::File
        && !row.attr.flags.has(AttrFlags::INLINE)
        && !truncate::cut(tx, &mut row, 0)?.done
    {
        tx.put(key::orphan(ino), Row::Orphan);
        tx.orphaned.push(ino);
        tx.put_inode(row);
        return Ok(());
    }
    if row.attr.flags.has(AttrFlags::INLINE) && row.attr.size > 0 {
        tx.delete(key::inline(ino));
    }
    if row.attr.flags.has(AttrFlags::HAS_XATTR) {
        tx.delete(key::xattr(ino));
    }
    if let Some((Some(_), _)) = tx.cache.get(key::lock(ino)) {
        tx.delete(key::lock(ino));
    }
    tx.delete(key::inode(ino));
    tx.counters.inodes = tx.counters.inodes.saturating_sub(1);
    tx.counters.allocated = tx.counters.allocated.saturating_sub(row.attr.allocated);
    tx.freed.push(ino);
    tx.changes.push(Change::Freed { ino });
    Ok(())
}

/// One step of freeing an orphan that nobody has open any more.
pub(crate) fn reap(tx: &mut Tx<'_>, ino: Ino) -> Step<()> {
    let row = match tx.inode(ino) {
        Err(Stop::Refused(Status::NotFound)) => {
            tx.delete(key::orphan(ino));
            tx.freed.push(ino);
            return Ok(());
        }
        other => other?,
    };
    if tx.opens.is_open(ino) || row.attr.nlink > 0 {
        return Ok(());
    }
    tx.delete(key::orphan(ino));
    free(tx, row)?;
    tx.more = !tx.freed.contains(&ino);
    Ok(())
}
