//! Redis stopped, metadata services killed: readers go on, writers wait and then finish.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::program::{is_long, seconds};

/// Writes and syncs files until it is told to stop; how many. Any error is a failure of the promise.
fn write_until(stop: &AtomicBool, directory: &Path, written: &AtomicU64) {
    while !stop.load(Ordering::Acquire) {
        let at = written.load(Ordering::Acquire);
        let mut file = File::create(directory.join(format!("w{at}"))).unwrap();
        file.write_all(&content(at)).unwrap();
        file.sync_all().unwrap();
        written.store(at + 1, Ordering::Release);
    }
}

fn content(at: u64) -> Vec<u8> {
    vec![at as u8; 1000 + (at as usize % 7) * 9000]
}

/// Waits until `counter` has grown by `more`.
fn grows(what: &str, counter: &AtomicU64, more: u64) {
    let goal = counter.load(Ordering::Acquire) + more;
    dgfs_tests::process::wait_until(what, Duration::from_secs(90), || counter.load(Ordering::Acquire) >= goal);
}

/// Under load, does `fault`, lets `away` pass with reads going on, does `mend`; then everything written is there.
fn survive(cluster: &mut Cluster, away: Duration, fault: fn(&mut Cluster), mend: fn(&mut Cluster)) {
    let mount = cluster.mount();
    fs::write(mount.join("read-me"), vec![5; 3 << 20]).unwrap();
    let open = File::open(mount.join("read-me")).unwrap();
    let mut all = vec![0; 3 << 20];
    open.read_exact_at(&mut all, 0).unwrap();
    fs::create_dir(mount.join("d")).unwrap();
    let (stop, written, read) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&stop, &mount.join("d"), &written));
        let reader = scope.spawn(|| {
            let mut bytes = vec![0; 4096];
            while !stop.load(Ordering::Acquire) {
                let at = read.fetch_add(1, Ordering::AcqRel);
                open.read_exact_at(&mut bytes, (at % 700) * 4096).unwrap();
                assert!(bytes.iter().all(|byte| *byte == 5));
            }
        });
        grows("the first writes", &written, 5);
        fault(cluster);
        let began = Instant::now();
        while began.elapsed() < away {
            grows("reads of an open file while metadata are away", &read, 10);
        }
        mend(cluster);
        grows("writes after the outage", &written, 20);
        stop.store(true, Ordering::Release);
        writer.join().unwrap();
        reader.join().unwrap();
    });
    for at in 0..written.load(Ordering::Acquire) {
        let bytes = fs::read(mount.join(format!("d/w{at}"))).unwrap();
        assert!(bytes == content(at), "file {at} differs");
    }
    drop(open);
    drop(mount);
    cluster.fsck().unwrap();
}

#[test]
fn while_redis_is_stopped_open_files_are_readable_and_writers_wait() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let away = seconds("DGFS_OUTAGE_SECS", 6, 30);
    survive(&mut cluster, away, |cluster| cluster.redis.stop(), |cluster| cluster.redis.cont());
}

#[test]
fn a_redis_that_is_killed_and_comes_back_loses_nothing_answered() {
    if !is_long() {
        println!("in the long form only: a server started by this process waits for this process's own unsent files");
        return;
    }
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
    if !is_long() {
        println!("in the long form only: a server started by this process waits for this process's own unsent files");
        return;
    }
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
