//! Kills at random moments under load: what was acknowledged is there afterwards, and nothing that was never written.
//!
//! Never waits for a quiet moment. `DGFS_CRASH_SEED` repeats the choices (not the moments); `DGFS_CRASH_SECS` makes a test
//! longer.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::ledger::{Failure, Ledger, Promise};
use dgfs_tests::mount::{Mount, format, fsck};
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;
use dgfs_tests::scratch::Scratch;

/// Threads that write.
const WRITERS: u64 = 3;

#[test]
fn an_embedded_volume_keeps_its_promises_when_its_process_is_killed() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let scratch = Arc::new(Scratch::new("crash"));
    let data = scratch.join("data");
    format(&data, 64 << 10);
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Returned, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 25, 600);
    let mut round = 0;
    while Instant::now() < end {
        let root = mount.path().to_owned();
        let moment = a_moment(&mut rng);
        let failures = ledger.work(&root, |working| {
            sleep(moment);
            working.stopping();
            mount.kill9();
        });
        assert_only_the_dead_failed(&failures);
        round += 1;
        if round % 2 == 0 {
            fsck(&data).unwrap();
        }
        mount.start();
        ledger.verify(mount.path()).unwrap();
        if round % 2 == 1 {
            mount.umount();
            fsck(&data).unwrap();
            mount.start();
            ledger.verify(mount.path()).unwrap();
        }
    }
    println!("{round} kills, {} calls, {} fsyncs", ledger.calls(), ledger.syncs());
}

#[test]
fn a_cluster_keeps_its_promises_when_its_client_is_killed() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mount = cluster.mount();
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Closed, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 15, 600);
    let mut round = 0;
    while Instant::now() < end {
        let root = mount.path().to_owned();
        let moment = a_moment(&mut rng);
        let failures = ledger.work(&root, |working| {
            sleep(moment);
            working.stopping();
            mount.kill9();
        });
        assert_only_the_dead_failed(&failures);
        mount.start();
        ledger.verify(mount.path()).unwrap();
        cluster.fsck().unwrap();
        round += 1;
    }
    println!("{round} kills, {} calls, {} fsyncs", ledger.calls(), ledger.syncs());
}

#[test]
fn writers_wait_while_servers_are_killed_and_nothing_is_lost() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let mut mount = cluster.mount();
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Returned, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 40, 900);
    let mut round = 0;
    while Instant::now() < end {
        let victim = *rng.pick(&["meta", "meta-1", "stored", "stored-2", "redis", "index", "all"]);
        let (moment, after) = (a_moment(&mut rng), a_moment(&mut rng));
        println!("round {round}: {victim} after {moment:?}");
        let failures = ledger.work(mount.path(), |_| {
            sleep(moment);
            kill_and_start_again(&mut cluster, victim);
            sleep(after);
        });
        assert!(failures.is_empty(), "killing {victim}: {}\n{}", told(&failures), mount.log());
        ledger.verify(mount.path()).unwrap();
        round += 1;
    }
    // What another mount sees is what the servers have, not what this one remembers.
    mount.umount();
    let other = cluster.mount();
    ledger.verify(other.path()).unwrap();
    cluster.fsck().unwrap();
    println!("{round} kills, {} calls, {} fsyncs", ledger.calls(), ledger.syncs());
}

#[test]
fn everything_is_killed_at_once_and_what_was_synced_is_there() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mount = cluster.mount();
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Closed, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 20, 600);
    let mut round = 0;
    while Instant::now() < end {
        let root = mount.path().to_owned();
        let moment = a_moment(&mut rng);
        let failures = ledger.work(&root, |working| {
            sleep(moment);
            working.stopping();
            cluster.redis.kill9();
            cluster.kill9("");
            mount.kill9();
        });
        assert_only_the_dead_failed(&failures);
        cluster.redis.restart();
        cluster.start_the_dead();
        mount.start();
        ledger.verify(mount.path()).unwrap();
        cluster.fsck().unwrap();
        round += 1;
    }
    println!("{round} kills, {} calls, {} fsyncs", ledger.calls(), ledger.syncs());
}

fn kill_and_start_again(cluster: &mut Cluster, victim: &str) {
    if victim == "redis" || victim == "all" {
        cluster.redis.kill9();
    }
    if victim != "redis" {
        cluster.kill9(if victim == "all" { "" } else { victim });
    }
    if victim == "redis" || victim == "all" {
        cluster.redis.restart();
    }
    cluster.start_the_dead();
}

/// Long enough for work to be under way, short enough for many kills.
fn a_moment(rng: &mut Rng) -> Duration {
    Duration::from_millis(100 + rng.below(1500))
}

#[track_caller]
fn assert_only_the_dead_failed(failures: &[Failure]) {
    assert!(failures.iter().all(|failure| failure.after_stop), "before the kill: {}", told(failures));
}

fn told(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
