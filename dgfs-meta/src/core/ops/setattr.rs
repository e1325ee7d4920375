//! chmod, chown, truncate, utimens.

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Change;
use dgfs_proto::meta::{SetAttr, SetTime};
use dgfs_proto::status::Status;

use crate::core::ops::acl::{self, Acl};
use crate::core::ops::truncate;
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Row, key};

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;
/// relatime: a time of last read older than this is renewed (Linux: one day).
const RELATIME_SECS: i64 = 24 * 3600;

/// Sets what `set` names.
pub(crate) fn set_attr(tx: &mut Tx<'_>, ino: Ino, set: &SetAttr) -> Step<Attr> {
    let mut row = tx.live_inode(ino)?;
    if let Some(size) = set.size {
        set_size(tx, &mut row, size)?;
        if tx.more {
            tx.put_inode(row.clone());
            return Ok(row.attr);
        }
    }
    if is_only_stale_relatime(set, &row.attr, tx.now) {
        return Ok(row.attr);
    }
    if let Some(mode) = set.mode {
        row.attr.mode = mode & 0o7777;
        follow_mode(tx, &row, mode)?;
    }
    row.attr.uid = set.uid.unwrap_or(row.attr.uid);
    row.attr.gid = set.gid.unwrap_or(row.attr.gid);
    if set.kill_privileges && row.attr.kind != FileKind::Directory {
        kill_privileges(&mut row);
    }
    let reads_only = apply_times(set, &mut row.attr, tx.now);
    if !reads_only {
        row.attr.ctime = tx.now;
    }
    let attr = row.attr.clone();
    tx.put_inode(row);
    tx.changes.push(Change::AttrSet { ino });
    Ok(attr)
}

fn set_size(tx: &mut Tx<'_>, row: &mut InodeRow, size: u64) -> Step<()> {
    match row.attr.kind {
        FileKind::File => {}
        FileKind::Directory => return Err(Status::IsDirectory.into()),
        FileKind::Symlink | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            return Err(Status::Invalid.into());
        }
    }
    let old_size = row.attr.size;
    tx.more = !truncate::resize(tx, row, size)?;
    // Statistics walk the parents' rows, never this one: it is stored by the caller.
    truncate::count_size(tx, row, old_size)
}

fn kill_privileges(row: &mut InodeRow) {
    row.attr.mode &= !SETUID;
    if row.attr.mode & GROUP_EXECUTE != 0 {
        row.attr.mode &= !SETGID;
    }
}

/// An access ACL's owner, mask and other entries follow chmod.
fn follow_mode(tx: &mut Tx<'_>, row: &InodeRow, mode: u16) -> Step<()> {
    if !row.attr.flags.has(AttrFlags::HAS_ACCESS_ACL) {
        return Ok(());
    }
    let mut all = tx.xattrs(row.attr.ino)?;
    let Some(bytes) = all.get(acl::ACCESS) else { return Ok(()) };
    let mut access = Acl::decode(bytes).map_err(|_| Status::Corrupt)?;
    access.chmod(mode);
    all.insert(acl::ACCESS.to_vec(), access.encode());
    tx.put(key::xattr(row.attr.ino), Row::Xattrs(all));
    Ok(())
}

fn relatime_due(attr: &Attr, now: Timestamp) -> bool {
    attr.atime <= attr.mtime || attr.atime <= attr.ctime || now.secs - attr.atime.secs >= RELATIME_SECS
}

/// Nothing but a read to be noted, and it need not be.
fn is_only_stale_relatime(set: &SetAttr, attr: &Attr, now: Timestamp) -> bool {
    let only = SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() };
    *set == only && !relatime_due(attr, now)
}

/// Sets the times; true when a read by relatime was all.
fn apply_times(set: &SetAttr, attr: &mut Attr, now: Timestamp) -> bool {
    match set.atime {
        Some(SetTime::Now) => attr.atime = now,
        Some(SetTime::At(at)) => attr.atime = at,
        Some(SetTime::Relatime) if relatime_due(attr, now) => attr.atime = now,
        Some(SetTime::Relatime) | None => {}
    }
    match set.mtime {
        Some(SetTime::Now) => attr.mtime = now,
        Some(SetTime::At(at)) => attr.mtime = at,
        Some(SetTime::Relatime) | None => {}
    }
    *set == SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() }
}
