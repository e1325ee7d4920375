//! What a user may do with an inode: permission bits and POSIX access control lists.
//!
//! Never looks anything up: the caller brings attributes and list. Follows POSIX.1e draft 17, 23.1.5 (access check), as Linux
//! does, and Linux's encoding of `system.posix_acl_access` (`posix_acl_xattr.h`). A list that is not one that Linux would take
//! (`posix_acl_valid`) permits nothing to anybody but root and, by the bits, the owner: it may have taken away what they would
//! give. Where list and bits differ about the owner, both have to permit it.

use crate::graph::Viewer;

/// Version of the encoded list that Linux writes.
const ACL_VERSION: u32 = 2;
/// Bytes of the head, and of each entry.
const ACL_HEAD_BYTES: usize = 4;
const ACL_ENTRY_BYTES: usize = 8;
/// Entries of one list: more than anybody has, fewer than a value of 64 KiB could hold. It bounds what keeping one takes.
const ACL_ENTRIES_MAX: usize = 1024;

/// Entry tags of Linux's encoding.
const TAG_USER_OBJ: u16 = 0x01;
const TAG_USER: u16 = 0x02;
const TAG_GROUP_OBJ: u16 = 0x04;
const TAG_GROUP: u16 = 0x08;
const TAG_MASK: u16 = 0x10;
const TAG_OTHER: u16 = 0x20;

/// Kinds of access, to be joined with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(u8);

impl Wanted {
    /// Read a file, list a directory.
    pub const READ: Self = Self(4);
    /// Write a file, change a directory's entries.
    pub const WRITE: Self = Self(2);
    /// Execute a file, reach what is in a directory.
    pub const SEARCH: Self = Self(1);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn within(self, bits: u16) -> bool {
        bits & self.0 as u16 == self.0 as u16
    }
}

/// What decides about an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard<'a> {
    /// Permission bits, `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The value of `system.posix_acl_access`, if it has one.
    pub acl: Option<&'a [u8]>,
}

impl Guard<'_> {
    /// May `viewer` do all of `wanted`? Root may always.
    #[must_use]
    pub fn permits(&self, viewer: &Viewer, wanted: Wanted) -> bool {
        if viewer.uid == 0 {
            return true;
        }
        if viewer.uid == self.uid {
            let listed = self.acl.and_then(Acl::parse).and_then(|acl| acl.bits_of(TAG_USER_OBJ));
            return wanted.within(self.mode >> 6) && listed.is_none_or(|bits| wanted.within(bits));
        }
        match self.acl {
            Some(acl) => Acl::parse(acl).is_some_and(|acl| acl.permits(self, viewer, wanted)),
            None if viewer.gids.contains(&self.gid) => wanted.within(self.mode >> 3),
            None => wanted.within(self.mode),
        }
    }
}

/// Is this a value of `system.posix_acl_access` that can be read? Of any other it is enough to keep that there was one: an
/// empty one says the same.
#[must_use]
pub fn is_access_list(value: &[u8]) -> bool {
    Acl::parse(value).is_some()
}

/// A list that can be read. Its entries are walked where they lie, so no list costs memory.
struct Acl<'a>(&'a [u8]);

struct Entry {
    tag: u16,
    bits: u16,
    id: u32,
}

impl<'a> Acl<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, entries) = bytes.split_first_chunk::<ACL_HEAD_BYTES>()?;
        let whole = u32::from_le_bytes(*head) == ACL_VERSION
            && entries.len().is_multiple_of(ACL_ENTRY_BYTES)
            && entries.len() <= ACL_ENTRIES_MAX * ACL_ENTRY_BYTES;
        let list = Self(entries);
        (whole && list.is_ordered()).then_some(list)
    }

    /// The owner first, then named users, the group, named groups, a mask (a must where anybody is named), the others.
    fn is_ordered(&self) -> bool {
        let (mut next, mut names_any) = (Some(TAG_USER_OBJ), false);
        for entry in self.entries() {
            names_any |= matches!(entry.tag, TAG_USER | TAG_GROUP);
            next = match (next, entry.tag) {
                (Some(TAG_USER_OBJ), TAG_USER_OBJ) | (Some(TAG_USER), TAG_USER) => Some(TAG_USER),
                (Some(TAG_USER), TAG_GROUP_OBJ) | (Some(TAG_GROUP), TAG_GROUP) => Some(TAG_GROUP),
                (Some(TAG_GROUP), TAG_MASK) => Some(TAG_OTHER),
                (Some(TAG_GROUP), TAG_OTHER) if !names_any => None,
                (Some(TAG_OTHER), TAG_OTHER) => None,
                (Some(_) | None, _) => return false,
            };
            if entry.bits > 7 {
                return false;
            }
        }
        next.is_none()
    }

    fn bits_of(&self, tag: u16) -> Option<u16> {
        self.entries().find(|entry| entry.tag == tag).map(|entry| entry.bits)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + use<'a> {
        self.0.chunks_exact(ACL_ENTRY_BYTES).filter_map(|entry| {
            let (tag, rest) = entry.split_first_chunk::<2>()?;
            let (bits, rest) = rest.split_first_chunk::<2>()?;
            let (id, _) = rest.split_first_chunk::<4>()?;
            let (tag, bits) = (u16::from_le_bytes(*tag), u16::from_le_bytes(*bits));
            Some(Entry { tag, bits, id: u32::from_le_bytes(*id) })
        })
    }

    /// For whoever is neither root nor the owner.
    fn permits(&self, guard: &Guard<'_>, viewer: &Viewer, wanted: Wanted) -> bool {
        let mask = self.bits_of(TAG_MASK).unwrap_or(7);
        if let Some(user) = self.entries().find(|entry| entry.tag == TAG_USER && entry.id == viewer.uid) {
            return wanted.within(user.bits & mask);
        }
        let mut is_member = false;
        for entry in self.entries() {
            let group = match entry.tag {
                TAG_GROUP_OBJ => guard.gid,
                TAG_GROUP => entry.id,
                _ => continue,
            };
            if viewer.gids.contains(&group) {
                is_member = true;
                if wanted.within(entry.bits & mask) {
                    return true;
                }
            }
        }
        // A member of a group that is named gets nothing as one of the others.
        !is_member && self.bits_of(TAG_OTHER).is_some_and(|bits| wanted.within(bits))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{Guard, TAG_GROUP, TAG_GROUP_OBJ, TAG_MASK, TAG_OTHER, TAG_USER, TAG_USER_OBJ, Wanted};
    use crate::graph::Viewer;

    const NOBODY: u32 = u32::MAX;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, bits, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&bits.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    fn viewer(uid: u32, gids: &[u32]) -> Viewer {
        Viewer { uid, gids: gids.to_vec() }
    }

    #[test]
    fn permission_bits_decide_by_the_first_class_that_fits() {
        let (read, write, search) = (Wanted::READ, Wanted::WRITE, Wanted::SEARCH);
        let table = [
            (0o600, viewer(0, &[]), write, true),
            (0o000, viewer(0, &[]), read.and(write), true),
            (0o640, viewer(10, &[10]), write, true),
            (0o640, viewer(10, &[10]), read.and(write), true),
            (0o640, viewer(11, &[20]), read, true),
            (0o640, viewer(11, &[20]), write, false),
            (0o640, viewer(11, &[5, 20]), read, true),
            (0o646, viewer(11, &[20]), write, false),
            (0o646, viewer(12, &[21]), write, true),
            // The owner is not one of the group or the others.
            (0o077, viewer(10, &[20]), read, false),
            (0o711, viewer(12, &[21]), search, true),
            (0o711, viewer(12, &[21]), search.and(read), false),
        ];
        for (at, (mode, viewer, wanted, expected)) in table.into_iter().enumerate() {
            let guard = Guard { mode, uid: 10, gid: 20, acl: None };
            assert_eq!(guard.permits(&viewer, wanted), expected, "row {at}: {mode:o} {viewer:?} {wanted:?}");
        }
    }

    #[test]
    fn an_access_list_decides_for_named_users_and_groups_within_its_mask() {
        let list = acl(&[
            (TAG_USER_OBJ, 6, NOBODY),
            (TAG_USER, 6, 30),
            (TAG_USER, 7, 31),
            (TAG_GROUP_OBJ, 4, NOBODY),
            (TAG_GROUP, 6, 40),
            (TAG_GROUP, 0, 41),
            (TAG_MASK, 6, NOBODY),
            (TAG_OTHER, 2, NOBODY),
        ]);
        let table = [
            (viewer(10, &[]), Wanted::WRITE, true),
            (viewer(30, &[99]), Wanted::WRITE, true),
            (viewer(31, &[99]), Wanted::SEARCH, false),
            (viewer(50, &[20]), Wanted::READ, true),
            (viewer(50, &[20]), Wanted::WRITE, false),
            (viewer(50, &[20, 40]), Wanted::WRITE, true),
            (viewer(50, &[41]), Wanted::WRITE, false),
            (viewer(50, &[99]), Wanted::WRITE, true),
            (viewer(50, &[99]), Wanted::READ, false),
            // Each entry is asked alone: read by one group and write by another is not both.
            (viewer(50, &[20, 41]), Wanted::READ.and(Wanted::WRITE), false),
            (viewer(0, &[]), Wanted::SEARCH, true),
        ];
        for (at, (viewer, wanted, expected)) in table.into_iter().enumerate() {
            let guard = Guard { mode: 0o662, uid: 10, gid: 20, acl: Some(&list) };
            assert_eq!(guard.permits(&viewer, wanted), expected, "row {at}: {viewer:?} {wanted:?}");
        }
    }

    #[test]
    fn a_list_replaces_the_bits_of_group_and_others() {
        let list = acl(&[
            (TAG_USER_OBJ, 7, 0),
            (TAG_USER, 7, 30),
            (TAG_GROUP_OBJ, 0, 0),
            (TAG_GROUP, 5, 40),
            (TAG_MASK, 5, 0),
            (TAG_OTHER, 0, 0),
        ]);
        let (reach, write) = (Wanted::READ.and(Wanted::SEARCH), Wanted::WRITE);
        let table = [
            (viewer(10, &[]), reach, true),
            (viewer(30, &[]), reach, true),
            (viewer(30, &[]), write, false),
            (viewer(31, &[20, 40]), Wanted::READ, true),
            (viewer(31, &[20]), Wanted::READ, false),
            (viewer(31, &[]), Wanted::READ, false),
        ];
        for (viewer, wanted, expected) in table {
            let guard = Guard { mode: 0o777, uid: 10, gid: 20, acl: Some(&list) };
            assert_eq!(guard.permits(&viewer, wanted), expected, "{viewer:?} {wanted:?}");
        }
    }

    #[test]
    fn of_list_and_bits_that_differ_about_the_owner_the_stricter_one_counts() {
        let list = acl(&[(TAG_USER_OBJ, 4, 0), (TAG_GROUP_OBJ, 0, 0), (TAG_OTHER, 0, 0)]);
        for (mode, wanted, expected) in
            [(0o700, Wanted::READ, true), (0o700, Wanted::SEARCH, false), (0o300, Wanted::READ, false)]
        {
            let guard = Guard { mode, uid: 10, gid: 20, acl: Some(&list) };
            assert_eq!(guard.permits(&viewer(10, &[]), wanted), expected, "{mode:o} {wanted:?}");
        }
    }

    #[test]
    fn only_a_list_that_linux_would_take_is_read() {
        let (user, group, other) = ((TAG_USER_OBJ, 7, 0), (TAG_GROUP_OBJ, 7, 0), (TAG_OTHER, 7, 0));
        let named: Vec<(u16, u16, u32)> = (0..1021).map(|id| (TAG_USER, 7, id)).collect();
        let long = |count: usize| {
            let middle = named.iter().copied().take(count);
            let end = [group, (TAG_MASK, 7, 0), other];
            [user].into_iter().chain(middle).chain(end).collect::<Vec<_>>()
        };
        for good in [vec![user, group, other], vec![user, group, (TAG_MASK, 0, 0), other], long(1), long(1020)] {
            assert!(super::is_access_list(&acl(&good)), "{} entries", good.len());
        }
        for bad in [
            vec![group, other],
            vec![user, group],
            vec![user, other, group],
            vec![user, user, group, other],
            vec![user, group, other, other],
            vec![user, (TAG_USER, 7, 30), group, other],
            vec![user, group, (TAG_GROUP, 7, 30), other],
            vec![user, (8, 7, 30), group, (TAG_MASK, 7, 0), other],
            vec![user, (TAG_GROUP_OBJ, 8, 0), other],
            long(1021),
            long(1020).into_iter().rev().collect(),
        ] {
            assert!(!super::is_access_list(&acl(&bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_permits_nothing_but_to_root_and_owner() {
        let whole = acl(&[(TAG_USER_OBJ, 6, 0), (TAG_GROUP_OBJ, 6, 0), (TAG_OTHER, 6, 0)]);
        let mut old = whole.clone();
        old[0] = 1;
        let torn = whole[..whole.len() - 1].to_vec();
        let broken = [Vec::new(), old, torn, acl(&[]), acl(&[(TAG_GROUP_OBJ, 6, 0), (TAG_OTHER, 6, 0), (0x40, 6, 0)])];
        for list in &broken {
            let guard = Guard { mode: 0o666, uid: 10, gid: 20, acl: Some(list) };
            assert!(!guard.permits(&viewer(50, &[20]), Wanted::WRITE), "{list:?}");
            assert!(guard.permits(&viewer(10, &[]), Wanted::WRITE) && guard.permits(&viewer(0, &[]), Wanted::WRITE));
        }
        let guard = Guard { mode: 0o666, uid: 10, gid: 20, acl: Some(&whole) };
        assert!(guard.permits(&viewer(50, &[20]), Wanted::WRITE));
    }
}
