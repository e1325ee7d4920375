//! Lists directories into kernel replies.
//!
//! Never keeps entries between requests: what `readdirplus` tells the kernel must be true now, or it would
//! bring a removed name back. Cookies 1 and 2 are the dots; the entries' own are above 255.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fuser::{FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use dgfs_client::vfs::{CacheTtl, Listed};
use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::DirEntry;

use crate::adapter::Shared;
use crate::adapter::files::OpenDirectory;
use crate::adapter::respond::{GENERATION, to_fuser};
use crate::adapter::translate::{file_attr, file_type, missing_attr};
use crate::errno::Errno;

const COOKIE_DOT: u64 = 1;
const COOKIE_DOTDOT: u64 = 2;

/// A directory reply that takes entries until it is full.
pub(crate) trait Listing: Send + 'static {
    /// `.` or `..`; true when it did not fit.
    fn dot(&mut self, ino: Ino, cookie: u64, name: &str) -> bool;
    /// An entry; true when it did not fit.
    fn entry(&mut self, entry: &DirEntry, ttl: CacheTtl) -> bool;
    /// Sends what was taken.
    fn send(self);
    /// Sends an errno.
    fn refuse(self, errno: Errno);
}

impl Listing for ReplyDirectory {
    fn dot(&mut self, ino: Ino, cookie: u64, name: &str) -> bool {
        self.add(INodeNo(ino.get()), cookie, FileType::Directory, name)
    }

    fn entry(&mut self, entry: &DirEntry, _: CacheTtl) -> bool {
        let name = OsStr::from_bytes(entry.name.as_bytes());
        self.add(INodeNo(entry.attr.ino.get()), entry.cookie, file_type(entry.attr.kind), name)
    }

    fn send(self) {
        self.ok();
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

impl Listing for ReplyDirectoryPlus {
    fn dot(&mut self, ino: Ino, cookie: u64, name: &str) -> bool {
        // The kernel counts no reference for the dots and takes nothing but number and type from them.
        let mut attr = missing_attr();
        attr.ino = INodeNo(ino.get());
        attr.kind = FileType::Directory;
        self.add(attr.ino, cookie, name, &std::time::Duration::ZERO, &attr, GENERATION)
    }

    fn entry(&mut self, entry: &DirEntry, ttl: CacheTtl) -> bool {
        let attr = file_attr(&entry.attr);
        let name = OsStr::from_bytes(entry.name.as_bytes());
        self.add(attr.ino, entry.cookie, name, &ttl.attr.min(ttl.entry), &attr, GENERATION)
    }

    fn send(self) {
        self.ok();
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

/// Answers one listing request: entries behind `cookie` until one page or the reply is full. An empty reply is the end.
pub(crate) async fn list<L: Listing>(
    shared: Arc<Shared>,
    directory: Arc<OpenDirectory>,
    cookie: u64,
    mut reply: L,
) -> Option<Errno> {
    match fetch(&shared, &directory, cookie).await {
        Ok((dots, page)) => {
            let _barrier = shared.barrier.read();
            let ttl = |attr: &Attr| {
                let ttl = shared.vfs.ttl(page.since, Some(attr.ino));
                shared.note_named(attr, ttl);
                ttl
            };
            fill(&mut reply, cookie, dots, &page.entries, ttl);
            reply.send();
            None
        }
        Err(errno) => {
            reply.refuse(errno);
            Some(errno)
        }
    }
}

type Dots = Option<(Ino, Ino)>;

async fn fetch(shared: &Shared, directory: &OpenDirectory, cookie: u64) -> Result<(Dots, Listed), Errno> {
    let dots = if cookie < COOKIE_DOTDOT { Some(shared.vfs.readdir_dots(directory.handle).await?) } else { None };
    let behind = if cookie <= COOKIE_DOTDOT { 0 } else { cookie };
    Ok((dots, shared.vfs.readdir(directory.handle, behind).await?))
}

fn fill<L: Listing>(reply: &mut L, cookie: u64, dots: Dots, page: &[DirEntry], ttl: impl Fn(&Attr) -> CacheTtl) {
    if let Some((own, parent)) = dots {
        if cookie < COOKIE_DOT && reply.dot(own, COOKIE_DOT, ".") {
            return;
        }
        if reply.dot(parent, COOKIE_DOTDOT, "..") {
            return;
        }
    }
    for entry in page {
        if reply.entry(entry, ttl(&entry.attr)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dgfs_client::vfs::CacheTtl;
    use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
    use dgfs_proto::ids::Ino;
    use dgfs_proto::meta::DirEntry;
    use dgfs_proto::name::Name;

    use super::{Listing, fill};
    use crate::errno::Errno;

    struct Seen {
        room: usize,
        names: Vec<(u64, String)>,
    }

    impl Listing for Seen {
        fn dot(&mut self, _: Ino, cookie: u64, name: &str) -> bool {
            if self.names.len() == self.room {
                return true;
            }
            self.names.push((cookie, name.to_owned()));
            false
        }
        fn entry(&mut self, entry: &DirEntry, _: CacheTtl) -> bool {
            let name = entry.name.to_string();
            self.dot(Ino::ROOT, entry.cookie, &name)
        }
        fn send(self) {}
        fn refuse(self, _: Errno) {}
    }

    fn entry(cookie: u64, name: &str) -> DirEntry {
        let attr = Attr {
            ino: Ino::ROOT,
            kind: FileKind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: Timestamp::default(),
            data_version: 0,
            flags: AttrFlags::default(),
            parent: Ino::ROOT,
        };
        DirEntry { cookie, name: Name::new(name.as_bytes()).unwrap(), attr }
    }

    fn listed(room: usize, cookie: u64, dots: bool) -> Vec<(u64, String)> {
        let mut seen = Seen { room, names: Vec::new() };
        let ttl = CacheTtl { attr: Duration::ZERO, entry: Duration::ZERO };
        fill(&mut seen, cookie, dots.then_some((Ino::ROOT, Ino::ROOT)), &[entry(256, "a"), entry(512, "b")], |_| ttl);
        seen.names
    }

    fn names(listed: &[(u64, String)]) -> Vec<&str> {
        listed.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn a_listing_begins_with_the_dots_and_goes_on_behind_a_cookie() {
        assert_eq!(names(&listed(9, 0, true)), [".", "..", "a", "b"]);
        assert_eq!(names(&listed(9, 1, true)), ["..", "a", "b"]);
        assert_eq!(names(&listed(9, 2, false)), ["a", "b"]);
    }

    #[test]
    fn a_full_reply_ends_before_the_entry_that_did_not_fit() {
        assert_eq!(names(&listed(1, 0, true)), ["."]);
        assert_eq!(listed(3, 0, true).last().map(|(cookie, _)| *cookie), Some(256));
    }
}
