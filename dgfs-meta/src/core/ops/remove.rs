//! unlink, rmdir; and what happens to an inode that loses a name.

use dgfs_proto::attr::{FileKind, change};
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Change;
use dgfs_proto::meta::RemoveKind;
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::ops::{TreeDelta, bump_tree, directory, free, touch_directory};
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Link, Row, key};

/// Removes a name; the inode and its link count now.
pub(crate) fn remove(tx: &mut Tx<'_>, parent: Ino, name: &Name, kind: RemoveKind) -> Step<(Ino, u32)> {
    let directory = directory(tx, parent)?;
    let entry = tx.dentry(parent, name)?.ok_or(Status::NotFound)?;
    let row = tx.inode(entry.ino)?;
    let is_directory = row.attr.kind == FileKind::Directory;
    match kind {
        RemoveKind::Unlink if is_directory => return Err(Status::IsDirectory.into()),
        RemoveKind::Rmdir if !is_directory => return Err(Status::NotDirectory.into()),
        RemoveKind::Rmdir if row.attr.size != 0 => return Err(Status::NotEmpty.into()),
        RemoveKind::Unlink | RemoveKind::Rmdir => {}
    }
    let nlink = drop_name(tx, directory, name, row)?;
    let change = Change::Unlinked { ino: entry.ino, parent, name: name.clone(), last: nlink == 0 };
    tx.changes.push(change);
    Ok((entry.ino, nlink))
}

/// Takes the name `name` in `directory` away from `row`; its link count now.
pub(crate) fn drop_name(tx: &mut Tx<'_>, mut directory: InodeRow, name: &Name, mut row: InodeRow) -> Step<u32> {
    let parent = directory.attr.ino;
    let cookie = tx.remove_dentry(parent, name)?;
    let is_directory = row.attr.kind == FileKind::Directory;
    touch_directory(tx, &mut directory, -1, -i64::from(is_directory));
    tx.put_inode(directory);
    let delta = TreeDelta::of(&row);
    let was_home = row.links.first() == Some(&Link { parent, cookie });
    row.links.retain(|link| *link != Link { parent, cookie });
    change::lose_name(&mut row.attr, tx.now);
    if was_home {
        bump_tree(tx, parent, delta.negated())?;
        if let Some(home) = row.links.first().copied() {
            row.attr.parent = home.parent;
            bump_tree(tx, home.parent, delta)?;
        }
    }
    let nlink = row.attr.nlink;
    if nlink > 0 {
        tx.put_inode(row);
    } else if tx.opens.is_open(row.attr.ino) {
        tx.put(key::orphan(row.attr.ino), Row::Orphan);
        tx.orphaned.push(row.attr.ino);
        tx.put_inode(row);
    } else {
        free::free(tx, row)?;
    }
    Ok(nlink)
}
