//! Random data operations against a plain array.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use dgfs_proto::ids::Ino;
use dgfs_proto::meta::SetAttr;
use dgfs_proto::status::Status;

use crate::config::VfsConfig;
use crate::testing::fake_meta::CHUNK;
use crate::testing::mounts::{Cluster, READ_WRITE, create, read_all};
use crate::testing::rng::{Rng, seed};
use crate::vfs::{Fallocate, Handle, OpenFlags, Seek, Vfs};

const SIZE_MAX: u32 = 6 * CHUNK;

struct World {
    vfs: Arc<Vfs>,
    rng: Rng,
    ino: Ino,
    handles: [Handle; 2],
    other: Handle,
    model: Vec<u8>,
}

impl World {
    async fn new(cluster: &Cluster, seed: u64, change: impl FnOnce(&mut VfsConfig)) -> Self {
        let vfs = cluster.mount(change).await;
        let (ino, first) = create(&vfs, "file").await;
        let (_, other) = create(&vfs, "other").await;
        let second = vfs.open(ino, READ_WRITE).await.unwrap().handle;
        Self { vfs, rng: Rng::new(seed), ino, handles: [first, second], other, model: Vec::new() }
    }

    fn handle(&mut self) -> Handle {
        self.handles[self.rng.below(2) as usize]
    }

    /// Mostly small files, so that they turn from inline to chunks and back to nothing often.
    fn range(&mut self, len_max: u32) -> (u32, u32) {
        let area = if self.rng.below(3) == 0 { 5000 } else { SIZE_MAX - len_max };
        (self.rng.below(area), 1 + self.rng.below(len_max))
    }

    async fn step(&mut self) {
        match self.rng.below(24) {
            0..=6 => self.write().await,
            7..=12 => self.read().await,
            13 => self.truncate().await,
            14 => self.append().await,
            15 => self.vfs.fsync(self.handles[0], false).await.unwrap(),
            16 => self.reopen().await,
            17 => self.zero(Fallocate::PunchHole).await,
            18 => self.zero(Fallocate::ZeroRange).await,
            19 => self.allocate().await,
            20 => self.check_attr().await,
            21 => self.seek().await,
            22 => self.copy_inside().await,
            _ => self.copy_away().await,
        }
    }

    fn put(&mut self, offset: u32, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[offset as usize..end].copy_from_slice(bytes);
    }

    async fn write(&mut self) {
        let len_max = [50, 3000, 2 * CHUNK][self.rng.below(3) as usize];
        let (offset, len) = self.range(len_max);
        let bytes = self.rng.bytes(len);
        let handle = self.handle();
        let written = match self.vfs.write_now(handle, u64::from(offset), &bytes) {
            Some(written) => written,
            None => self.vfs.write(handle, u64::from(offset), Bytes::from(bytes.clone())).await,
        };
        assert_eq!(written, Ok(len));
        self.put(offset, &bytes);
    }

    async fn append(&mut self) {
        let len = 1 + self.rng.below(2000);
        if self.model.len() as u32 + len > SIZE_MAX {
            return;
        }
        let bytes = self.rng.bytes(len);
        let flags = OpenFlags { append: true, ..READ_WRITE };
        let handle = self.vfs.open(self.ino, flags).await.unwrap().handle;
        assert_eq!(self.vfs.write(handle, 0, Bytes::from(bytes.clone())).await, Ok(len));
        self.vfs.flush(handle, 1).await.unwrap();
        self.vfs.release(handle, None).await;
        self.put(self.model.len() as u32, &bytes);
    }

    async fn read(&mut self) {
        let (offset, len) = self.range(2 * CHUNK);
        let handle = self.handle();
        let bytes = self.vfs.read(handle, u64::from(offset), len).await.unwrap();
        let from = (offset as usize).min(self.model.len());
        let to = ((offset + len) as usize).min(self.model.len());
        assert!(bytes == self.model[from..to], "read {offset}+{len} of {}", self.model.len());
    }

    async fn truncate(&mut self) {
        let size = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(5000),
            _ => self.rng.below(SIZE_MAX),
        };
        let set = SetAttr { size: Some(u64::from(size)), ..SetAttr::default() };
        let attr = self.vfs.setattr(self.ino, set).await.unwrap().attr;
        assert_eq!(attr.size, u64::from(size));
        self.model.resize(size as usize, 0);
    }

    async fn reopen(&mut self) {
        let at = self.rng.below(2) as usize;
        self.vfs.flush(self.handles[at], 1).await.unwrap();
        self.vfs.release(self.handles[at], None).await;
        if self.rng.below(3) == 0 {
            // Both: nothing of the file's state is left in the mount.
            self.vfs.flush(self.handles[1 - at], 1).await.unwrap();
            self.vfs.release(self.handles[1 - at], None).await;
            let truncate = self.rng.below(4) == 0;
            let flags = OpenFlags { truncate, ..READ_WRITE };
            self.handles[1 - at] = self.vfs.open(self.ino, flags).await.unwrap().handle;
            if truncate {
                self.model.clear();
            }
        }
        self.handles[at] = self.vfs.open(self.ino, READ_WRITE).await.unwrap().handle;
    }

    async fn zero(&mut self, what: Fallocate) {
        let (offset, len) = self.range(3 * CHUNK);
        let handle = self.handle();
        self.vfs.fallocate(handle, u64::from(offset), u64::from(len), what).await.unwrap();
        let end = (offset + len) as usize;
        if what == Fallocate::ZeroRange && self.model.len() < end {
            self.model.resize(end, 0);
        }
        let to = end.min(self.model.len());
        if (offset as usize) < to {
            self.model[offset as usize..to].fill(0);
        }
    }

    async fn allocate(&mut self) {
        let (offset, len) = self.range(CHUNK);
        let handle = self.handle();
        self.vfs.fallocate(handle, u64::from(offset), u64::from(len), Fallocate::Allocate).await.unwrap();
        let size = self.model.len().max((offset + len) as usize);
        self.model.resize(size, 0);
    }

    async fn check_attr(&mut self) {
        let attr = self.vfs.getattr(self.ino).await.unwrap().attr;
        assert_eq!(attr.size, self.model.len() as u64);
    }

    /// Every byte that is not zero lies in data: nothing is skipped.
    async fn seek(&mut self) {
        let offset = self.rng.below(SIZE_MAX) as usize;
        let handle = self.handle();
        let first = self.model.iter().skip(offset).position(|byte| *byte != 0).map(|at| at + offset);
        match self.vfs.seek(handle, offset as u64, Seek::Data).await {
            Ok(found) => assert!(
                found >= offset as u64
                    && found < self.model.len() as u64
                    && first.is_none_or(|first| found <= first as u64)
            ),
            Err(status) => assert_eq!((status, first), (Status::NotFound, None)),
        }
        let hole = self.vfs.seek(handle, offset as u64, Seek::Hole).await;
        if offset >= self.model.len() {
            assert_eq!(hole, Err(Status::NotFound));
        } else {
            let hole = usize::try_from(hole.unwrap()).unwrap();
            assert!(hole >= offset && hole <= self.model.len());
            assert!(self.model[hole..].first().is_none_or(|byte| *byte == 0), "a hole has bytes");
        }
    }

    async fn copy_inside(&mut self) {
        let chunk = u64::from(CHUNK);
        let aligned = self.rng.below(2) == 0;
        let mut place = |world_max: u32| {
            let at = u64::from(self.rng.below(world_max));
            if aligned { at / chunk * chunk } else { at }
        };
        let (from, to) = (place(3 * CHUNK), place(3 * CHUNK));
        let len = u64::from(self.rng.below(3 * CHUNK));
        let (source, target) = (self.handles[0], self.handles[1]);
        let clipped = len.min((self.model.len() as u64).saturating_sub(from));
        let copied = self.vfs.copy_range((source, from), (target, to), len).await;
        if from < to + clipped && to < from + clipped {
            assert_eq!(copied, Err(Status::Invalid));
            return;
        }
        assert_eq!(copied, Ok(clipped));
        let bytes = self.model[(from as usize).min(self.model.len())..][..clipped as usize].to_vec();
        if !bytes.is_empty() {
            self.put(to as u32, &bytes);
        }
    }

    async fn copy_away(&mut self) {
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        let ino = self.vfs.lookup(Ino::ROOT, crate::testing::mounts::name("other")).await.unwrap().attr.unwrap().ino;
        let _ = self.vfs.setattr(ino, set).await.unwrap();
        let mut copied = 0;
        while copied < self.model.len() as u64 {
            let more = self.vfs.copy_range((self.handles[0], copied), (self.other, copied), 1 << 40).await.unwrap();
            assert!(more > 0);
            copied += more;
        }
        assert!(read_all(&self.vfs, self.other).await == self.model);
    }
}

async fn run(cluster: &Cluster, seed: u64, steps: u32, change: impl FnOnce(&mut VfsConfig)) {
    let mut world = World::new(cluster, seed, change).await;
    for _ in 0..steps {
        world.step().await;
    }
    world.vfs.fsync(world.handles[0], false).await.unwrap();
    assert!(read_all(&world.vfs, world.handles[1]).await == world.model);
    let fresh = cluster.mount(|_| {}).await;
    let handle = fresh.open(world.ino, READ_WRITE).await.unwrap().handle;
    assert!(read_all(&fresh, handle).await == world.model);
    world.vfs.close().await.unwrap();
    fresh.close().await.unwrap();
}

fn steps() -> u32 {
    std::env::var("DGFS_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_reads_like_an_array_on_a_cluster() {
    let seed = seed();
    println!("seed {seed}");
    for round in 0..10 {
        let cluster = Cluster::new(seed + round);
        run(&cluster, seed + round, steps(), |config| config.flush_age = Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_reads_like_an_array_in_process() {
    let seed = seed();
    println!("seed {seed}");
    for round in 0..10 {
        let cluster = Cluster::new(seed + round);
        run(&cluster, seed + round, steps(), |config| {
            *config = VfsConfig { flush_age: Duration::from_millis(20), ..VfsConfig::embedded(config.client.clone()) };
            config.ttl_sole = Duration::ZERO;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_reads_like_an_array_while_calls_and_answers_are_lost() {
    let seed = seed();
    println!("seed {seed}");
    for round in 0..4 {
        let cluster = Cluster::new(seed + round);
        cluster.lose_one_in(12);
        run(&cluster, seed + round, steps() / 4, |config| config.flush_age = Duration::from_millis(20)).await;
    }
}
