//! create, mkdir, mknod, symlink.

use dgfs_proto::attr::change::NewInode;
use dgfs_proto::attr::{Attr, AttrFlags, FileKind, TreeStat};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{LINK_MAX, SYMLINK_BYTES_MAX};
use dgfs_proto::log::Change;
use dgfs_proto::meta::{Caller, NewNode};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::ops::acl::{self, Inherited};
use crate::core::ops::{TreeDelta, bump_tree, directory, touch_directory};
use crate::core::tx::{Step, Tx};
use crate::rows::{InodeRow, Link};

/// What is asked for.
pub(crate) struct Make<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a Name,
    pub(crate) node: &'a NewNode,
    pub(crate) mode: u16,
    pub(crate) umask: u16,
    pub(crate) caller: Caller,
    pub(crate) open: bool,
    /// Granted before; none: the next one.
    pub(crate) ino: Option<Ino>,
}

/// Makes an inode under a name that does not exist yet.
pub(crate) fn make(tx: &mut Tx<'_>, request: &Make<'_>) -> Step<Attr> {
    let mut parent = directory(tx, request.parent)?;
    if tx.dentry(request.parent, request.name)?.is_some() {
        return Err(Status::Exists.into());
    }
    let mut row = new_inode(tx, &parent, request)?;
    let inherited = acl::inherit(tx, &parent, &row, request.mode, request.umask)?;
    row.attr.mode = inherited.mode | (row.attr.mode & 0o7000);
    let ino = row.attr.ino;
    let access = inherited.xattrs.get(acl::ACCESS).cloned();
    store_acls(tx, &mut row, inherited);
    let cookie = tx.add_dentry(request.parent, request.name, &row)?;
    row.links.push(Link { parent: request.parent, cookie });
    let is_directory = row.attr.kind == FileKind::Directory;
    if is_directory && parent.attr.nlink >= LINK_MAX * 64 {
        return Err(Status::TooManyLinks.into());
    }
    touch_directory(tx, &mut parent, 1, i64::from(is_directory));
    let delta = TreeDelta::of(&row);
    let attr = row.attr.clone();
    tx.put_inode(row);
    tx.put_inode(parent);
    bump_tree(tx, request.parent, delta)?;
    tx.counters.inodes += 1;
    tx.counters.allocated = tx.counters.allocated.saturating_add(attr.allocated);
    if is_directory {
        tx.new_directories.push(ino);
    }
    if request.open {
        tx.opened.push((ino, 1));
    }
    tx.changes.push(Change::Made { ino, parent: request.parent, name: request.name.clone(), kind: attr.kind });
    tx.changes.extend(access.map(|value| Change::KeptXattr { ino, name: acl::ACCESS.to_vec(), value: Some(value) }));
    Ok(attr)
}

fn new_inode(tx: &mut Tx<'_>, parent: &InodeRow, request: &Make<'_>) -> Step<InodeRow> {
    let (kind, rdev, target) = match request.node {
        NewNode::File => (FileKind::File, 0, Vec::new()),
        NewNode::Directory => (FileKind::Directory, 0, Vec::new()),
        NewNode::Symlink(target) => {
            if target.is_empty() || target.len() > SYMLINK_BYTES_MAX {
                return Err(if target.is_empty() { Status::NotFound } else { Status::NameTooLong }.into());
            }
            (FileKind::Symlink, 0, target.clone())
        }
        NewNode::Special { kind, rdev } => match kind {
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                (*kind, *rdev, Vec::new())
            }
            FileKind::File | FileKind::Directory | FileKind::Symlink => return Err(Status::Invalid.into()),
        },
    };
    let ino = match request.ino {
        Some(granted) => granted,
        None => {
            let next = Ino::new(tx.counters.next_ino).ok_or(Status::NoSpace)?;
            tx.counters.next_ino += 1;
            next
        }
    };
    // The number was never used before.
    tx.cache.install(crate::rows::key::inode(ino), None);
    let new = NewInode {
        ino,
        parent: &parent.attr,
        kind,
        rdev,
        size: target.len() as u64,
        mode: request.mode,
        uid: request.caller.uid,
        gid: request.caller.gid,
    };
    Ok(InodeRow { attr: new.attr(tx.now), links: Vec::new(), tree: TreeStat::default(), target })
}

fn store_acls(tx: &mut Tx<'_>, row: &mut InodeRow, inherited: Inherited) {
    if inherited.xattrs.is_empty() {
        return;
    }
    for name in inherited.xattrs.keys() {
        acl::flag(&mut row.attr.flags, name, true);
    }
    row.attr.flags.set(AttrFlags::HAS_XATTR, true);
    tx.put(crate::rows::key::xattr(row.attr.ino), crate::rows::Row::Xattrs(inherited.xattrs));
}
