//! Bytes while several mounts have a file open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use dgfs_tests::process::wait_until;
use dgfs_tests::sys::{MapWrite, RangeLock, lock_range_of_description, write_by_map};

use super::{EndOnDrop, Trio, at_once, rounds};

/// Bytes of a page, and how many of them are written at once.
const PAGE: usize = 4096;
const WRITTEN: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(10);

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Replaced again and again by rename, a file is always there, and always whole.
#[test]
fn a_reader_never_misses_a_file_that_is_replaced_and_never_reads_mixed_bytes() {
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        let content = |round: u64| vec![round as u8; 3000 + (round as usize * 977) % 9000];
        fs::write(a.join("f"), content(0)).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut looks, mut last) = (0_u64, 0);
                while !done.load(Ordering::Acquire) {
                    let bytes = fs::read(b.join("f")).expect("never missing");
                    let first = bytes[0];
                    assert!(bytes.iter().all(|byte| *byte == first), "mixed bytes");
                    let round = (last..last + 200).find(|round| *round as u8 == first).expect("a known round");
                    assert_eq!(bytes.len(), content(round).len(), "of round {round}");
                    assert!(round >= last, "round {round} after {last}");
                    last = round;
                    looks += 1;
                }
                looks
            });
            for round in 1..rounds(200) {
                fs::write(a.join("new"), content(round)).unwrap();
                fs::rename(a.join("new"), a.join("f")).unwrap();
                if round % 10 == 0 {
                    assert!(fs::read(b.join("f")).unwrap() == content(round), "round {round} is not there");
                }
            }
            done.store(true, Ordering::Release);
            assert!(reader.join().unwrap() > 10, "the reader hardly came to read");
        });
    });
}

#[test]
fn appends_of_four_writers_on_two_mounts_lose_no_record() {
    const RECORDS: usize = 200;
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        File::create(a.join("log")).unwrap();
        let append = |directory: &Path, who: usize| {
            let mut log = OpenOptions::new().append(true).open(directory.join("log")).unwrap();
            for at in 0..RECORDS {
                log.write_all(format!("{who}:{at:07}\n").as_bytes()).unwrap();
            }
        };
        thread::scope(|scope| {
            let writers: Vec<_> =
                (0..4).map(|who| scope.spawn(move || append(if who % 2 == 0 { a } else { b }, who))).collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        let text = fs::read_to_string(b.join("log")).unwrap();
        for who in 0..4 {
            let of: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{who}:"))).collect();
            let expected: Vec<String> = (0..RECORDS).map(|at| format!("{who}:{at:07}")).collect();
            assert_eq!(of, expected);
        }
        assert_eq!(text.lines().count(), 4 * RECORDS, "records torn");
    });
}

#[test]
fn counters_under_flock_and_fcntl_locks_are_exact() {
    let trio = Trio::new();
    let turns = rounds(60);
    trio.stirred("d", |a, b| {
        for kind in ["flock", "fcntl"] {
            fs::write(a.join(kind), 0_u64.to_le_bytes()).unwrap();
            let count = |directory: &Path| {
                let mut file = open(&directory.join(kind));
                let lock = |file: &File, on: bool| match (kind, on) {
                    ("flock", true) => flock(file, FlockOperation::LockExclusive).unwrap(),
                    ("flock", false) => flock(file, FlockOperation::Unlock).unwrap(),
                    (_, true) => lock_range_of_description(file, RangeLock::Exclusive, (0, 8), true).unwrap(),
                    (_, false) => lock_range_of_description(file, RangeLock::Unlock, (0, 8), false).unwrap(),
                };
                for _ in 0..turns {
                    lock(&file, true);
                    let mut bytes = [0; 8];
                    file.seek(SeekFrom::Start(0)).unwrap();
                    file.read_exact(&mut bytes).unwrap();
                    let next = u64::from_le_bytes(bytes) + 1;
                    file.seek(SeekFrom::Start(0)).unwrap();
                    file.write_all(&next.to_le_bytes()).unwrap();
                    lock(&file, false);
                }
            };
            at_once(|| count(a), || count(b));
            assert_eq!(fs::read(a.join(kind)).unwrap(), (2 * turns).to_le_bytes(), "{kind}");
            assert_eq!(fs::read(b.join(kind)).unwrap(), (2 * turns).to_le_bytes(), "{kind}");
        }
    });
}

/// A shared mapping shows what the other mount wrote when its write returned, and what is written by a mapping and synced is
/// read by the other.
#[test]
fn mappings_show_and_bring_what_was_written() {
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        fs::write(a.join("f"), vec![0; 8192]).unwrap();
        for round in 0..rounds(60) {
            let (one, other) = if round % 2 == 0 { (a, b) } else { (b, a) };
            let (mut mine, theirs) = (open(&one.join("f")), open(&other.join("f")));
            let mark = [round as u8 + 1; 16];
            let look = MapWrite { offset: 0, len: 8192, at: 0, bytes: &[], is_shared: true, is_synced: false };
            let before = write_by_map(&theirs, &look).unwrap();
            mine.seek(SeekFrom::Start(100)).unwrap();
            mine.write_all(&mark).unwrap();
            let shown = write_by_map(&theirs, &look).unwrap();
            assert_eq!(&shown[100..116], &mark, "round {round}: the map shows {:?}", &before[100..116]);
            let write = MapWrite { at: 4096, bytes: &mark, is_synced: true, ..look };
            let _ = write_by_map(&theirs, &write).unwrap();
            let mut seen = [0; 16];
            mine.seek(SeekFrom::Start(4096)).unwrap();
            mine.read_exact(&mut seen).unwrap();
            assert_eq!(seen, mark, "round {round}: written by a map");
        }
    });
}

/// A descriptor that reads and appends: what it reads is the file, not what its kernel thought was the end.
#[test]
fn a_descriptor_that_appends_reads_what_others_appended_before_it() {
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        for round in 0..rounds(20) {
            let name = format!("log{round}");
            let append = |directory: &Path| {
                OpenOptions::new().read(true).append(true).create(true).open(directory.join(&name)).unwrap()
            };
            let (mut mine, mut theirs) = (append(a), append(b));
            // Whole pages: the kernel keeps those without asking for what is around them.
            theirs.write_all(&[2; 8192]).unwrap();
            mine.write_all(&[1; 8192]).unwrap();
            let mut seen = Vec::new();
            mine.seek(SeekFrom::Start(0)).unwrap();
            mine.read_to_end(&mut seen).unwrap();
            assert_eq!(seen.len(), 16_384, "round {round}");
            assert!(seen[..8192] == [2; 8192] && seen[8192..] == [1; 8192], "round {round}");
            theirs.write_all(&[3; 100]).unwrap();
            assert!(fs::read(a.join(&name)).unwrap()[16_384..] == [3; 100], "round {round}");
        }
    });
}

/// Two mounts with writes that they keep back lose their metadata service: the next one gets the writes, and everybody sees
/// them at once.
#[test]
fn writes_kept_back_by_two_mounts_outlive_a_take_over() {
    let mut trio = Trio::new();
    for round in 0..3 {
        let mut files: Vec<File> =
            [&trio.a, &trio.b].map(|mount| open(&mount.join(format!("of{}", mount.pid())))).into_iter().collect();
        let len = 3000 + round * 1000;
        for file in &mut files {
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&vec![round as u8 + 1; len]).unwrap();
        }
        let which = if round % 2 == 0 { "meta-1" } else { "meta-2" };
        assert_eq!(trio.cluster.kill9(which), 1);
        for mount in [&trio.a, &trio.b] {
            let path = trio.c.join(format!("of{}", mount.pid()));
            assert_eq!(fs::metadata(&path).unwrap().len(), len as u64, "round {round}");
            assert!(fs::read(&path).unwrap() == vec![round as u8 + 1; len], "round {round}");
        }
        trio.cluster.start_the_dead();
    }
}

/// A page that a program read while another one of the same mount wrote it is not kept: the kernel may have dropped what it had
/// when the write began, or while it was on its way, and the mount answers the read before the write is there.
#[test]
fn a_read_beside_a_write_of_the_same_mount_leaves_no_old_page() {
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        for who_stirs in ["nobody", "elsewhere"] {
            let name = format!("beside-{who_stirs}");
            fs::write(a.join(&name), vec![0; 300 * PAGE]).unwrap();
            // Opened first, both use pages of the kernel here.
            let (reader, early) = (File::open(a.join(&name)).unwrap(), open(&a.join(&name)));
            let others = open(&b.join(&name));
            // Opened while others have the file open, it writes past the pages.
            let late = open(&a.join(&name));
            let (done, looks) = (AtomicBool::new(false), AtomicU64::new(0));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut page = [0; PAGE];
                    while !done.load(Ordering::Acquire) {
                        let at = looks.fetch_add(1, Ordering::Relaxed) % WRITTEN;
                        reader.read_exact_at(&mut page, at * PAGE as u64).unwrap();
                    }
                });
                if who_stirs == "elsewhere" {
                    scope.spawn(|| {
                        while !done.load(Ordering::Acquire) {
                            others.write_all_at(&[1; PAGE], 290 * PAGE as u64).unwrap();
                        }
                    });
                }
                let _end = EndOnDrop(&done);
                for round in 1..=rounds(200) {
                    let (writer, pages) = if round % 2 == 0 { (&late, 8) } else { (&early, WRITTEN) };
                    let bytes = vec![round as u8; pages as usize * PAGE];
                    writer.write_all_at(&bytes, 0).unwrap();
                    let mut seen = vec![0; bytes.len()];
                    reader.read_exact_at(&mut seen, 0).unwrap();
                    let old = seen.chunks(PAGE).position(|page| page != [round as u8; PAGE]);
                    assert_eq!(old, None, "{name}, round {round}: the first page that is old");
                    // The kernel may hold a page that was written in part until the program is told, and is asked for it after that.
                    let (part, at) = ([!(round as u8); 100], (round % WRITTEN) * PAGE as u64 + 50);
                    early.write_all_at(&part, at).unwrap();
                    wait_until("a part of a page is what was written", PATIENCE, || {
                        let mut seen = [0; 100];
                        reader.read_exact_at(&mut seen, at).unwrap();
                        seen == part
                    });
                }
            });
            assert!(looks.load(Ordering::Relaxed) > 10, "the reader hardly came to read");
        }
    });
}
