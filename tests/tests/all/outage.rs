//! Redis stopped, metadata services killed: readers go on, writers wait and then finish.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::ledger::{Ledger, Promise, Working};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{run, signal, wait_until};
use dgfs_tests::program::{dgfs, seconds};
use dgfs_tests::rng::Rng;
use dgfs_tests::sys::{RangeLock, lock_range_of_description};

/// Threads that write.
const WRITERS: u64 = 2;
/// Rounds of work that show that writers go on.
const ROUNDS: u64 = 20;
/// How long writers may take to go on after an outage.
const PATIENCE: Duration = Duration::from_secs(90);

/// Under load, does `fault`, lets `away` pass with reads of an open file going on, does `mend`; then writers go on, no call has
/// failed, and everything written is there.
fn survive(cluster: &mut Cluster, away: Duration, fault: fn(&mut Cluster), mend: fn(&mut Cluster)) {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let mount = cluster.mount();
    fs::write(mount.join("read-me"), vec![5; 3 << 20]).unwrap();
    let open = File::open(mount.join("read-me")).unwrap();
    let mut all = vec![0; 3 << 20];
    open.read_exact_at(&mut all, 0).unwrap();
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Returned, &mut rng);
    let failures = ledger.work(mount.path(), |working| {
        go_on("writers before the outage", working);
        fault(cluster);
        let began = Instant::now();
        while began.elapsed() < away {
            let asked = Instant::now();
            let mut bytes = vec![0; 4096];
            open.read_exact_at(&mut bytes, rng.below(700) * 4096).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 5));
            assert!(asked.elapsed() < Duration::from_secs(2), "a cached read waited {:?}", asked.elapsed());
        }
        mend(cluster);
        go_on("writers after the outage", working);
    });
    assert!(failures.is_empty(), "{failures:?}");
    ledger.verify(mount.path()).unwrap();
    drop(open);
    drop(mount);
    cluster.fsck().unwrap();
}

fn go_on(who: &str, working: &mut Working<'_>) {
    let goal = working.rounds() + ROUNDS;
    wait_until(who, PATIENCE, || working.rounds() >= goal);
}

#[test]
fn while_redis_is_stopped_open_files_are_readable_and_writers_wait() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let away = seconds("DGFS_OUTAGE_SECS", 6, 30);
    survive(&mut cluster, away, |cluster| cluster.redis.stop(), |cluster| cluster.redis.cont());
}

#[test]
fn a_redis_that_is_killed_and_comes_back_loses_nothing_answered() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let away = seconds("DGFS_OUTAGE_SECS", 3, 30);
    survive(&mut cluster, away, |cluster| cluster.redis.kill9(), |cluster| cluster.redis.restart());
}

#[test]
fn a_standby_takes_over_from_a_killed_metadata_service_and_clients_go_on() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let kill_active = |cluster: &mut Cluster| {
        // Whichever is active: the other one goes on. `meta-1` was started first.
        assert_eq!(cluster.kill9("meta-1"), 1);
    };
    survive(&mut cluster, Duration::ZERO, kill_active, |_| {});
}

#[test]
fn with_all_metadata_services_killed_writers_wait_until_one_is_started() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let away = seconds("DGFS_OUTAGE_SECS", 3, 30);
    survive(&mut cluster, away, |cluster| assert_eq!(cluster.kill9("meta"), 2), |cluster| cluster.start_the_dead());
}

#[test]
fn a_storage_daemon_that_is_killed_and_comes_back_loses_nothing_answered() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    // No reads through a dead daemon are promised with one copy: none are made meanwhile.
    let mount = cluster.mount();
    for round in 0..4_u64 {
        let bytes = vec![round as u8 + 1; 5 << 20];
        let mut file = File::create(mount.join(format!("f{round}"))).unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        assert_eq!(cluster.kill9("stored"), 1);
        cluster.start_the_dead();
        for earlier in 0..=round {
            let found = fs::read(mount.join(format!("f{earlier}"))).unwrap();
            assert!(found == vec![earlier as u8 + 1; 5 << 20], "file {earlier} after round {round}");
        }
    }
}

/// Mounts, and so sessions, that the metadata service knows; 0 while there is none.
fn sessions(cluster: &Cluster) -> usize {
    let config = cluster.dir().join("client.toml");
    let words = ["status".into(), "--json".into(), "--config".into(), config.into_os_string()];
    let outcome = run(dgfs(), &words, PATIENCE);
    let status: serde_json::Value = serde_json::from_str(&outcome.output).unwrap_or_default();
    status["meta"]["sessions"].as_array().map_or(0, Vec::len)
}

/// The bug: the new writer believed that the surviving mount had dropped what it cached, and let another one begin beside it.
#[test]
fn a_mount_that_begins_after_a_takeover_waits_until_the_surviving_one_has_dropped_its_caches() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let one = cluster.mount();
    fs::write(one.join("f"), b"old").unwrap();
    assert_eq!(fs::metadata(one.join("f")).unwrap().len(), 3);
    // It answers nobody, so it cannot be told anything either.
    signal(one.pid(), Signal::STOP);
    assert_eq!(cluster.kill9("meta"), 2);
    cluster.start_the_dead();
    let (begun, has_begun) = mpsc::channel();
    let words: Vec<OsString> = vec!["--config".into(), cluster.dir().join("client.toml").into()];
    let scratch = Arc::clone(cluster.scratch());
    let other = std::thread::spawn(move || {
        let other = Mount::with_words(&scratch, "other", words);
        fs::write(other.join("f"), b"new content").unwrap();
        begun.send(()).unwrap();
        other
    });
    wait_until("the second session", PATIENCE, || sessions(&cluster) == 2);
    let early = has_begun.recv_timeout(Duration::from_secs(2));
    signal(one.pid(), Signal::CONT);
    assert!(early.is_err(), "the second mount began while the first one might cache");
    has_begun.recv_timeout(PATIENCE).unwrap();
    assert_eq!(fs::read(one.join("f")).unwrap(), b"new content");
    let other = other.join().unwrap();
    fs::write(one.join("f"), b"and back").unwrap();
    assert_eq!(fs::read(other.join("f")).unwrap(), b"and back");
}

#[test]
fn a_killed_mount_that_is_mounted_again_does_not_wait_for_its_own_dead_session() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mount = cluster.mount();
    for round in 0..2_u8 {
        fs::write(mount.join("f"), [round; 10]).unwrap();
        File::open(mount.join("f")).unwrap().sync_all().unwrap();
        mount.kill9();
        let began = Instant::now();
        mount.start();
        // A dead session runs out after 15 s.
        assert!(began.elapsed() < Duration::from_secs(8), "mounting again took {:?}", began.elapsed());
        assert_eq!(fs::read(mount.join("f")).unwrap(), [round; 10]);
        assert_eq!(sessions(&cluster), 1);
    }
}

#[test]
fn a_soft_mount_fails_instead_of_waiting_and_is_whole_afterwards() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mount = cluster.mount_with(&["--soft"]);
    fs::write(mount.join("f"), vec![5; 3 << 20]).unwrap();
    let open = File::open(mount.join("f")).unwrap();
    let mut all = vec![0; 3 << 20];
    open.read_exact_at(&mut all, 0).unwrap();
    cluster.redis.stop();
    let began = Instant::now();
    let refused = fs::create_dir(mount.join("d")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ETIMEDOUT), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?} to fail", began.elapsed());
    open.read_exact_at(&mut all, 0).unwrap();
    cluster.redis.cont();
    // An attempt whose answer was lost may have been carried out.
    wait_until("the mount answers again", PATIENCE, || fs::create_dir_all(mount.join("e")).is_ok());
    fs::write(mount.join("e/g"), b"after").unwrap();
    assert_eq!(fs::read(mount.join("e/g")).unwrap(), b"after");
    assert!(fs::read(mount.join("f")).unwrap() == vec![5; 3 << 20]);
}

#[test]
fn a_lock_outlives_the_takeover_by_a_standby() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let (one, other) = (cluster.mount(), cluster.mount());
    let open = |mount: &Mount| {
        File::options().read(true).write(true).create(true).truncate(false).open(mount.join("f")).unwrap()
    };
    let (held, asking) = (open(&one), open(&other));
    flock(&held, FlockOperation::LockExclusive).unwrap();
    lock_range_of_description(&asking, RangeLock::Exclusive, (0, 10), false).unwrap();
    assert_eq!(cluster.kill9("meta-1"), 1);
    wait_until("the standby answers", PATIENCE, || fs::create_dir(other.join("d")).is_ok());
    assert_eq!(flock(&asking, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::AGAIN));
    let refused = lock_range_of_description(&held, RangeLock::Shared, (9, 1), false).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    flock(&held, FlockOperation::Unlock).unwrap();
    flock(&asking, FlockOperation::NonBlockingLockExclusive).unwrap();
}
