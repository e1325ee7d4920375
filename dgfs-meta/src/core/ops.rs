//! The rules, one file for each kind of change; and what they share.

use dgfs_proto::attr::{FileKind, change};
use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;

use crate::core::tx::{Step, Tx};
use crate::rows::InodeRow;

pub(crate) mod acl;
pub(crate) mod commit;
pub(crate) mod copy;
pub(crate) mod free;
pub(crate) mod link;
pub(crate) mod lock;
pub(crate) mod make;
pub(crate) mod open;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod setattr;
pub(crate) mod tag;
pub(crate) mod truncate;
pub(crate) mod xattr;

/// A change of recursive statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeDelta {
    pub(crate) files: i64,
    pub(crate) dirs: i64,
    pub(crate) bytes: i64,
}

impl TreeDelta {
    /// What an inode counts for in its directory (a directory with all that is below it).
    pub(crate) fn of(row: &InodeRow) -> Self {
        if row.attr.kind == FileKind::Directory {
            Self { files: row.tree.files as i64, dirs: row.tree.dirs as i64 + 1, bytes: row.tree.bytes as i64 }
        } else {
            Self { files: 1, dirs: 0, bytes: row.attr.size as i64 }
        }
    }

    /// The opposite.
    pub(crate) fn negated(self) -> Self {
        Self { files: -self.files, dirs: -self.dirs, bytes: -self.bytes }
    }
}

/// A directory a client names by number, that still has a name.
pub(crate) fn directory(tx: &mut Tx<'_>, ino: Ino) -> Step<InodeRow> {
    let row = tx.live_inode(ino)?;
    if row.attr.kind != FileKind::Directory {
        return Err(Status::NotDirectory.into());
    }
    if row.attr.nlink == 0 {
        return Err(Status::NotFound.into());
    }
    Ok(row)
}

/// Adds `delta` to a directory and every one above it.
pub(crate) fn bump_tree(tx: &mut Tx<'_>, from: Ino, delta: TreeDelta) -> Step<()> {
    if delta == TreeDelta::default() {
        return Ok(());
    }
    let mut at = from;
    loop {
        let mut row = tx.inode(at)?;
        row.tree.files = row.tree.files.saturating_add_signed(delta.files);
        row.tree.dirs = row.tree.dirs.saturating_add_signed(delta.dirs);
        row.tree.bytes = row.tree.bytes.saturating_add_signed(delta.bytes);
        let above = row.attr.parent;
        tx.put_inode(row);
        if at == Ino::ROOT || above == at {
            return Ok(());
        }
        at = above;
    }
}

/// The entries of a directory changed: its times and size follow.
pub(crate) fn touch_directory(tx: &Tx<'_>, row: &mut InodeRow, entries: i64, subdirectories: i64) {
    change::touch_directory(&mut row.attr, entries, subdirectories as i32, tx.now);
}
