//! Bits flip on the disks of servers.

use dgfs_tests::cluster::servers::Check;
use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::flip;
use dgfs_tests::known::{KnownFile, KnownFiles};
use dgfs_tests::rng::Rng;

use super::{FULL_AGAIN, LENS, SEED, cluster, drop_caches, read_by_a_new_mount};

/// Flips a bit in every chunk of these files on the disk of one server; how many chunks.
fn flip_bits(cluster: &Cluster, role: &str, files: &[KnownFile]) -> u64 {
    let flipped = flip::flip_bits(&cluster.dir().join(role), files);
    assert_eq!(flipped.chunks, flipped.of, "with a copy on each server every chunk is found on {role}");
    flipped.chunks
}

/// With as many servers as copies each server has everything.
fn halves(files: &KnownFiles) -> (&[KnownFile], &[KnownFile]) {
    files.0.split_at(files.0.len() / 2)
}

#[test]
fn reads_give_the_right_bytes_whatever_copy_is_damaged() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(3, 3);
    let mount = cluster.mount();
    let files = KnownFiles::write(mount.path(), "known", 24, &LENS, &mut rng);
    // They read, and a read heals what it finds damaged.
    mount.wait_for_taggers();
    drop(mount);
    let (one, other) = halves(&files);
    // Two of three copies of everything: only one is good.
    flip_bits(&cluster, "stored-1", &files.0);
    flip_bits(&cluster, "stored-2", one);
    flip_bits(&cluster, "stored-3", other);
    drop_caches();
    for _ in 0..3 {
        println!("the slowest read took {:?}", read_by_a_new_mount(&mut cluster, &files));
    }
    let _ = cluster.check_copies(&["--repair"]);
    assert_eq!(cluster.check_copies(&[]), Check { code: 0, degraded: 0, repaired: 0 });
    each_alone_has_everything(&mut cluster, &files);
}

#[test]
fn the_scrub_finds_and_heals_damage_by_itself() {
    let (mut rng, _) = Rng::announced(SEED);
    let plan = ClusterPlan { servers: 3, replicas: 3, scrub_s: Some(5), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let mount = cluster.mount();
    let files = KnownFiles::write(mount.path(), "known", 24, &LENS, &mut rng);
    mount.wait_for_taggers();
    let flipped = [("stored-2", halves(&files).0), ("stored-3", halves(&files).1)]
        .map(|(role, files)| (role, flip_bits(&cluster, role, files)));
    let took = cluster.wait_for_servers("the scrub has healed everything", FULL_AGAIN, |servers, _| {
        let healed = |(role, flipped): &(&str, u64)| {
            servers.iter().any(|server| server.name == *role && server.healed >= *flipped)
        };
        flipped.iter().all(healed)
    });
    println!("healed after {took:?}");
    for server in cluster.server_list() {
        assert!(server.name == "stored-1" || server.scrub_errors > 0, "the scrub has found it, no reader: {server:?}");
    }
    assert_eq!(cluster.check_copies(&[]), Check { code: 0, degraded: 0, repaired: 0 });
    files.read(mount.path()).unwrap();
    drop(mount);
    each_alone_has_everything(&mut cluster, &files);
}

#[test]
fn fsck_repair_mends_damaged_copies_at_once() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(3, 3);
    let mount = cluster.mount();
    let files = KnownFiles::write(mount.path(), "known", 24, &LENS, &mut rng);
    // They read, and a read heals what it finds damaged.
    mount.wait_for_taggers();
    drop(mount);
    let flipped = flip_bits(&cluster, "stored-1", halves(&files).0) + flip_bits(&cluster, "stored-3", halves(&files).1);
    let mended = cluster.check_copies(&["--repair"]);
    assert_eq!(mended, Check { code: 1, degraded: flipped, repaired: flipped });
    assert_eq!(cluster.check_copies(&[]), Check { code: 0, degraded: 0, repaired: 0 });
    each_alone_has_everything(&mut cluster, &files);
}

/// What was healed is really there: read from each server with the two others killed.
#[track_caller]
fn each_alone_has_everything(cluster: &mut Cluster, files: &KnownFiles) {
    for alone in 1..=3 {
        let others: Vec<String> =
            (1..=3).filter(|other| *other != alone).map(|other| format!("stored-{other}")).collect();
        cluster.kill9_all(&others);
        println!("stored-{alone} alone: the slowest read took {:?}", read_by_a_new_mount(cluster, files));
        cluster.start_the_dead();
        cluster.wait_until_full(FULL_AGAIN);
    }
}
