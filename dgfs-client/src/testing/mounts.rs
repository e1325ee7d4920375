//! A fake cluster and mounts of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Caller, ClientInfo};
use dgfs_proto::name::Name;
use dgfs_runtime::channel::{ChunkProtocol, LocalChannel, MetaProtocol, Role};

use crate::config::{VfsConfig, VfsDeps};
use crate::stores::OneStore;
use crate::testing::fake_meta::{CHUNK, FakeMeta};
use crate::testing::fake_store::FakeStore;
use crate::testing::fault::Fault;
use crate::vfs::{Access, Create, Handle, OpenFlags, Vfs};

pub(crate) struct Cluster {
    pub(crate) meta: Arc<FakeMeta>,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) meta_faults: Arc<Fault<MetaProtocol>>,
    pub(crate) store_faults: Arc<Fault<ChunkProtocol>>,
}

pub(crate) const READ_WRITE: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, direct: false, sync: false };

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let store = FakeStore::new(CHUNK);
        let meta = FakeMeta::new(Arc::clone(&store));
        let meta_channel = Arc::new(LocalChannel::new(Arc::clone(&meta) as _, Role::Client));
        let store_channel = Arc::new(LocalChannel::new(Arc::clone(&store) as _, Role::Client));
        Self {
            meta,
            store,
            meta_faults: Fault::new(meta_channel, seed),
            store_faults: Fault::new(store_channel, seed + 1),
        }
    }

    pub(crate) fn lose_one_in(&self, calls: u32) {
        self.meta_faults.one_in.store(calls, Ordering::Release);
        self.store_faults.one_in.store(calls, Ordering::Release);
    }

    pub(crate) async fn mount(&self, change: impl FnOnce(&mut VfsConfig)) -> Arc<Vfs> {
        let mut config = VfsConfig::cluster(ClientInfo::default());
        config.ttl_sole = Duration::from_millis(1);
        change(&mut config);
        let deps = VfsDeps {
            meta: vec![Arc::clone(&self.meta_faults) as _],
            stores: Arc::new(OneStore(Arc::clone(&self.store_faults) as _)),
            graph: Vec::new(),
        };
        // A session whose opening was lost would have to run out first; this fake has no leases.
        let losing = self.meta_faults.one_in.swap(0, Ordering::AcqRel);
        let vfs = Vfs::connect(config, deps).await.unwrap();
        self.meta_faults.one_in.store(losing, Ordering::Release);
        vfs
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Creates a file for reading and writing.
pub(crate) async fn create(vfs: &Vfs, text: &str) -> (Ino, Handle) {
    create_named(vfs, name(text)).await
}

pub(crate) async fn create_named(vfs: &Vfs, name: Name) -> (Ino, Handle) {
    let access = Access { mode: 0o644, umask: 0, caller: Caller::default() };
    let request = Create { parent: Ino::ROOT, name, access, flags: READ_WRITE, exclusive: true };
    let (attr, opened) = vfs.create(request).await.unwrap();
    (attr.attr.ino, opened.handle)
}

/// Reads a whole file.
pub(crate) async fn read_all(vfs: &Vfs, handle: Handle) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = vfs.read(handle, bytes.len() as u64, 1 << 20).await.unwrap();
        if part.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&part);
    }
}
