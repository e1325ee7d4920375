//! Lists directories into kernel replies.
//!
//! Never keeps entries between requests: what `readdirplus` tells the kernel must be true now, or it would
//! bring a removed name back. Cookies 1 and 2 are the dots, 3 is `.tags` where it is shown; the entries' own are above 255.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fuser::{FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use dgfs_client::tags::{TagEntry, TagView};
use dgfs_client::vfs::{CacheTtl, Listed, Vfs};
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
const COOKIE_TAGS: u64 = 3;

/// A directory reply that takes entries until it is full.
pub(crate) trait Listing: Send + 'static {
    /// `.` or `..`; true when it did not fit.
    fn dot(&mut self, ino: Ino, cookie: u64, name: &str) -> bool;
    /// An entry; true when it did not fit.
    fn entry(&mut self, entry: &DirEntry, ttl: CacheTtl) -> bool;
    /// An entry of a virtual directory; true when it did not fit.
    fn virtual_entry(&mut self, tags: &TagView, entry: &TagEntry) -> bool;
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

    fn virtual_entry(&mut self, _: &TagView, entry: &TagEntry) -> bool {
        self.add(INodeNo(entry.ino.get()), entry.cookie, file_type(entry.kind), OsStr::from_bytes(&entry.name))
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

    fn virtual_entry(&mut self, tags: &TagView, entry: &TagEntry) -> bool {
        // The kernel counts a look-up of what is told so. Of the attributes it may believe nothing; whoever wants them asks.
        let Ok(ino) = tags.told(entry) else { return true };
        let mut attr = missing_attr();
        (attr.ino, attr.kind, attr.nlink) = (INodeNo(ino.get()), file_type(entry.kind), 1);
        let name = OsStr::from_bytes(&entry.name);
        let full = self.add(attr.ino, entry.cookie, name, &std::time::Duration::ZERO, &attr, GENERATION);
        if full {
            tags.forget(ino, 1);
        }
        full
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
            let tags = shared.vfs.tags().filter(|_| cookie < COOKIE_TAGS);
            let shown = tags.and_then(|tags| Some((tags, tags.visible_in(directory.ino, COOKIE_TAGS)?)));
            let shown = shown.as_ref().map(|(tags, entry)| (*tags, entry));
            fill(&mut reply, cookie, (dots, shown), &page.entries, ttl);
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
    let behind = if cookie <= COOKIE_TAGS { 0 } else { cookie };
    Ok((dots, shared.vfs.readdir(directory.handle, behind).await?))
}

/// Answers one listing request of a virtual directory.
pub(crate) fn send_tags<L: Listing>(mut reply: L, vfs: &Vfs, directory: Ino, cookie: u64, page: &[TagEntry]) {
    // Where `..` leads the kernel knows by itself.
    let full = fill_dots(&mut reply, cookie, (cookie < COOKIE_DOTDOT).then_some((directory, directory)));
    if let (false, Some(tags)) = (full, vfs.tags()) {
        let _full = page.iter().any(|entry| reply.virtual_entry(tags, entry));
    }
    reply.send();
}

/// True when they did not fit.
fn fill_dots<L: Listing>(reply: &mut L, cookie: u64, dots: Dots) -> bool {
    let Some((own, parent)) = dots else { return false };
    (cookie < COOKIE_DOT && reply.dot(own, COOKIE_DOT, ".")) || reply.dot(parent, COOKIE_DOTDOT, "..")
}

type Shown<'a> = Option<(&'a TagView, &'a TagEntry)>;

fn fill<L: Listing>(
    reply: &mut L,
    cookie: u64,
    (dots, shown): (Dots, Shown<'_>),
    page: &[DirEntry],
    ttl: impl Fn(&Attr) -> CacheTtl,
) {
    if fill_dots(reply, cookie, dots) {
        return;
    }
    if let Some((tags, entry)) = shown
        && reply.virtual_entry(tags, entry)
    {
        return;
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

    use dgfs_client::tags::{TagEntry, TagView};
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
        fn virtual_entry(&mut self, _: &TagView, entry: &TagEntry) -> bool {
            self.dot(entry.ino, entry.cookie, &String::from_utf8_lossy(&entry.name))
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
        fill(
            &mut seen,
            cookie,
            (dots.then_some((Ino::ROOT, Ino::ROOT)), None),
            &[entry(256, "a"), entry(512, "b")],
            |_| ttl,
        );
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
