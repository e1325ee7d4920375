//! A writing process is killed, or its disk loses power, at a random moment; its ledger of
//! acknowledged puts comes through a pipe.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dgfs_proto::chunk::VersionId;

use super::{Random, TestDir, id, open, options, put, read};
use crate::store::{Store, StoreOptions};

const THREADS: u64 = 4;
const CHUNKS: u64 = 4;
const CHUNK: usize = 300_000;
const DIRECTORY: &str = "DGFS_STORED_TEST_DIRECTORY";
const ROUND: &str = "DGFS_STORED_TEST_ROUND";
const SYNCED: &str = "DGFS_STORED_TEST_SYNCED";

/// What thread `thread` puts as its `step`th version, and over which.
fn put_of_step(round: u64, thread: u64, step: u64) -> (VersionId, Option<u64>, usize, Vec<u8>) {
    let version = |step: u64| round * 10_000_000 + step * THREADS + thread + 1;
    let chunk = round * 1000 + thread * CHUNKS + step % CHUNKS + 1;
    let mut random = Random((chunk << 32 | version(step)) ^ 0x5eed);
    let Some(base) = step.checked_sub(CHUNKS) else {
        return (id(chunk, version(step)), None, 0, random.bytes(CHUNK));
    };
    let len = 1 + random.below(if step.is_multiple_of(3) { 40_000 } else { 4096 }) as usize;
    let offset = random.below((CHUNK - len) as u64) as usize;
    (id(chunk, version(step)), Some(version(base)), offset, random.bytes(len))
}

/// The process that is killed: runs only when started by a test below.
#[test]
#[ignore = "started by the tests of this file"]
fn child_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let synced = std::env::var(SYNCED).is_ok();
    let store = Store::open(StoreOptions { maintain: true, ..options(Path::new(&directory)) }).unwrap();
    for thread in 0..THREADS {
        let store = Arc::clone(&store);
        std::thread::spawn(move || write_for_ever(&store, round, thread, synced));
    }
    loop {
        store.checkpoint().unwrap();
        store.compact().unwrap();
    }
}

fn write_for_ever(store: &Store, round: u64, thread: u64, synced: bool) {
    for step in 0.. {
        let (id, base, offset, bytes) = put_of_step(round, thread, step);
        put(store, id, base.map(|base| (base, CHUNK as u32)), offset as u32, &bytes);
        if synced {
            store.sync_blocking().unwrap();
        }
        say(&format!("ACK {thread} {step}"));
        if let Some(old) = step.checked_sub(CHUNKS * 2) {
            say(&format!("DROP {thread} {old}"));
            store.drop_versions(&[put_of_step(round, thread, old).0]).unwrap();
        }
    }
}

/// Of a child process.
pub(super) fn child_directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Starts a child process and kills it when it has said so much.
pub(super) fn killed_child(test: &str, directory: &Path, lines: u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    let mut child = command.env(DIRECTORY, directory).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        said += u64::from(line.ends_with(';'));
        if said == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said >= lines, "{test} ended early");
}

pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line};\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Steps acknowledged and steps dropped, by thread.
#[derive(Default)]
struct Ledger {
    acked: BTreeMap<u64, u64>,
    dropped: BTreeSet<(u64, u64)>,
}

impl Ledger {
    /// Lets a child write until `acks` puts were acknowledged, and kills it.
    fn of_killed_child(directory: &Path, round: u64, synced: bool, acks: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::crash::child_process", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).env(ROUND, round.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if synced {
            command.env(SYNCED, "1");
        }
        let mut child = command.spawn().unwrap();
        let mut ledger = Self::default();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap_or_default();
            let Some(line) = line.strip_suffix(';') else { continue };
            let words: Vec<&str> = line.split(' ').collect();
            let (thread, step) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            if words[0] == "ACK" {
                ledger.acked.insert(thread, step);
                seen += 1;
                if seen == acks {
                    child.kill().unwrap();
                }
            } else {
                ledger.dropped.insert((thread, step));
            }
        }
        let end = child.wait_with_output().unwrap();
        assert!(seen >= acks, "the child ended early: {}", String::from_utf8_lossy(&end.stderr));
        ledger
    }

    /// Every acknowledged version reads back; nothing that reads back is wrong.
    fn check(&self, store: &Store, round: u64) -> usize {
        let mut checked = 0;
        for thread in 0..THREADS {
            let mut contents: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let last = self.acked.get(&thread).copied().unwrap_or(0);
            for step in 0..=last + 1 {
                let (id, _, offset, bytes) = put_of_step(round, thread, step);
                let content = contents.entry(id.chunk.get()).or_insert_with(|| vec![0; CHUNK]);
                content[offset..offset + bytes.len()].copy_from_slice(&bytes);
                let acked = step <= last && self.acked.contains_key(&thread);
                if acked && !self.dropped.contains(&(thread, step)) {
                    assert_eq!(read(store, id, CHUNK), *content, "round {round} {id:?}");
                    checked += 1;
                } else if let Ok(got) = store.get(id, 0, CHUNK as u32) {
                    assert_eq!(got, *content, "round {round} {id:?}, not acknowledged or dropped");
                }
            }
        }
        checked
    }
}

#[test]
fn kill_in_mid_write_loses_no_acknowledged_put() {
    let directory = TestDir::new();
    let mut random = Random::seeded();
    let mut ledgers = Vec::new();
    for round in 1..=4 {
        ledgers.push(Ledger::of_killed_child(directory.path(), round, round % 2 == 0, 200 + random.below(500)));
        let store = open(directory.path());
        for (round, ledger) in (1..).zip(&ledgers) {
            assert!(ledger.check(&store, round) > 0);
        }
        assert_eq!(store.status().checksum_errors, 0);
    }
}

#[test]
fn kill_and_a_lost_index_lose_no_acknowledged_put() {
    let directory = TestDir::new();
    let ledger = Ledger::of_killed_child(directory.path(), 1, false, 600);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = open(directory.path());
    assert!(ledger.check(&store, 1) > 0);
}

/// An ext4 file system over a loop device.
pub(super) struct LoopDisk {
    image: PathBuf,
    pub(super) mount: PathBuf,
    _directory: TestDir,
}

impl LoopDisk {
    /// None where this process may not mount.
    pub(super) fn new(megabytes: u64) -> Option<Self> {
        let directory = TestDir::new();
        let (image, mount) = (directory.path().join("image"), directory.path().join("mount"));
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status().ok()?;
        let disk = Self { image, mount, _directory: directory };
        (made.success() && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount).status();
        mounted.is_ok_and(|status| status.success())
    }

    fn unmount(&self) -> bool {
        Command::new("umount").arg(&self.mount).status().is_ok_and(|status| status.success())
    }

    /// What is neither written nor journalled is gone.
    pub(super) fn lose_power(&self) {
        use std::os::fd::AsRawFd;
        const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let root = std::fs::File::open(&self.mount).unwrap();
        // SAFETY: the descriptor is open, and the argument points to a u32 that outlives the call.
        let status = unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
        drop(root);
        assert!(self.unmount());
        assert!(self.mount());
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

#[test]
fn power_cut_loses_no_synced_put() {
    let Some(disk) = LoopDisk::new(1024) else {
        println!("not run: no permission to mount a loop device");
        return;
    };
    let mut random = Random::seeded();
    let directory = disk.mount.join("store");
    let mut ledgers = Vec::new();
    for round in 1..=5 {
        ledgers.push(Ledger::of_killed_child(&directory, round, true, 150 + random.below(600)));
        disk.lose_power();
        let store = open(&directory);
        println!("round {round}, lost: {:?}", store.status().lost);
        for (round, ledger) in (1..).zip(&ledgers) {
            assert!(ledger.check(&store, round) > 0);
        }
    }
}

#[test]
fn power_cut_of_handed_puts_leaves_no_wrong_byte() {
    let Some(disk) = LoopDisk::new(1024) else {
        println!("not run: no permission to mount a loop device");
        return;
    };
    let directory = disk.mount.join("store");
    for round in 1..=3 {
        let ledger = Ledger::of_killed_child(&directory, round, false, 400);
        disk.lose_power();
        let store = open(&directory);
        // Nothing was acknowledged as synced, so nothing must be there; what is must be right.
        Ledger { acked: BTreeMap::new(), ..ledger }.check(&store, round);
        for held in store.list(None, 4096).unwrap() {
            store.verify(held.held.id).unwrap();
        }
    }
}
