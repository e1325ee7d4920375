//! A mount whose tags are asked for by path, as the kernel does.

use std::sync::Arc;
use std::time::Duration;

use dgfs_proto::attr::{Attr, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{ClientInfo, NewNode, RemoveKind, RenameMode};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{LocalChannel, Role};

use crate::config::{VfsConfig, VfsDeps};
use crate::stores::OneStore;
use crate::tags::{TagEntry, TagView, Who};
use crate::testing::fake_meta::CHUNK;
use crate::testing::fake_store::FakeStore;
use crate::testing::tagged::Tagged;
use crate::vfs::{OpenFlags, Vfs};

mod asking;
mod changing;
mod looking;

pub(super) const ROOT: Who = Who { uid: 0, gid: 0, pid: 0 };
pub(super) const USER: Who = Who { uid: 1000, gid: 1000, pid: 0 };

pub(super) struct World {
    pub(super) truth: Arc<Tagged>,
    pub(super) vfs: Arc<Vfs>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut VfsConfig)) -> Self {
        let truth = Tagged::new();
        let store = FakeStore::new(CHUNK);
        let client = ClientInfo { mount_point: "/mnt/graph".to_owned(), ..ClientInfo::default() };
        let mut config = VfsConfig::cluster(client);
        config.ttl_sole = Duration::from_secs(1);
        change(&mut config);
        let deps = VfsDeps {
            meta: vec![Arc::new(LocalChannel::new(Arc::clone(&truth) as _, Role::Client))],
            stores: Arc::new(OneStore(Arc::new(LocalChannel::new(store as _, Role::Client)))),
            graph: vec![Arc::new(LocalChannel::new(Arc::clone(&truth) as _, Role::Client))],
        };
        Self { truth, vfs: Vfs::connect(config, deps).await.unwrap() }
    }

    pub(super) fn tags(&self) -> &TagView {
        self.vfs.tags().unwrap()
    }

    /// The inode at a path; real directories first, `.tags` somewhere on the way or not.
    pub(super) async fn at(&self, path: &str, who: Who) -> Result<Attr, Status> {
        let mut at = Ino::ROOT;
        let mut attr = None;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let name = name(component);
            let found = if super::is_virtual(at) || self.tags().is_called(name.as_bytes()) {
                self.tags().lookup(at, &name, who).await?
            } else {
                self.vfs.lookup(at, name).await?.attr.ok_or(Status::NotFound)?
            };
            at = found.ino;
            attr = Some(found);
        }
        match attr {
            Some(attr) => Ok(attr),
            None => Ok(self.vfs.getattr(Ino::ROOT).await?.attr),
        }
    }

    async fn parent(&self, path: &str, who: Who) -> Result<(Ino, Name), Status> {
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.at(above, who).await?.ino, name(last)))
    }

    pub(super) async fn mkdir(&self, path: &str) -> Result<Attr, Status> {
        let (parent, name) = self.parent(path, ROOT).await?;
        self.tags().make(parent, &name, &NewNode::Directory, ROOT).await
    }

    pub(super) async fn symlink(&self, target: &str, path: &str) -> Result<Attr, Status> {
        let (parent, name) = self.parent(path, ROOT).await?;
        self.tags().make(parent, &name, &NewNode::Symlink(target.as_bytes().to_vec()), ROOT).await
    }

    pub(super) async fn link(&self, file: &str, directory: &str, who: Who) -> Result<Attr, Status> {
        let (file, directory) = (self.at(file, ROOT).await?.ino, self.at(directory, ROOT).await?.ino);
        self.tags().link(file, directory, who).await
    }

    pub(super) async fn rm(&self, path: &str, who: Who) -> Result<(), Status> {
        let (parent, name) = self.parent(path, who).await?;
        self.tags().remove(parent, &name, RemoveKind::Unlink, who).await
    }

    pub(super) async fn rmdir(&self, path: &str) -> Result<(), Status> {
        let (parent, name) = self.parent(path, ROOT).await?;
        self.tags().remove(parent, &name, RemoveKind::Rmdir, ROOT).await
    }

    pub(super) async fn mv(&self, from: &str, to: &str) -> Result<(), Status> {
        let (from, to) = (self.parent(from, ROOT).await?, self.parent(to, ROOT).await?);
        self.tags().rename((from.0, &from.1), (to.0, &to.1), RenameMode::Replace, ROOT).await
    }

    pub(super) async fn readlink(&self, path: &str) -> Result<String, Status> {
        let ino = self.at(path, ROOT).await?.ino;
        Ok(String::from_utf8(self.tags().readlink(ino, ROOT).await?).unwrap())
    }

    /// Everything that is listed, page by page.
    pub(super) async fn entries(&self, path: &str, who: Who) -> Result<Vec<TagEntry>, Status> {
        let handle = self.tags().opendir(self.at(path, who).await?.ino, who)?;
        let (mut entries, mut cookie) = (Vec::<TagEntry>::new(), 0);
        loop {
            let page = self.tags().readdir(handle, cookie).await?;
            // The kernel takes some of it and comes again.
            let taken = page.len().min(3);
            let Some(last) = page[..taken].last() else { break };
            cookie = last.cookie;
            entries.extend_from_slice(&page[..taken]);
        }
        self.tags().releasedir(handle);
        Ok(entries)
    }

    /// Names that are listed, sorted; directories with a slash, links with `@`.
    pub(super) async fn ls(&self, path: &str, who: Who) -> Result<Vec<String>, Status> {
        let mark = |kind| match kind {
            FileKind::Directory => "/",
            FileKind::Symlink => "@",
            _ => "",
        };
        let shown = |entry: &TagEntry| format!("{}{}", String::from_utf8_lossy(&entry.name), mark(entry.kind));
        let mut names: Vec<String> = self.entries(path, who).await?.iter().map(shown).collect();
        names.sort();
        Ok(names)
    }

    pub(super) async fn cat(&self, path: &str) -> Result<String, Status> {
        let ino = self.at(path, ROOT).await?.ino;
        let flags = OpenFlags { read: true, ..OpenFlags::default() };
        let (handle, _) = self.tags().open(ino, flags, ROOT).await?;
        let bytes = self.tags().read(handle, 0, 1 << 20, ROOT).await?;
        self.tags().release(handle);
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}
