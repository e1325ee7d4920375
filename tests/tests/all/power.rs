//! Power cuts under load: nothing that was synced is lost, nothing refers to bytes that are not there, everything opens again
//! by itself.
//!
//! Never a polite end: the disk goes first, then every process at once.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::mount::{Mount, format, fsck_after_power_cut};
use dgfs_tests::power::Disk;
use dgfs_tests::process;
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;
use dgfs_tests::scratch::Scratch;

/// Threads that write.
const WRITERS: u64 = 3;
/// How long a tool of Redis may take.
const TOOL: Duration = Duration::from_secs(60);
/// MiB of a disk.
const DISK_MIB: u64 = 4096;

#[test]
fn an_embedded_volume_keeps_what_was_synced_when_the_power_is_cut() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let disk = Disk::new(DISK_MIB);
    let scratch = Arc::new(Scratch::new("power"));
    let data = disk.path().join("data");
    format(&data, 64 << 10);
    let mut mount = Mount::of_data(&scratch, &data, "mnt");
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Synced, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 25, 900);
    let mut round = 0;
    while Instant::now() < end {
        let root = mount.path().to_owned();
        let moment = a_moment(&mut rng);
        let failures = ledger.work(&root, |working| {
            sleep(moment);
            working.stopping();
            disk.cut();
            mount.kill9();
        });
        assert!(failures.iter().all(|failure| failure.after_stop), "before the cut: {failures:?}");
        disk.power_on();
        round += 1;
        if round % 2 == 0 {
            fsck_after_power_cut(&data).unwrap();
        }
        mount.start();
        ledger.verify(mount.path()).unwrap();
        if round % 2 == 1 {
            mount.umount();
            fsck_after_power_cut(&data).unwrap();
            mount.start();
        }
    }
    println!("{round} cuts, {} calls, {} fsyncs", ledger.calls(), ledger.syncs());
}

#[test]
fn a_cluster_keeps_what_was_synced_when_the_power_is_cut() {
    let (mut rng, _) = Rng::announced("DGFS_CRASH_SEED");
    let disk = Disk::new(DISK_MIB);
    let (dir, redis_dir) = (disk.path().join("up"), disk.path().join("redis"));
    std::fs::create_dir(&redis_dir).unwrap();
    let plan = ClusterPlan { dir: Some(&dir), redis_dir: Some(&redis_dir), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let mut mount = cluster.mount();
    let mut ledger = Ledger::new(mount.path(), WRITERS, Promise::Synced, &mut rng);
    let end = Instant::now() + seconds("DGFS_CRASH_SECS", 30, 900);
    let (mut round, mut mended) = (0, 0);
    while Instant::now() < end {
        let root = mount.path().to_owned();
        let moment = a_moment(&mut rng);
        // The list lies on the disk, too.
        let daemons = cluster.daemons();
        let failures = ledger.work(&root, |working| {
            sleep(moment);
            working.stopping();
            disk.cut();
            cluster.redis.kill9();
            for (_, pid) in &daemons {
                process::kill9(*pid);
            }
            mount.kill9();
        });
        assert!(failures.iter().all(|failure| failure.after_stop), "before the cut: {failures:?}");
        disk.power_on();
        mended += u64::from(mend_redis(&redis_dir));
        cluster.redis.restart();
        cluster.start_the_dead();
        mount.start();
        ledger.verify(mount.path()).unwrap();
        cluster.fsck_after_power_cut().unwrap();
        round += 1;
    }
    println!("{round} cuts, {} calls, {} fsyncs; {mended} logs of Redis mended", ledger.calls(), ledger.syncs());
}

/// A power cut may leave zeros behind the last synced command of Redis's log (the file grew, its last block was not written). Redis
/// then wants an operator: `redis-check-aof --fix`. Only what was under way is cut off; that is what the ledger proves afterwards.
fn mend_redis(dir: &Path) -> bool {
    let log = dir.join("appendonlydir/appendonly.aof.manifest");
    let check =
        |script: &str| process::run("sh", &["-c".as_ref(), script.as_ref(), "sh".as_ref(), log.as_os_str()], TOOL);
    let found = check(r#"redis-check-aof "$1" </dev/null"#);
    if found.status.success() {
        return false;
    }
    assert!(found.output.contains("ok_up_to"), "the log of Redis is damaged: {found:?}");
    let mended = check(r#"yes | redis-check-aof --fix "$1""#).expect_success("redis-check-aof --fix");
    println!("{}", mended.lines().filter(|line| line.contains("ok_up_to")).collect::<Vec<_>>().join("\n"));
    true
}

/// Long enough for work to be under way, short enough for many cuts.
fn a_moment(rng: &mut Rng) -> Duration {
    Duration::from_millis(100 + rng.below(2500))
}
