//! May a user search or read a directory? By mode bits and POSIX access ACLs, as POSIX.1e (withdrawn draft 17) has it
//! and Linux does it.
//!
//! Never asks the metadata service. An ACL that cannot be read grants nobody but the owner anything.

use dgfs_proto::graph::Viewer;

/// Permission to read a directory's names.
pub(crate) const READ: u16 = 4;
/// Permission to search a directory.
pub(crate) const SEARCH: u16 = 1;
/// Entries of one ACL: more than anybody has, fewer than a value of 64 KiB could hold.
const ENTRIES_MAX: usize = 1024;
/// Linux' version of the attribute's layout (`POSIX_ACL_XATTR_VERSION`).
const VERSION: [u8; 4] = 2u32.to_le_bytes();
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// A checked access ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Box<[(u16, u16, u32)]>);

impl Acl {
    /// Reads the value of `system.posix_acl_access`; of one that is malformed only the owner's entry counts.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let entries = value.strip_prefix(&VERSION).map(|rest| rest.chunks(8).map(entry).collect::<Option<Vec<_>>>());
        match entries.flatten() {
            Some(entries) if entries.len() <= ENTRIES_MAX => Self(entries.into()),
            _ => Self(Box::new([(USER_OBJ, 7, 0)])),
        }
    }

    fn permissions(&self, tag: u16) -> impl Iterator<Item = (u32, u16)> {
        self.0.iter().filter(move |entry| entry.0 == tag).map(|(_, permissions, id)| (*id, *permissions))
    }

    fn grants(&self, owner: &Owner, viewer: &Viewer, wanted: u16) -> bool {
        let mask = self.permissions(MASK).next().map_or(7, |(_, mask)| mask);
        let granted = |permissions: u16| permissions & wanted == wanted;
        if viewer.uid == owner.uid {
            return self.permissions(USER_OBJ).any(|(_, permissions)| granted(permissions));
        }
        if let Some((_, permissions)) = self.permissions(USER).find(|(id, _)| *id == viewer.uid) {
            return granted(permissions & mask);
        }
        let own_group = self.permissions(GROUP_OBJ).map(|(_, permissions)| (owner.gid, permissions));
        let mut matched =
            own_group.chain(self.permissions(GROUP)).filter(|(id, _)| viewer.gids.contains(id)).peekable();
        if matched.peek().is_some() {
            return matched.any(|(_, permissions)| granted(permissions & mask));
        }
        self.permissions(OTHER).any(|(_, permissions)| granted(permissions))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len() * 8 + 32
    }
}

fn entry(bytes: &[u8]) -> Option<(u16, u16, u32)> {
    let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes else { return None };
    Some((u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]), u32::from_le_bytes([i0, i1, i2, i3])))
}

/// Whose it is, and its mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
}

/// Has `viewer` all of `wanted` ([`READ`], [`SEARCH`])?
pub(crate) fn may(owner: &Owner, acl: Option<&Acl>, viewer: &Viewer, wanted: u16) -> bool {
    if viewer.uid == 0 {
        return true;
    }
    if let Some(acl) = acl {
        return acl.grants(owner, viewer, wanted);
    }
    let shift = if viewer.uid == owner.uid {
        6
    } else if viewer.gids.contains(&owner.gid) {
        3
    } else {
        0
    };
    (owner.mode >> shift) & wanted == wanted
}

#[cfg(test)]
mod tests {
    use super::{Acl, Owner, READ, SEARCH, may};
    use dgfs_proto::graph::Viewer;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let mut value = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        Acl::parse(&value)
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let owner = Owner { uid: 10, gid: 20, mode: 0o475 };
        let viewer = |uid, gids: &[u32]| Viewer { uid, gids: gids.to_vec() };
        for (who, read, search) in [
            (viewer(0, &[]), true, true),
            (viewer(10, &[20]), true, false),
            (viewer(11, &[5, 20]), true, true),
            (viewer(11, &[5]), true, true),
        ] {
            assert_eq!((may(&owner, None, &who, READ), may(&owner, None, &who, SEARCH)), (read, search), "{who:?}");
        }
    }

    #[test]
    fn an_acl_replaces_the_mode() {
        let owner = Owner { uid: 10, gid: 20, mode: 0o777 };
        let list = acl(&[(1, 7, 0), (2, 7, 30), (4, 0, 0), (8, 5, 40), (0x10, 5, 0), (0x20, 0, 0)]);
        let ask = |uid, gids: &[u32], wanted| may(&owner, Some(&list), &Viewer { uid, gids: gids.to_vec() }, wanted);
        assert!(ask(10, &[], READ | SEARCH));
        assert!(ask(30, &[], READ | SEARCH));
        assert!(!ask(30, &[], 2), "the mask takes writing away");
        assert!(ask(31, &[20, 40], READ), "one of the matching groups grants it");
        assert!(!ask(31, &[20], READ));
        assert!(!ask(31, &[], READ));
    }

    #[test]
    fn a_damaged_acl_grants_only_the_owner() {
        let owner = Owner { uid: 10, gid: 20, mode: 0o777 };
        for value in [&b""[..], &[2, 0, 0, 0, 1], &[9, 0, 0, 0]] {
            let list = Acl::parse(value);
            assert!(may(&owner, Some(&list), &Viewer { uid: 10, gids: vec![] }, READ), "{value:?}");
            assert!(!may(&owner, Some(&list), &Viewer { uid: 11, gids: vec![20] }, READ), "{value:?}");
        }
    }
}
