//! Servers whose disks somebody else fills to the last byte.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::load::{Load, LoadPlan};
use dgfs_tests::power::Disk;
use dgfs_tests::process::wait_until;
use dgfs_tests::rng::Rng;
use dgfs_tests::scratch::Scratch;

use super::{FULL_AGAIN, SEED, assert_well, go_on};

/// Servers on disks of their own, which are filled.
const FILLED: [&str; 2] = ["stored-2", "stored-4"];
/// MiB of such a disk.
const DISK_MIB: u64 = 700;
/// Synced writes of the load while the disks are full.
const WRITES: u64 = 30;

/// Takes all that is left of a disk.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = File::create(&path).unwrap();
    for step in [1 << 20, 4096] {
        let zeros = vec![0; step];
        loop {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("fill {}: {error}", path.display()),
            }
        }
    }
    file.sync_all().unwrap();
    path
}

#[test]
fn while_two_of_five_servers_are_full_writes_go_to_the_others_and_every_read_is_right() {
    let (mut rng, _) = Rng::announced(SEED);
    let disks = FILLED.map(|_| Disk::new(DISK_MIB));
    let scratch = Scratch::new("filled");
    let dir = scratch.dir("up");
    for (role, disk) in FILLED.iter().zip(&disks) {
        std::os::unix::fs::symlink(disk.path().join("store"), dir.join(role)).unwrap();
        std::fs::create_dir(disk.path().join("store")).unwrap();
    }
    let plan = ClusterPlan { servers: 5, replicas: 3, dir: Some(&dir), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let mut writes = cluster.mount();
    let read = cluster.mount_with(&["--cache-mb", "16"]);
    let mut ledger = Ledger::new(writes.path(), 1, Promise::Returned, &mut rng);
    let plan = LoadPlan { write: writes.path(), read: &[read.path()], writers: 2, readers: 2 };
    let mut load = Load::start(plan, &mut rng);
    let failures = ledger.work(writes.path(), |working| {
        for round in 0..2 {
            go_on("writers go on with room everywhere", working);
            let ballast = disks.each_ref().map(|disk| fill(disk.path()));
            let goal = load.look().written + WRITES;
            wait_until("the load is written while two servers are full", Duration::from_secs(120), || {
                let progress = load.look();
                assert_well(&progress);
                progress.written >= goal
            });
            go_on("writers go on while two servers are full", working);
            if round == 1 {
                cluster.kill9_all(&FILLED[..1]);
                let refused = cluster.try_start_the_dead().unwrap_err();
                assert!(refused.contains("free disk space"), "{refused}");
                go_on("writers go on while a full server is away", working);
            }
            for path in ballast {
                std::fs::remove_file(path).unwrap();
            }
            cluster.start_the_dead();
            println!("full copies again after {:?}", cluster.wait_until_full(FULL_AGAIN));
        }
    });
    let done = load.end();
    println!("{done:?}");
    assert_well(&done);
    assert!(failures.is_empty(), "{failures:?}\n{}", writes.log());
    ledger.verify(writes.path()).unwrap();
    writes.umount();
    drop(read);
    let other = cluster.mount();
    ledger.verify(other.path()).unwrap();
    println!("{} files of the load are whole", load.verify(other.path()).unwrap());
    drop(other);
    cluster.fsck().unwrap();
}
