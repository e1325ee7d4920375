//! Extended attributes, tags among them.

use dgfs_proto::attr::{AttrFlags, FileKind};
use dgfs_proto::graph::is_kept_xattr;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use dgfs_proto::log::Change;
use dgfs_proto::meta::XattrMode;
use dgfs_proto::status::Status;

use crate::core::ops::acl::{self, Acl};
use crate::core::ops::tag::{self, Xattrs};
use crate::core::tx::{Step, Tx};
use crate::rows::InodeRow;

const PREFIXES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"dgfs."];

/// Names outside of the namespaces that Linux has are not supported, also when they are only asked for.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Status> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(Status::Range);
    }
    let known = PREFIXES.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len());
    if known || name == acl::ACCESS || name == acl::DEFAULT { Ok(()) } else { Err(Status::NotSupported) }
}

/// Sets one to a value, on behalf of a user.
pub(crate) fn set(tx: &mut Tx<'_>, ino: Ino, (name, value): (&[u8], &[u8]), mode: XattrMode, uid: u32) -> Step<()> {
    check_name(name)?;
    if value.len() > XATTR_VALUE_BYTES_MAX {
        return Err(Status::XattrTooBig.into());
    }
    let mut row = tx.live_inode(ino)?;
    let mut all = if row.attr.flags.has(AttrFlags::HAS_XATTR) { tx.xattrs(ino)? } else { Default::default() };
    let known = if name == tag::SHOWN { tag::shown(tx, &all)?.is_some() } else { all.contains_key(name) };
    match mode {
        XattrMode::Create if known => return Err(Status::Exists.into()),
        XattrMode::Replace if !known => return Err(Status::NoXattr.into()),
        XattrMode::Any | XattrMode::Create | XattrMode::Replace => {}
    }
    if name == tag::SHOWN {
        tag::replace(tx, &row, &mut all, (value, uid))?;
        return tag::store(tx, row, all);
    }
    let keep = if name == acl::ACCESS || name == acl::DEFAULT { set_acl(&mut row, name, value)? } else { true };
    if keep {
        all.insert(name.to_vec(), value.to_vec());
    } else {
        all.remove(name);
    }
    acl::flag(&mut row.attr.flags, name, keep);
    store(tx, row, name, all)
}

/// An access ACL sets the mode, too; one that says no more than the mode is not kept.
fn set_acl(row: &mut InodeRow, name: &[u8], value: &[u8]) -> Step<bool> {
    if row.attr.kind == FileKind::Symlink {
        return Err(Status::NotSupported.into());
    }
    if name == acl::DEFAULT {
        if row.attr.kind != FileKind::Directory {
            return Err(Status::AccessDenied.into());
        }
        if value.len() <= 4 {
            return Ok(false);
        }
        Acl::decode(value)?;
        return Ok(true);
    }
    let access = Acl::decode(value)?;
    row.attr.mode = (row.attr.mode & 0o7000) | access.mode();
    Ok(!access.is_mode_only())
}

/// Removes one.
pub(crate) fn remove(tx: &mut Tx<'_>, ino: Ino, name: &[u8]) -> Step<()> {
    check_name(name)?;
    let mut row = tx.live_inode(ino)?;
    if !row.attr.flags.has(AttrFlags::HAS_XATTR) {
        return Err(Status::NoXattr.into());
    }
    let mut all = tx.xattrs(ino)?;
    if name == tag::SHOWN {
        tag::shown(tx, &all)?.ok_or(Status::NoXattr)?;
        // Nothing is made by taking all away: it is no matter by whom.
        tag::replace(tx, &row, &mut all, (b"", 0))?;
        return tag::store(tx, row, all);
    }
    if all.remove(name).is_none() {
        return Err(Status::NoXattr.into());
    }
    acl::flag(&mut row.attr.flags, name, false);
    store(tx, row, name, all)
}

fn store(tx: &mut Tx<'_>, row: InodeRow, name: &[u8], all: Xattrs) -> Step<()> {
    let ino = row.attr.ino;
    let value = all.get(name).cloned();
    tag::store(tx, row, all)?;
    tx.changes.push(if is_kept_xattr(name) {
        Change::KeptXattr { ino, name: name.to_vec(), value }
    } else {
        Change::Xattr { ino, name: name.to_vec() }
    });
    Ok(())
}
