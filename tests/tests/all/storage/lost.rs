//! Servers killed at once.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use dgfs_tests::known::{KnownFile, KnownFiles};
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::program::is_long;
use dgfs_tests::rng::Rng;

use super::{
    FULL_AGAIN, KNOWN_DOWN, LENS, READ_AT_ONCE, SEED, WRITES_GO_ON, cluster, drop_caches, go_on, pick,
    read_by_a_new_mount,
};

/// Files that are there before.
const FILES: usize = 40;

#[test]
fn with_two_of_five_servers_killed_at_once_all_is_readable_at_once_and_full_again_after_their_return() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(5, 3);
    let mut mount = cluster.mount();
    let mut files = KnownFiles::write(mount.path(), "before", FILES, &LENS, &mut rng);
    let mut ledger = Ledger::new(mount.path(), 2, Promise::Returned, &mut rng);
    for round in 0..if is_long() { 20 } else { 2 } {
        let victims = pick(&mut rng, 2, 5);
        println!("round {round}: {victims:?}");
        // It has read nothing, so what it reads comes from the servers.
        let fresh = cluster.mount();
        let failures = ledger.work(mount.path(), |working| {
            go_on("writers before the loss", working);
            cluster.kill9_all(&victims);
            drop_caches();
            let slowest = [fresh.path(), mount.path()].map(|root| files.read(root).unwrap());
            println!("read at once: {slowest:?} at most");
            assert!(slowest.iter().all(|slowest| *slowest < READ_AT_ONCE), "a read waited {slowest:?}");
            let began = Instant::now();
            let name = format!("before/round{round}");
            files.0.push(KnownFile::write(mount.path(), &name, 5 << 20, &mut rng).unwrap());
            println!("a write took {:?}", began.elapsed());
            assert!(began.elapsed() < WRITES_GO_ON, "a write waited {:?}", began.elapsed());
            cluster.wait_until_down(&victims, KNOWN_DOWN);
            go_on("writers without the lost", working);
            read_by_a_new_mount(&mut cluster, &files);
            cluster.start_the_dead();
            println!("full again after {:?}", cluster.wait_until_full(FULL_AGAIN));
            go_on("writers after their return", working);
        });
        assert!(failures.is_empty(), "{failures:?}\n{}", mount.log());
        ledger.verify(mount.path()).unwrap();
    }
    cluster.wait_until_full(FULL_AGAIN);
    mount.umount();
    // Each server alone with what came back: those that stayed are the ones that are lost now.
    let other = cluster.mount();
    ledger.verify(other.path()).unwrap();
    drop(other);
    read_by_a_new_mount(&mut cluster, &files);
    cluster.fsck().unwrap();
}

/// What was written while a server was away must really have come back to it: the only others that have it are killed.
#[test]
fn a_server_that_returned_and_is_full_serves_alone_what_was_written_without_it() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(4, 3);
    let mount = cluster.mount();
    let mut files = KnownFiles::write(mount.path(), "before", FILES / 2, &LENS, &mut rng);
    for away in 1..=4 {
        let away = format!("stored-{away}");
        cluster.kill9_all(&[&away]);
        let during = KnownFiles::write(mount.path(), &format!("without-{away}"), FILES / 2, &LENS, &mut rng);
        files.0.extend(during.0);
        // Overwritten, so that what the absent one has is old.
        for at in 0..4 {
            files.0[at] = KnownFile::write(mount.path(), &files.0[at].name, 700_000, &mut rng).unwrap();
        }
        cluster.start_the_dead();
        println!("{away} is full again after {:?}", cluster.wait_until_full(FULL_AGAIN));
        let others: Vec<String> = (1..=4).map(|number| format!("stored-{number}")).filter(|it| *it != away).collect();
        cluster.kill9_all(&others[..2]);
        println!("the slowest read took {:?}", read_by_a_new_mount(&mut cluster, &files));
        cluster.start_the_dead();
        cluster.wait_until_full(FULL_AGAIN);
    }
    drop(mount);
    cluster.fsck().unwrap();
}

/// The bug: whoever was away when an old version was collected kept it and listed it; another one that had dropped it, and still
/// showed its bytes by a newer version, was to take it back, could not, and was never full again.
#[test]
fn servers_that_were_away_in_turn_while_files_were_patched_are_all_full_again() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(4, 3);
    let mount = cluster.mount();
    let files = KnownFiles::write(mount.path(), "patched", FILES, &[300_000], &mut rng);
    let mut contents: Vec<(&str, Vec<u8>)> = files.0.iter().map(|file| (&*file.name, file.bytes())).collect();
    for away in (1..=4).cycle().take(8) {
        let away = format!("stored-{away}");
        cluster.kill9_all(&[&away]);
        cluster.wait_until_down(&[&away], KNOWN_DOWN);
        for _ in 0..3 {
            for (name, bytes) in &mut contents {
                let at = rng.index(bytes.len() - 5000);
                let patch = rng.bytes(5000);
                bytes[at..at + 5000].copy_from_slice(&patch);
                let file = File::options().write(true).open(mount.join(*name)).unwrap();
                file.write_all_at(&patch, at as u64).unwrap();
                file.sync_all().unwrap();
            }
        }
        cluster.start_the_dead();
        println!("{away} is full again after {:?}", cluster.wait_until_full(FULL_AGAIN));
    }
    let other = cluster.mount();
    for (name, bytes) in &contents {
        assert!(fs::read(other.join(name)).unwrap() == *bytes, "{name}");
    }
    drop((mount, other));
    cluster.fsck().unwrap();
}
