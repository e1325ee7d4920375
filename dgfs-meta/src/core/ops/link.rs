//! link: a further name for an inode.

use dgfs_proto::attr::{Attr, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::LINK_MAX;
use dgfs_proto::log::Change;
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::ops::{directory, touch_directory};
use crate::core::tx::{Step, Tx};
use crate::rows::Link;

/// Gives `ino` the name `name` in `parent` too.
pub(crate) fn link(tx: &mut Tx<'_>, ino: Ino, parent: Ino, name: &Name) -> Step<Attr> {
    let mut row = tx.live_inode(ino)?;
    if row.attr.kind == FileKind::Directory {
        return Err(Status::NotPermitted.into());
    }
    if row.attr.nlink == 0 {
        return Err(Status::NotFound.into());
    }
    if row.attr.nlink >= LINK_MAX {
        return Err(Status::TooManyLinks.into());
    }
    let mut directory = directory(tx, parent)?;
    if tx.dentry(parent, name)?.is_some() {
        return Err(Status::Exists.into());
    }
    let cookie = tx.add_dentry(parent, name, &row)?;
    row.links.push(Link { parent, cookie });
    row.attr.nlink += 1;
    row.attr.ctime = tx.now;
    touch_directory(tx, &mut directory, 1, 0);
    let attr = row.attr.clone();
    tx.put_inode(row);
    tx.put_inode(directory);
    tx.changes.push(Change::Linked { ino, parent, name: name.clone() });
    Ok(attr)
}
