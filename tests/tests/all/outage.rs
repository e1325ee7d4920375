//! Redis stopped, metadata services killed: readers go on, writers wait and then finish.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::ledger::{Ledger, Promise, Working};
use dgfs_tests::process::wait_until;
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;

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
