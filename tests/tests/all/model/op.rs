//! What is done to both sides, and how it is chosen.
//!
//! Never looks at the mount: sizes that steer offsets come from the reference, so a seed gives the same operations as long as
//! both sides agree.

use std::fmt;

use dgfs_tests::rng::Rng;
use rustix::fs::OFlags;

/// Open files at once.
pub(super) const SLOTS: usize = 8;
/// Paths remembered as likely to exist.
const KNOWN_MAX: usize = 64;

/// A path below the root of a side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<u8>);

impl Path {
    pub(super) fn parent(&self) -> Self {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Self(self.0[..at].to_vec()),
            None => Self(b".".to_vec()),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii().to_string().replace(&"n".repeat(255), "N255"))
    }
}

/// Bytes to be written, made from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) len: usize,
    pub(super) seed: u64,
}

impl Data {
    pub(super) fn bytes(self) -> Vec<u8> {
        Rng::new(self.seed).bytes(self.len)
    }
}

/// fallocate's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocate {
    Grow,
    Keep,
    Punch,
    Zero,
    ZeroKeep,
}

/// rename's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renaming {
    Plain,
    NoReplace,
    Exchange,
}

/// mknod's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    File,
    Fifo,
    Socket,
}

/// One system call (or a loop of one) on both sides.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Open { slot: usize, path: Path, flags: OFlags, mode: u16 },
    Close { slot: usize },
    Read { slot: usize, len: usize },
    Write { slot: usize, data: Data },
    PRead { slot: usize, offset: u64, len: usize },
    PWrite { slot: usize, offset: u64, data: Data },
    MapWrite { slot: usize, offset: u64, len: usize, at: usize, data: Data, is_shared: bool, is_synced: bool },
    SetLen { slot: usize, len: u64 },
    Truncate { path: Path, len: u64 },
    Allocate { slot: usize, how: Allocate, offset: u64, len: u64 },
    Copy { from: usize, from_at: u64, to: usize, to_at: u64, len: usize },
    SeekEnd { slot: usize },
    Sync { slot: usize, data_only: bool },
    ChmodSlot { slot: usize, mode: u16 },
    TouchSlot { slot: usize, atime: (i64, i64), mtime: (i64, i64) },
    Mkdir { path: Path, mode: u16 },
    Rmdir { path: Path },
    Unlink { path: Path },
    Rename { from: Path, to: Path, how: Renaming },
    Link { from: Path, to: Path, follow: bool },
    Symlink { target: Path, path: Path },
    Readlink { path: Path },
    Mknod { path: Path, kind: NodeKind, mode: u16 },
    Chmod { path: Path, mode: u16 },
    Chown { path: Path, uid: Option<u32>, gid: Option<u32>, follow: bool },
    Touch { path: Path, atime: (i64, i64), mtime: (i64, i64), follow: bool },
    SetXattr { path: Path, name: &'static str, value: Data, create: bool, replace: bool },
    GetXattr { path: Path, name: &'static str },
    ListXattr { path: Path },
    RemoveXattr { path: Path, name: &'static str },
    Stat { path: Path },
    ReadDir { path: Path },
}

impl Op {
    /// Paths whose attributes the operation may change: they are compared before and after.
    pub(super) fn paths(&self) -> Vec<Path> {
        match self {
            Self::Open { path, .. }
            | Self::Truncate { path, .. }
            | Self::Mkdir { path, .. }
            | Self::Rmdir { path }
            | Self::Unlink { path }
            | Self::Symlink { path, .. }
            | Self::Mknod { path, .. }
            | Self::Chmod { path, .. }
            | Self::Chown { path, .. }
            | Self::Touch { path, .. }
            | Self::SetXattr { path, .. }
            | Self::RemoveXattr { path, .. } => vec![path.parent(), path.clone()],
            Self::Rename { from, to, .. } | Self::Link { from, to, .. } => {
                vec![from.parent(), from.clone(), to.parent(), to.clone()]
            }
            _ => Vec::new(),
        }
    }

    /// Open files the operation may change.
    pub(super) fn slots(&self) -> Vec<usize> {
        match self {
            Self::Write { slot, .. }
            | Self::PWrite { slot, .. }
            | Self::MapWrite { slot, .. }
            | Self::SetLen { slot, .. }
            | Self::Allocate { slot, .. }
            | Self::Sync { slot, .. }
            | Self::ChmodSlot { slot, .. }
            | Self::TouchSlot { slot, .. } => vec![*slot],
            Self::Copy { from, to, .. } => vec![*from, *to],
            _ => Vec::new(),
        }
    }

    /// When mtime moves is the kernel's own business (a map's pages), or differs among file systems that are all right.
    pub(super) fn moves_times_as_it_likes(&self) -> bool {
        matches!(self, Self::MapWrite { .. } | Self::Allocate { .. } | Self::Copy { .. })
    }
}

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a chunk of the volume.
    pub(super) chunk: u64,
    /// No file grows beyond.
    pub(super) size_max: u64,
    /// No write is longer.
    pub(super) write_max: usize,
}

/// What is known of a slot when an operation is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing is open there.
    Free,
    /// A file of this size is.
    Open { size: u64, is_direct: bool },
    /// A file that was opened on the other mount is: it waits for that mount's turn.
    Away,
}

/// Chooses operations.
pub(super) struct Chooser {
    rng: Rng,
    shape: Shape,
    known: Vec<Path>,
    names: Vec<Vec<u8>>,
}

impl Chooser {
    pub(super) fn new(rng: Rng, shape: Shape) -> Self {
        let names = [&b"a"[..], b"b", b"c", b"d", b"e f", b"\xff\xfe\x01", &[b'n'; 255]];
        Self { rng, shape, known: Vec::new(), names: names.iter().map(|name| name.to_vec()).collect() }
    }

    /// A path that was just made.
    pub(super) fn learn(&mut self, op: &Op) {
        let (Op::Open { path, .. }
        | Op::Mkdir { path, .. }
        | Op::Mknod { path, .. }
        | Op::Symlink { path, .. }
        | Op::Rename { to: path, .. }
        | Op::Link { to: path, .. }) = op
        else {
            return;
        };
        if self.known.len() == KNOWN_MAX {
            let at = self.rng.index(KNOWN_MAX);
            self.known.swap_remove(at);
        }
        self.known.push(path.clone());
    }

    /// The next operation.
    pub(super) fn next(&mut self, slots: &[Slot]) -> Op {
        if self.rng.chance(55) {
            let slot = self.rng.index(SLOTS);
            match slots[slot] {
                Slot::Open { size, is_direct } => return self.on_open_file(slot, size, is_direct, slots),
                Slot::Free => return self.open(slot),
                Slot::Away => {}
            }
        }
        self.on_path()
    }

    /// Is it the other mount's turn?
    pub(super) fn takes_turns(&mut self) -> bool {
        self.rng.chance(12)
    }

    fn open(&mut self, slot: usize) -> Op {
        let mut flags = *self.rng.pick(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR, OFlags::RDWR]);
        flags |= OFlags::NONBLOCK | OFlags::CLOEXEC;
        for (flag, percent) in [
            (OFlags::CREATE, 75),
            (OFlags::TRUNC, 15),
            (OFlags::EXCL, 10),
            (OFlags::APPEND, 15),
            (OFlags::NOFOLLOW, 10),
            (OFlags::DIRECTORY, 3),
            (OFlags::DIRECT, 8),
        ] {
            if self.rng.chance(percent) {
                flags |= flag;
            }
        }
        if flags.contains(OFlags::DIRECT) {
            flags -= OFlags::APPEND;
        }
        // The kernel refuses the pair since 6.4.
        if flags.contains(OFlags::CREATE) {
            flags -= OFlags::DIRECTORY;
        }
        let mode = self.mode();
        Op::Open { slot, path: self.path(), flags, mode }
    }

    fn on_open_file(&mut self, slot: usize, size: u64, is_direct: bool, slots: &[Slot]) -> Op {
        let offset = self.offset(size);
        let data = self.data();
        if is_direct {
            let page = |number: u64| number & !4095;
            let data = Data { len: (data.len & !4095).max(4096), ..data };
            return match self.rng.below(5) {
                0 => Op::Close { slot },
                1 | 2 => Op::PWrite { slot, offset: page(offset), data },
                _ => Op::PRead { slot, offset: page(offset), len: data.len },
            };
        }
        match self.rng.below(100) {
            0..7 => Op::Close { slot },
            7..14 => Op::Read { slot, len: data.len },
            14..24 => Op::Write { slot, data },
            24..39 => Op::PRead { slot, offset, len: data.len },
            39..60 => Op::PWrite { slot, offset, data },
            60..66 => self.map_write(slot, size),
            66..73 => Op::SetLen { slot, len: offset },
            73..83 => {
                let ways = [
                    Allocate::Grow,
                    Allocate::Keep,
                    Allocate::Punch,
                    Allocate::Punch,
                    Allocate::Zero,
                    Allocate::ZeroKeep,
                ];
                let how = *self.rng.pick(&ways);
                let len = (data.len as u64).max(1).min(self.shape.size_max - offset.min(self.shape.size_max - 1));
                Op::Allocate { slot, how, offset, len }
            }
            83..89 => {
                let to = self.rng.index(SLOTS);
                // What O_DIRECT must be aligned to differs.
                let size = match slots[to] {
                    Slot::Open { is_direct: true, .. } | Slot::Away => return Op::SeekEnd { slot },
                    Slot::Open { size, .. } => size,
                    Slot::Free => 0,
                };
                let to_at = self.offset(size);
                Op::Copy { from: slot, from_at: offset, to, to_at, len: data.len * 2 }
            }
            89..92 => Op::SeekEnd { slot },
            92..96 => Op::Sync { slot, data_only: self.rng.chance(50) },
            96..98 => Op::ChmodSlot { slot, mode: self.mode() },
            _ => Op::TouchSlot { slot, atime: self.time(), mtime: self.time() },
        }
    }

    /// Inside the file: elsewhere a map gives SIGBUS.
    fn map_write(&mut self, slot: usize, size: u64) -> Op {
        if size == 0 {
            return Op::SeekEnd { slot };
        }
        let offset = (self.rng.below(size) / 4096) * 4096;
        let len = (1 + self.rng.below((size - offset).min(256 << 10))) as usize;
        let at = self.rng.index(len);
        let data = Data { len: 1 + self.rng.index(len - at), seed: self.rng.next() };
        let is_shared = self.rng.chance(75);
        Op::MapWrite { slot, offset, len, at, data, is_shared, is_synced: is_shared && self.rng.chance(50) }
    }

    fn on_path(&mut self) -> Op {
        let path = self.path();
        let mode = self.mode();
        match self.rng.below(100) {
            0..8 => Op::Mkdir { path, mode },
            8..13 => Op::Rmdir { path },
            13..24 => Op::Unlink { path },
            24..40 => {
                let ways = [Renaming::Plain, Renaming::Plain, Renaming::Plain, Renaming::NoReplace, Renaming::Exchange];
                Op::Rename { from: path, to: self.path(), how: *self.rng.pick(&ways) }
            }
            40..47 => Op::Link { from: path, to: self.path(), follow: self.rng.chance(30) },
            47..51 => Op::Symlink { target: self.target(), path },
            51..53 => Op::Readlink { path },
            53..56 => {
                Op::Mknod { path, kind: *self.rng.pick(&[NodeKind::File, NodeKind::Fifo, NodeKind::Socket]), mode }
            }
            56..60 => Op::Chmod { path, mode },
            60..64 => {
                // One at least: whether a chown of nothing moves ctime is left to the system.
                let (uid, gid) = *self.rng.pick(&[(true, true), (true, false), (false, true)]);
                let mut id = || self.rng.below(3) as u32 * 1000;
                let (uid, gid) = (uid.then(&mut id), gid.then(&mut id));
                Op::Chown { path, uid, gid, follow: self.rng.chance(50) }
            }
            64..69 => Op::Touch { path, atime: self.time(), mtime: self.time(), follow: self.rng.chance(50) },
            69..74 => Op::Truncate { path, len: self.offset(0) },
            74..80 => {
                let (create, replace) =
                    *self.rng.pick(&[(false, false), (false, false), (false, false), (true, false), (false, true)]);
                let value = Data { len: self.rng.index(300), seed: self.rng.next() };
                Op::SetXattr { path, name: self.xattr(), value, create, replace }
            }
            80..84 => Op::GetXattr { path, name: self.xattr() },
            84..87 => Op::ListXattr { path },
            87..90 => Op::RemoveXattr { path, name: self.xattr() },
            90..96 => Op::Stat { path },
            _ => Op::ReadDir { path },
        }
    }

    fn path(&mut self) -> Path {
        if !self.known.is_empty() && self.rng.chance(60) {
            return self.rng.pick(&self.known).clone();
        }
        let mut path = Vec::new();
        if !self.known.is_empty() && self.rng.chance(40) {
            path.extend_from_slice(&self.rng.pick(&self.known).0);
        }
        for _ in 0..=self.rng.below(2) {
            if !path.is_empty() {
                path.push(b'/');
            }
            let name = self.rng.index(self.names.len());
            path.extend_from_slice(&self.names[name]);
        }
        // Deep trees are a test of their own.
        if path.len() > 1200 { Path(b"a".to_vec()) } else { Path(path) }
    }

    /// Never upwards: a link must not lead out of the root of a side.
    fn target(&mut self) -> Path {
        let first = self.rng.index(self.names.len());
        let mut target = self.names[first].clone();
        if self.rng.chance(30) {
            target.extend_from_slice(b"/a");
        }
        Path(target)
    }

    #[expect(clippy::explicit_auto_deref, reason = "without it the type of the choice is not known")]
    fn xattr(&mut self) -> &'static str {
        *self.rng.pick(&["user.a", "user.b", "user.xdg.comment", "trusted.t", "bad"])
    }

    fn mode(&mut self) -> u16 {
        let special = if self.rng.chance(15) { self.rng.below(8) << 9 } else { 0 };
        (special | self.rng.below(0o1000)) as u16
    }

    /// Around what matters: the start, the border of inline files, borders of chunks, the end of the file.
    fn offset(&mut self, size: u64) -> u64 {
        let near = |rng: &mut Rng, at: u64| (at + rng.below(20)).saturating_sub(10);
        let chunks = (self.shape.size_max / self.shape.chunk).max(1);
        let offset = match self.rng.below(8) {
            0 => 0,
            1 => self.rng.below(100),
            2 => near(&mut self.rng, 4096),
            3 | 4 => {
                let chunk = self.rng.below(chunks + 1) * self.shape.chunk;
                near(&mut self.rng, chunk)
            }
            5 => near(&mut self.rng, size),
            6 => self.rng.below(size.max(1)),
            _ => self.rng.below(self.shape.size_max),
        };
        offset.min(self.shape.size_max)
    }

    fn data(&mut self) -> Data {
        let len = match self.rng.below(10) {
            0 => self.rng.below(2),
            1..4 => 1 + self.rng.below(200),
            4..6 => 4086 + self.rng.below(20),
            6..8 => self.rng.below(20_000),
            8 => self.rng.below(self.shape.chunk + 10),
            _ => self.rng.below(self.shape.write_max as u64),
        };
        Data { len: (len as usize).min(self.shape.write_max), seed: self.rng.next() }
    }

    fn time(&mut self) -> (i64, i64) {
        (self.rng.below(2_000_000_000) as i64, self.rng.below(1_000_000_000) as i64)
    }
}
