//! Locks that wait: who gets them when the holder lets go, is stopped, or loses its metadata service; deadlocks.
//!
//! Never measures a time. The three kinds: flock, fcntl (of the process), fcntl (of the open file description).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use dgfs_tests::process::{signal, wait_until};
use dgfs_tests::sys::{RangeLock, lock_range, lock_range_of_description};

use super::{Trio, rounds};

/// A session is dead after 15 s; a busy machine takes longer to see it.
const DEAD_AFTER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);
const ALL: (i64, i64) = (0, 0);

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Flock,
    Process,
    Description,
}

const KINDS: [Kind; 3] = [Kind::Flock, Kind::Process, Kind::Description];

impl Kind {
    fn lock(self, file: impl AsFd, waits: bool) -> io::Result<()> {
        match self {
            Self::Flock if waits => Ok(flock(file, FlockOperation::LockExclusive)?),
            Self::Flock => Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?),
            Self::Process => lock_range(file, RangeLock::Exclusive, ALL, waits),
            Self::Description => lock_range_of_description(file, RangeLock::Exclusive, ALL, waits),
        }
    }

    fn unlock(self, file: impl AsFd) -> io::Result<()> {
        match self {
            Self::Flock => Ok(flock(file, FlockOperation::Unlock)?),
            Self::Process => lock_range(file, RangeLock::Unlock, ALL, false),
            Self::Description => lock_range_of_description(file, RangeLock::Unlock, ALL, false),
        }
    }
}

/// How many locks are waited for, as the metadata service counts them.
fn waiting(trio: &Trio) -> u64 {
    trio.cluster.status()["meta"]["lock_waits"].as_u64().unwrap_or(0)
}

/// Every kind of lock that a stopped mount holds passes to who waits, once the mount is dead; not before.
#[test]
fn locks_of_a_mount_that_was_stopped_pass_to_those_who_wait() {
    let trio = Trio::new();
    let files = |mount: &Path| KINDS.map(|kind| open(&mount.join(format!("{kind:?}"))));
    let (held, wanted) = (files(trio.a.path()), files(trio.b.path()));
    for (kind, file) in KINDS.iter().zip(&held) {
        kind.lock(file, false).unwrap();
    }
    for (kind, file) in KINDS.iter().zip(&wanted) {
        assert_eq!(kind.lock(file, false).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{kind:?}");
    }
    let (got, locked) = mpsc::channel();
    thread::scope(|scope| {
        for (kind, file) in KINDS.into_iter().zip(&wanted) {
            let got = got.clone();
            scope.spawn(move || got.send((kind, kind.lock(file, true))).unwrap());
        }
        signal(trio.a.pid(), Signal::STOP);
        for _ in KINDS {
            let (kind, answer) = locked.recv_timeout(DEAD_AFTER).expect("a lock of the dead passes to who waits");
            answer.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        }
        signal(trio.a.pid(), Signal::CONT);
    });
    // The dead gets none of them back.
    for (kind, file) in KINDS.iter().zip(&held) {
        assert!(kind.lock(file, false).is_err(), "{kind:?}");
    }
}

/// A lock that is waited for while the metadata service is replaced is got when its holder lets go, and is then held.
#[test]
fn who_waits_for_a_lock_goes_on_to_wait_at_the_next_metadata_service() {
    let trio = Trio::new();
    let files = |mount: &Path| KINDS.map(|kind| open(&mount.join(format!("{kind:?}"))));
    let (held, wanted, third) = (files(trio.a.path()), files(trio.b.path()), files(trio.c.path()));
    for (kind, file) in KINDS.iter().zip(&held) {
        kind.lock(file, false).unwrap();
    }
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (kind, file) in KINDS.into_iter().zip(&wanted) {
            let got = &got;
            scope.spawn(move || {
                kind.lock(file, true).unwrap();
                got.fetch_add(1, Ordering::AcqRel);
            });
        }
        wait_until("the locks are waited for", SOON, || waiting(&trio) == 3);
        assert_eq!(trio.cluster.kill9("meta-1"), 1);
        for (kind, file) in KINDS.iter().zip(&third) {
            assert_eq!(kind.lock(file, false).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{kind:?} was lost");
        }
        assert_eq!(got.load(Ordering::Acquire), 0, "a lock was given away that its holder has");
        for (kind, file) in KINDS.iter().zip(&held) {
            kind.unlock(file).unwrap();
        }
        wait_until("all who waited have their lock", SOON, || got.load(Ordering::Acquire) == KINDS.len());
        for (kind, file) in KINDS.iter().zip(&third) {
            assert_eq!(kind.lock(file, false).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{kind:?} was got twice");
        }
    });
}

/// Two mounts each hold what the other wants: the one who asks last is told so, and the first gets its lock after all.
#[test]
fn a_deadlock_between_two_mounts_is_an_error_of_who_closes_the_ring() {
    let trio = Trio::new();
    for round in 0..rounds(20) {
        let [one, other] = [trio.a.path(), trio.b.path()].map(|mount| open(&mount.join("ring")));
        let (first, second) = ((0, 10), (10, 10));
        lock_range(&one, RangeLock::Exclusive, first, false).unwrap();
        lock_range(&other, RangeLock::Exclusive, second, false).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| lock_range(&one, RangeLock::Exclusive, second, true));
            wait_until("the first waits", SOON, || waiting(&trio) == 1);
            let closing = lock_range(&other, RangeLock::Exclusive, first, true);
            assert_eq!(closing.map_err(|error| error.raw_os_error()), Err(Some(libc::EDEADLK)), "round {round}");
            lock_range(&other, RangeLock::Unlock, second, false).unwrap();
            waiter.join().unwrap().unwrap();
        });
    }
}

/// Whoever waits longest is served first, across mounts.
#[test]
fn locks_are_given_in_the_order_in_which_they_were_asked_for() {
    const WAITERS: usize = 6;
    let trio = Trio::new();
    let mounts = [trio.a.path(), trio.b.path(), trio.c.path()];
    for kind in [Kind::Flock, Kind::Description] {
        let name = format!("{kind:?}");
        let holder = open(&mounts[0].join(&name));
        kind.lock(&holder, false).unwrap();
        let (got, order) = mpsc::channel();
        thread::scope(|scope| {
            for at in 0..WAITERS {
                let (got, path) = (got.clone(), mounts[at % mounts.len()].join(&name));
                scope.spawn(move || {
                    let file = open(&path);
                    kind.lock(&file, true).unwrap();
                    got.send(at).unwrap();
                    kind.unlock(&file).unwrap();
                });
                wait_until("it waits", SOON, || waiting(&trio) == at as u64 + 1);
            }
            kind.unlock(&holder).unwrap();
            let served: Vec<usize> = (0..WAITERS).map(|_| order.recv_timeout(SOON).unwrap()).collect();
            assert_eq!(served, (0..WAITERS).collect::<Vec<_>>(), "{kind:?}");
        });
    }
}
