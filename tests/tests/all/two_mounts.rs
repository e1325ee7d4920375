//! Two mounts of one cluster are one file system.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{signal, wait_until};
use dgfs_tests::sys::{RangeLock, lock_range_of_description};

/// A session is dead after 15 s of silence; what it held is free soon after.
const DEAD_AFTER: Duration = Duration::from_secs(60);

struct Pair {
    a: Mount,
    b: Mount,
    // Last: the mounts end before their cluster.
    _cluster: Cluster,
}

fn pair() -> Pair {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let a = cluster.mount();
    let b = cluster.mount();
    Pair { a, b, _cluster: cluster }
}

/// Runs both at the same moment; their answers.
fn at_once<T: Send>(one: impl FnOnce() -> T + Send, other: impl FnOnce() -> T + Send) -> (T, T) {
    let start = Barrier::new(2);
    let start = &start;
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            start.wait();
            one()
        });
        start.wait();
        let second = other();
        (first.join().unwrap(), second)
    })
}

#[test]
fn a_change_on_one_mount_is_seen_by_the_other_at_once() {
    let Pair { a, b, .. } = &pair();
    for round in 0..20 {
        let (one, other) = if round % 2 == 0 { (a, b) } else { (b, a) };
        let name = format!("f{round}");
        assert!(!other.join(&name).exists());
        fs::write(one.join(&name), name.as_bytes()).unwrap();
        assert_eq!(fs::read(other.join(&name)).unwrap(), name.as_bytes());
        fs::write(other.join(&name), b"rewritten, and longer than before").unwrap();
        assert_eq!(fs::read(one.join(&name)).unwrap(), b"rewritten, and longer than before");
        fs::set_permissions(one.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::metadata(other.join(&name)).unwrap().mode() & 0o777, 0o600);
        fs::rename(other.join(&name), other.join("target")).unwrap();
        assert_eq!(fs::metadata(one.join(&name)).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::metadata(one.join("target")).unwrap().len(), 33);
        let names = |mount: &Mount| fs::read_dir(mount.path()).unwrap().count();
        assert_eq!((names(one), names(other)), (1, 1));
        fs::remove_file(one.join("target")).unwrap();
        assert!(!other.join("target").exists());
    }
}

#[test]
fn after_close_every_other_mount_that_opens_reads_what_was_written() {
    let Pair { a, b, .. } = &pair();
    let content = |round: u8| vec![round; 300_000 + usize::from(round) * 1000];
    for round in 1..12 {
        let (one, other) = if round % 2 == 0 { (a, b) } else { (b, a) };
        // An old reader does not keep a new one from the truth.
        let old = File::open(other.join("f"));
        fs::write(one.join("f"), content(round)).unwrap();
        assert!(fs::read(other.join("f")).unwrap() == content(round), "round {round}");
        drop(old);
    }
}

#[test]
fn exclusive_creation_has_one_winner() {
    let Pair { a, b, .. } = &pair();
    for round in 0..40 {
        let create = |mount: &Mount| File::create_new(mount.join(format!("lock{round}"))).map(drop);
        let (one, other) = at_once(|| create(a), || create(b));
        assert!(one.is_ok() != other.is_ok(), "round {round}: {one:?} {other:?}");
        let lost = one.and(other).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn appends_from_both_mounts_lose_no_record() {
    const RECORDS: usize = 150;
    let Pair { a, b, .. } = &pair();
    File::create(a.join("log")).unwrap();
    let append = |mount: &Mount, who: char| {
        let mut log = OpenOptions::new().append(true).open(mount.join("log")).unwrap();
        for at in 0..RECORDS {
            log.write_all(format!("{who}{at:07}\n").as_bytes()).unwrap();
        }
    };
    at_once(|| append(a, 'a'), || append(b, 'b'));
    let text = fs::read_to_string(b.join("log")).unwrap();
    for who in ['a', 'b'] {
        let of: Vec<&str> = text.lines().filter(|line| line.starts_with(who)).collect();
        let expected: Vec<String> = (0..RECORDS).map(|at| format!("{who}{at:07}")).collect();
        assert_eq!(of, expected);
    }
}

#[test]
fn writes_to_different_parts_of_one_file_from_both_mounts_all_stay() {
    const PART: usize = 64 << 10;
    let Pair { a, b, .. } = &pair();
    File::create(a.join("f")).unwrap();
    let write = |mount: &Mount, first: usize| {
        let mut file = OpenOptions::new().write(true).open(mount.join("f")).unwrap();
        for part in (first..16).step_by(2) {
            file.seek(SeekFrom::Start((part * PART) as u64)).unwrap();
            file.write_all(&vec![part as u8 + 1; PART]).unwrap();
        }
        file.sync_all().unwrap();
    };
    at_once(|| write(a, 0), || write(b, 1));
    let whole = fs::read(a.join("f")).unwrap();
    let expected: Vec<u8> = (0..16).flat_map(|part| vec![part + 1; PART]).collect();
    assert!(whole == expected, "parts are missing");
}

#[test]
fn locks_exclude_the_other_mount_and_the_two_kinds_do_not_see_each_other() {
    let Pair { a, b, .. } = &pair();
    File::create(a.join("f")).unwrap();
    let open = |mount: &Mount| OpenOptions::new().read(true).write(true).open(mount.join("f")).unwrap();
    let (one, other) = (open(a), open(b));
    let busy = |result: std::io::Result<()>| result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::AGAIN));
    lock_range_of_description(&other, RangeLock::Exclusive, (0, 10), false).unwrap();
    assert!(busy(lock_range_of_description(&one, RangeLock::Shared, (9, 1), false)));
    lock_range_of_description(&one, RangeLock::Exclusive, (10, 1), false).unwrap();
    // A waiter is woken by the other mount's unlock.
    let (waited, gave_up) =
        at_once(|| flock(&other, FlockOperation::LockExclusive), || flock(&one, FlockOperation::Unlock));
    gave_up.and(waited).unwrap();
    // The last close gives up what is left.
    drop(other);
    let again = open(a);
    flock(&again, FlockOperation::LockExclusive).unwrap();
}

#[test]
fn a_lock_carries_what_was_written_under_it() {
    const TURNS: u64 = 40;
    let Pair { a, b, .. } = &pair();
    fs::write(a.join("counter"), 0_u64.to_le_bytes()).unwrap();
    let count = |mount: &Mount| {
        let mut file = OpenOptions::new().read(true).write(true).open(mount.join("counter")).unwrap();
        for _ in 0..TURNS {
            flock(&file, FlockOperation::LockExclusive).unwrap();
            let mut bytes = [0; 8];
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_exact(&mut bytes).unwrap();
            let next = u64::from_le_bytes(bytes) + 1;
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&next.to_le_bytes()).unwrap();
            flock(&file, FlockOperation::Unlock).unwrap();
        }
    };
    at_once(|| count(a), || count(b));
    let end = fs::read(a.join("counter")).unwrap();
    assert_eq!(end, (2 * TURNS).to_le_bytes());
}

/// Every file below, as paths from `root`.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn directories_renamed_into_one_another_from_both_mounts_stay_reachable() {
    let Pair { a, b, .. } = &pair();
    for round in 0..25 {
        let root = format!("round{round}");
        fs::create_dir_all(a.join(&root).join("x/inner")).unwrap();
        fs::create_dir_all(a.join(&root).join("y/inner")).unwrap();
        fs::write(a.join(&root).join("x/of-x"), b"x").unwrap();
        fs::write(a.join(&root).join("y/of-y"), b"y").unwrap();
        let (at_a, at_b) = (a.join(&root), b.join(&root));
        let (one, other) = at_once(
            || fs::rename(at_a.join("x"), at_a.join("y/inner/x")),
            || fs::rename(at_b.join("y"), at_b.join("x/inner/y")),
        );
        assert!(one.is_ok() != other.is_ok(), "round {round}: {one:?} {other:?}");
        // By number: EINVAL from the check of ancestors, ENOENT when the loser's path was gone before it began.
        let lost = one.and(other).unwrap_err().raw_os_error();
        assert!(matches!(lost, Some(libc::EINVAL | libc::ENOENT)), "round {round}: {lost:?}");
        assert_eq!(files_below(&at_a), ["of-x", "of-y"], "round {round}");
        assert_eq!(files_below(&at_b), ["of-x", "of-y"], "round {round}");
    }
}

#[test]
fn a_file_unlinked_or_replaced_on_one_mount_stays_whole_for_the_others_descriptors() {
    let Pair { a, b, .. } = &pair();
    for round in 0..6 {
        fs::write(a.join("f"), vec![7; 200_000]).unwrap();
        let mut open = OpenOptions::new().read(true).write(true).open(b.join("f")).unwrap();
        if round % 2 == 0 {
            fs::remove_file(a.join("f")).unwrap();
        } else {
            fs::write(a.join("new"), b"new").unwrap();
            fs::rename(a.join("new"), a.join("f")).unwrap();
        }
        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).unwrap();
        assert!(bytes == vec![7; 200_000], "round {round}: {} bytes", bytes.len());
        open.write_all(b"more").unwrap();
        open.sync_all().unwrap();
        assert_eq!(open.metadata().unwrap().len(), 200_004);
    }
}

/// A mount that is stopped for longer than a session lives comes back with writes of its own: none of them may land.
#[test]
fn a_mount_that_was_declared_dead_changes_nothing_any_more_and_says_so() {
    let mut pair = pair();
    let open = |mount: &Mount| {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(mount.join("f")).unwrap()
    };
    let (mut old, mut new) = (open(&pair.a), open(&pair.b));
    flock(&old, FlockOperation::LockExclusive).unwrap();
    old.write_all(&vec![b'a'; 300_000]).unwrap();
    old.sync_all().unwrap();
    old.write_all(&vec![b'x'; 300_000]).unwrap();
    // Until it goes on no process may be started: the child would close its copy of `old`, which waits for the mount.
    signal(pair.a.pid(), Signal::STOP);
    wait_until("the lock of the dead goes to who waits", DEAD_AFTER, || {
        flock(&new, FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    new.seek(SeekFrom::Start(0)).unwrap();
    new.write_all(&vec![b'b'; 200_000]).unwrap();
    new.set_len(200_000).unwrap();
    new.sync_all().unwrap();
    signal(pair.a.pid(), Signal::CONT);
    let refused = |result: std::io::Result<()>| {
        result.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ESTALE | libc::EIO)))
    };
    assert!(refused(old.sync_all()), "the fenced mount says that its bytes are lost");
    assert!(refused(old.write_all(b"more").and_then(|()| old.sync_all())));
    assert!(refused(fs::create_dir(pair.a.join("made-by-the-dead"))));
    assert!(refused(fs::rename(pair.a.join("f"), pair.a.join("moved-by-the-dead"))));
    drop(old);
    assert!(fs::read(pair.b.join("f")).unwrap() == vec![b'b'; 200_000], "bytes of the dead landed");
    assert_eq!(fs::read_dir(pair.b.path()).unwrap().count(), 1);
    assert!(pair.a.log().contains("has ended this session"), "the log says so:\n{}", pair.a.log());
    drop(new);
    pair.a.kill9();
    pair.a.start();
    assert!(fs::read(pair.a.join("f")).unwrap() == vec![b'b'; 200_000]);
}
