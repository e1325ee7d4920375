//! chmod, chown, truncate, utimens.

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, change};
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Change;
use dgfs_proto::meta::SetAttr;
use dgfs_proto::status::Status;

use crate::core::ops::acl::{self, Acl};
use crate::core::ops::truncate;
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Row, key};

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
    if change::is_only_stale_relatime(set, &row.attr, tx.now) {
        return Ok(row.attr);
    }
    change::set_attr(&mut row.attr, set, tx.now);
    if let Some(mode) = set.mode {
        follow_mode(tx, &row, mode)?;
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
