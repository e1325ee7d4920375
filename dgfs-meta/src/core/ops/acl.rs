//! POSIX ACLs as the kernel stores them (`system.posix_acl_access` and
//! `…_default`): how they follow the mode, and how a new inode inherits them.
//!
//! Never checks access: the kernel does. Source: IEEE 1003.1e draft 17 and
//! Linux `include/uapi/linux/posix_acl_xattr.h`.

use std::collections::BTreeMap;

use dgfs_proto::attr::change::plain_mode;
use dgfs_proto::attr::{AttrFlags, FileKind};
use dgfs_proto::status::Status;

use crate::core::tx::{Step, Tx};
use crate::rows::InodeRow;

/// The access ACL's attribute name.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The default ACL's attribute name.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A decoded, valid ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// Decodes the kernel's form.
    ///
    /// # Errors
    /// `Invalid` for anything that is not a valid ACL.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(Status::Invalid)?;
        if u32::from_le_bytes(*version) != VERSION || !rest.len().is_multiple_of(ENTRY_BYTES) {
            return Err(Status::Invalid);
        }
        let entries: Vec<Entry> = rest
            .as_chunks::<ENTRY_BYTES>()
            .0
            .iter()
            .map(|[t0, t1, p0, p1, i0, i1, i2, i3]| Entry {
                tag: u16::from_le_bytes([*t0, *t1]),
                perm: u16::from_le_bytes([*p0, *p1]),
                id: u32::from_le_bytes([*i0, *i1, *i2, *i3]),
            })
            .collect();
        let acl = Self(entries);
        let count = |tag| acl.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let shape = count(USER_OBJ) == 1 && count(GROUP_OBJ) == 1 && count(OTHER) == 1 && count(MASK) <= 1;
        let known =
            acl.0.iter().all(|e| matches!(e.tag, USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER) && e.perm <= 7);
        if shape && known && (named == 0 || count(MASK) == 1) { Ok(acl) } else { Err(Status::Invalid) }
    }

    /// The kernel's form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            let id = if matches!(entry.tag, USER | GROUP) { entry.id } else { NO_ID };
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    fn perm(&self, tag: u16) -> Option<u16> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.perm)
    }

    fn set(&mut self, tag: u16, perm: u16) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.tag == tag) {
            entry.perm = perm;
        }
    }

    /// The nine permission bits that `stat` shows for this ACL.
    pub(crate) fn mode(&self) -> u16 {
        let group = self.perm(MASK).or_else(|| self.perm(GROUP_OBJ)).unwrap_or(0);
        self.perm(USER_OBJ).unwrap_or(0) << 6 | group << 3 | self.perm(OTHER).unwrap_or(0)
    }

    /// Does it say no more than nine permission bits do?
    pub(crate) fn is_mode_only(&self) -> bool {
        self.0.len() == 3
    }

    /// chmod: the mode's bits become the owner's, the mask's (or group's) and the others' rights.
    pub(crate) fn chmod(&mut self, mode: u16) {
        self.set(USER_OBJ, mode >> 6 & 7);
        let group = if self.perm(MASK).is_some() { MASK } else { GROUP_OBJ };
        self.set(group, mode >> 3 & 7);
        self.set(OTHER, mode & 7);
    }

    /// A new inode takes at most what its creator asked for.
    fn limit(&mut self, mode: u16) {
        let group = if self.perm(MASK).is_some() { MASK } else { GROUP_OBJ };
        for (tag, bits) in [(USER_OBJ, mode >> 6 & 7), (group, mode >> 3 & 7), (OTHER, mode & 7)] {
            let limited = self.perm(tag).unwrap_or(0) & bits;
            self.set(tag, limited);
        }
    }
}

/// What a new inode gets from its directory.
pub(crate) struct Inherited {
    /// Nine permission bits.
    pub(crate) mode: u16,
    /// ACLs.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A default ACL takes the umask's place; without one the umask applies. Symlinks have no rights to inherit.
pub(crate) fn inherit(tx: &mut Tx<'_>, parent: &InodeRow, new: &InodeRow, mode: u16, umask: u16) -> Step<Inherited> {
    let plain = Inherited { mode: plain_mode(new.attr.kind, mode, umask), xattrs: BTreeMap::new() };
    if new.attr.kind == FileKind::Symlink || !parent.attr.flags.has(AttrFlags::HAS_DEFAULT_ACL) {
        return Ok(plain);
    }
    let all = tx.xattrs(parent.attr.ino)?;
    let Some(bytes) = all.get(DEFAULT) else { return Ok(plain) };
    let default = Acl::decode(bytes).map_err(|_| Status::Corrupt)?;
    let mut access = default.clone();
    access.limit(mode);
    let mut xattrs = BTreeMap::new();
    if !access.is_mode_only() {
        xattrs.insert(ACCESS.to_vec(), access.encode());
    }
    if new.attr.kind == FileKind::Directory {
        xattrs.insert(DEFAULT.to_vec(), default.encode());
    }
    Ok(Inherited { mode: access.mode(), xattrs })
}

/// Keeps the attribute flags in step with the names of the extended attributes.
pub(crate) fn flag(flags: &mut AttrFlags, name: &[u8], on: bool) {
    match name {
        ACCESS => flags.set(AttrFlags::HAS_ACCESS_ACL, on),
        DEFAULT => flags.set(AttrFlags::HAS_DEFAULT_ACL, on),
        b"security.capability" => flags.set(AttrFlags::HAS_CAPABILITY, on),
        _ => {}
    }
}
