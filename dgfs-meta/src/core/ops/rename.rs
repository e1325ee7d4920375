//! rename, with NOREPLACE and EXCHANGE.

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Change;
use dgfs_proto::meta::RenameMode;
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::ops::remove::drop_name;
use crate::core::ops::{TreeDelta, bump_tree, directory, touch_directory};
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Link};

/// A name in a directory.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a Name,
}

/// What a rename did.
pub(crate) struct Renamed {
    /// What has the new name now.
    pub(crate) moved: Ino,
    /// What lost that name, and its link count.
    pub(crate) lost: Option<(Ino, u32)>,
    /// What got the old name.
    pub(crate) exchanged: Option<Ino>,
}

/// Moves `from` to `to`; nothing when both are names of one inode, which stays as it is (POSIX).
pub(crate) fn rename(tx: &mut Tx<'_>, from: Place<'_>, to: Place<'_>, mode: RenameMode) -> Step<Option<Renamed>> {
    directory(tx, from.parent)?;
    directory(tx, to.parent)?;
    let source = tx.dentry(from.parent, from.name)?.ok_or(Status::NotFound)?;
    let target = tx.dentry(to.parent, to.name)?;
    let row = tx.inode(source.ino)?;
    refuse_cycle(tx, &row, to.parent)?;
    let Some(target) = target else {
        if mode == RenameMode::Exchange {
            return Err(Status::NotFound.into());
        }
        move_name(tx, from, to, None)?;
        return Ok(Some(Renamed { moved: source.ino, lost: None, exchanged: None }));
    };
    match mode {
        RenameMode::NoReplace => Err(Status::Exists.into()),
        RenameMode::Exchange => {
            let other = tx.inode(target.ino)?;
            refuse_cycle(tx, &other, from.parent)?;
            if source.ino == target.ino {
                return Ok(None);
            }
            exchange(tx, from, to)?;
            Ok(Some(Renamed { moved: source.ino, lost: None, exchanged: Some(target.ino) }))
        }
        RenameMode::Replace if source.ino == target.ino => Ok(None),
        RenameMode::Replace => {
            let nlink = replace_target(tx, &row, to, target.ino)?;
            move_name(tx, from, to, Some(target.ino))?;
            Ok(Some(Renamed { moved: source.ino, lost: Some((target.ino, nlink)), exchanged: None }))
        }
    }
}

/// A directory must not move into itself or below (POSIX EINVAL).
fn refuse_cycle(tx: &mut Tx<'_>, row: &InodeRow, into: Ino) -> Step<()> {
    if row.attr.kind != FileKind::Directory {
        return Ok(());
    }
    let mut at = into;
    loop {
        if at == row.attr.ino {
            return Err(Status::Invalid.into());
        }
        if at == Ino::ROOT {
            return Ok(());
        }
        at = tx.inode(at)?.attr.parent;
    }
}

fn replace_target(tx: &mut Tx<'_>, source: &InodeRow, to: Place<'_>, target: Ino) -> Step<u32> {
    let target = tx.inode(target)?;
    let is_directory = |row: &InodeRow| row.attr.kind == FileKind::Directory;
    match (is_directory(source), is_directory(&target)) {
        (true, false) => return Err(Status::NotDirectory.into()),
        (false, true) => return Err(Status::IsDirectory.into()),
        (true, true) if target.attr.size != 0 => return Err(Status::NotEmpty.into()),
        (true, true) | (false, false) => {}
    }
    let parent = tx.inode(to.parent)?;
    drop_name(tx, parent, to.name, target)
}

/// Takes the entry out of one directory and puts it into another.
fn move_name(tx: &mut Tx<'_>, from: Place<'_>, to: Place<'_>, replaced: Option<Ino>) -> Step<()> {
    let entry = tx.dentry(from.parent, from.name)?.ok_or(Status::NotFound)?;
    let row = tx.inode(entry.ino)?;
    let (ino, delta) = (row.attr.ino, TreeDelta::of(&row));
    let subdirectory = i64::from(row.attr.kind == FileKind::Directory);
    let old = Link { parent: from.parent, cookie: tx.remove_dentry(from.parent, from.name)? };
    let new = Link { parent: to.parent, cookie: tx.add_dentry(to.parent, to.name, &row)? };
    let mut source = tx.inode(from.parent)?;
    touch_directory(tx, &mut source, -1, -subdirectory);
    tx.put_inode(source);
    let mut target = tx.inode(to.parent)?;
    touch_directory(tx, &mut target, 1, subdirectory);
    tx.put_inode(target);
    relink(tx, row, old, new, delta)?;
    tx.changes.push(Change::Renamed {
        ino,
        parent: from.parent,
        name: from.name.clone(),
        new_parent: to.parent,
        new_name: to.name.clone(),
        replaced,
        exchanged: false,
    });
    Ok(())
}

/// A link of `row` is now elsewhere; statistics follow if it was the first.
fn relink(tx: &mut Tx<'_>, mut row: InodeRow, old: Link, new: Link, delta: TreeDelta) -> Step<()> {
    let was_home = row.links.first() == Some(&old);
    for link in &mut row.links {
        if *link == old {
            *link = new;
        }
    }
    row.attr.ctime = tx.now;
    if was_home {
        row.attr.parent = new.parent;
    }
    tx.put_inode(row);
    if was_home && old.parent != new.parent {
        bump_tree(tx, old.parent, delta.negated())?;
        bump_tree(tx, new.parent, delta)?;
    }
    Ok(())
}

/// Both names stay, their inodes change places.
fn exchange(tx: &mut Tx<'_>, from: Place<'_>, to: Place<'_>) -> Step<()> {
    let first = tx.dentry(from.parent, from.name)?.ok_or(Status::NotFound)?.ino;
    let second = tx.dentry(to.parent, to.name)?.ok_or(Status::NotFound)?.ino;
    let (a, b) = (tx.inode(first)?, tx.inode(second)?);
    let (delta_a, delta_b) = (TreeDelta::of(&a), TreeDelta::of(&b));
    let is_directory = |row: &InodeRow| i64::from(row.attr.kind == FileKind::Directory);
    let gain = is_directory(&b) - is_directory(&a);
    let old_a = Link { parent: from.parent, cookie: tx.remove_dentry(from.parent, from.name)? };
    let old_b = Link { parent: to.parent, cookie: tx.remove_dentry(to.parent, to.name)? };
    let new_b = Link { parent: from.parent, cookie: tx.add_dentry(from.parent, from.name, &b)? };
    let new_a = Link { parent: to.parent, cookie: tx.add_dentry(to.parent, to.name, &a)? };
    let mut source = tx.inode(from.parent)?;
    touch_directory(tx, &mut source, 0, gain);
    tx.put_inode(source);
    let mut target = tx.inode(to.parent)?;
    touch_directory(tx, &mut target, 0, -gain);
    tx.put_inode(target);
    let a = tx.inode(first)?;
    relink(tx, a, old_a, new_a, delta_a)?;
    let b = tx.inode(second)?;
    relink(tx, b, old_b, new_b, delta_b)?;
    tx.changes.push(Change::Renamed {
        ino: first,
        parent: from.parent,
        name: from.name.clone(),
        new_parent: to.parent,
        new_name: to.name.clone(),
        replaced: Some(second),
        exchanged: true,
    });
    Ok(())
}
