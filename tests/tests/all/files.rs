//! Files and directories at the edges of what is promised: very large, very many, changing while they are read.
//!
//! Never depends on the machine's speed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::rng::Rng;
use dgfs_tests::sys::{RangeLock, lock_range_of_description};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

#[test]
fn a_file_of_16_tib_keeps_its_far_ends_and_takes_no_room_between() {
    let mut mount = Mount::embedded();
    let path = mount.join("far");
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
    for (at, word) in [(0, b"begin"), (7 * TIB + 3, b"midst"), (16 * TIB - 5, b"endof")] {
        file.write_all_at(word, at).unwrap();
    }
    drop(file);
    mount.remount();
    let mut file = File::open(&path).unwrap();
    let facts = file.metadata().unwrap();
    assert_eq!(facts.len(), 16 * TIB);
    assert!(facts.blocks() * 512 < 64 * MIB, "{} blocks", facts.blocks());
    for (at, word) in [(0, b"begin"), (7 * TIB + 3, b"midst"), (16 * TIB - 5, b"endof")] {
        let mut found = [0; 5];
        file.read_exact_at(&mut found, at).unwrap();
        assert_eq!(&found, word);
    }
    file.seek(SeekFrom::Start(3 * TIB)).unwrap();
    let mut hole = vec![1; 4096];
    file.read_exact(&mut hole).unwrap();
    assert_eq!(hole, vec![0; 4096]);
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(TIB)).unwrap();
    assert!(data <= 7 * TIB + 3 && data > 6 * TIB, "the data found behind 1 TiB begin at {data}");
    let cut = OpenOptions::new().write(true).open(&path).unwrap();
    cut.set_len(8 * TIB).unwrap();
    cut.set_len(16 * TIB).unwrap();
    let mut gone = [1; 5];
    file.read_exact_at(&mut gone, 16 * TIB - 5).unwrap();
    assert_eq!(gone, [0; 5], "what was cut does not come back");
}

#[test]
fn entries_that_stay_are_listed_once_while_others_come_and_go() {
    let mount = Mount::embedded();
    let directory = mount.join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..3000 {
        File::create(directory.join(format!("stays{number}"))).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            let mut made = Vec::new();
            while !stop.load(Ordering::Acquire) {
                let name = directory.join(format!("comes{}", rng.next()));
                File::create(&name).unwrap();
                made.push(name);
                if made.len() > 500 {
                    fs::remove_file(made.swap_remove(rng.index(500))).unwrap();
                }
            }
        });
        for _ in 0..10 {
            let mut seen = BTreeMap::new();
            for entry in fs::read_dir(&directory).unwrap() {
                *seen.entry(entry.unwrap().file_name()).or_insert(0) += 1;
            }
            for number in 0..3000 {
                assert_eq!(seen.get(Path::new(&format!("stays{number}")).as_os_str()), Some(&1), "stays{number}");
            }
            assert!(seen.values().all(|times| *times == 1), "nothing is listed twice");
        }
        stop.store(true, Ordering::Release);
    });
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_directory_of_very_many_entries_is_listed_whole_and_each_is_found() {
    let mut mount = Mount::embedded();
    let many: u64 = if dgfs_tests::program::is_long() { 1_000_000 } else { 20_000 };
    let directory = mount.join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..many {
        File::create(directory.join(format!("entry{number:07}"))).unwrap();
    }
    mount.remount();
    let mut seen = vec![false; many as usize];
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let number: usize = name.trim_start_matches("entry").parse().unwrap();
        assert!(!std::mem::replace(&mut seen[number], true), "{name} is listed twice");
    }
    assert!(seen.iter().all(|seen| *seen), "entries are missing");
    let mut rng = Rng::new(7);
    for _ in 0..1000 {
        let number = rng.below(many);
        fs::metadata(directory.join(format!("entry{number:07}"))).unwrap();
    }
    assert_eq!(fs::metadata(directory.join("entry")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(inodes(&mount), 1);
}

#[test]
fn a_position_in_a_directory_stays_good_while_entries_before_it_go() {
    let mount = Mount::embedded();
    let directory = mount.join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..500 {
        File::create(directory.join(format!("f{number}"))).unwrap();
    }
    let path = CString::new(directory.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that ends with NUL; the stream is closed below and used by this thread only; an entry is read before the
    // next call replaces it.
    unsafe {
        let stream = libc::opendir(path.as_ptr());
        assert!(!stream.is_null());
        let mut names = Vec::new();
        let mut next = || {
            let entry = libc::readdir(stream);
            (!entry.is_null())
                .then(|| std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()).to_string_lossy().into_owned())
        };
        for _ in 0..200 {
            names.extend(next());
        }
        let position = libc::telldir(stream);
        let rest: Vec<String> = std::iter::from_fn(&mut next).collect();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            fs::remove_file(directory.join(name)).unwrap();
        }
        libc::seekdir(stream, position);
        let again: Vec<String> = std::iter::from_fn(&mut next).collect();
        assert_eq!(again, rest);
        libc::rewinddir(stream);
        let left = std::iter::from_fn(&mut next).filter(|name| !name.starts_with('.')).count();
        assert_eq!(left, rest.iter().filter(|name| !name.starts_with('.')).count());
        libc::closedir(stream);
    }
}

#[test]
fn writing_much_takes_bounded_memory() {
    let mount = Mount::embedded();
    let total = if dgfs_tests::program::is_long() { 4096 } else { 1024 };
    let mut rng = Rng::new(3);
    let piece = rng.bytes(MIB as usize);
    let mut file = File::create(mount.join("much")).unwrap();
    for _ in 0..total {
        file.write_all(&piece).unwrap();
    }
    file.sync_all().unwrap();
    let mut read = File::open(mount.join("much")).unwrap();
    let mut found = vec![0; MIB as usize];
    for _ in 0..total {
        read.read_exact(&mut found).unwrap();
        assert!(found == piece);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 512 << 10, "the mount took {} MiB", peak >> 10);
}

#[test]
fn a_file_unlinked_while_open_is_whole_and_gone_with_its_last_close_or_its_process() {
    let mut mount = Mount::embedded();
    let path = mount.join("f");
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
    file.write_all_at(&vec![7; 5 << 20], 0).unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all_at(b"more", 5 << 20).unwrap();
    assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, (5 << 20) + 4));
    let mut found = vec![0; 5 << 20];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == vec![7; 5 << 20]);
    drop(file);
    wait_until("the closed file is gone", Duration::from_secs(20), || inodes(&mount) == 1);
    let file = File::create(mount.join("g")).unwrap();
    file.write_all_at(&vec![7; 5 << 20], 0).unwrap();
    file.sync_all().unwrap();
    fs::remove_file(mount.join("g")).unwrap();
    assert_eq!(inodes(&mount), 2);
    mount.kill9();
    drop(file);
    mount.start();
    wait_until("the orphan is removed", Duration::from_secs(20), || inodes(&mount) == 1);
}

/// Inodes of the volume, the root among them.
fn inodes(mount: &Mount) -> u64 {
    let words = ["status".as_ref(), "--json".as_ref(), mount.path().as_os_str()];
    let text = run(dgfs(), &words, Duration::from_secs(20)).expect_success("dgfs status");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["meta"]["usage"]["inodes"].as_u64().unwrap()
}

#[test]
fn a_process_that_waits_for_a_lock_dies_at_once_when_it_is_killed() {
    let mount = Mount::embedded();
    let path = mount.join("f");
    fs::write(&path, "x").unwrap();
    let held = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    lock_range_of_description(&held, RangeLock::Exclusive, (0, 1), false).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // flock(1) waits for the whole file; a signal that it does not catch must end it although the lock never comes.
    let words = ["1".as_ref(), "flock".as_ref(), path.as_os_str(), "true".as_ref()];
    let started = std::time::Instant::now();
    let outcome = run("timeout", &words, Duration::from_secs(20));
    assert_eq!(outcome.status.code(), Some(124), "{}{}", outcome.output, outcome.errors);
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?} to die", started.elapsed());
    drop(held);
    let words = ["10".as_ref(), "flock".as_ref(), path.as_os_str(), "true".as_ref()];
    let _ = run("timeout", &words, Duration::from_secs(20)).expect_success("flock after the holder closed");
}

#[test]
fn an_unsent_write_is_seen_by_every_descriptor_of_its_mount() {
    let mount = Mount::embedded();
    let path = mount.join("f");
    let writer = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let mut rng = Rng::new(9);
    let mut model: Vec<u8> = Vec::new();
    for _ in 0..300 {
        let at = rng.index(200_000);
        let len = 1 + rng.index(20_000);
        let bytes = rng.bytes(len);
        writer.write_all_at(&bytes, at as u64).unwrap();
        model.resize(model.len().max(at + bytes.len()), 0);
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(fs::metadata(&path).unwrap().len(), model.len() as u64);
        let from = rng.index(model.len());
        let mut found = vec![0; (model.len() - from).min(30_000)];
        reader.read_exact_at(&mut found, from as u64).unwrap();
        assert!(found == model[from..from + found.len()]);
    }
}
