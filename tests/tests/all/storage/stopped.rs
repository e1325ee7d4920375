//! Servers that stand still and wake: they must not bring back what is old.

use dgfs_tests::cluster::Cluster;
use dgfs_tests::known::{KnownFile, KnownFiles};
use dgfs_tests::process::wait_until;
use dgfs_tests::program::is_long;
use dgfs_tests::rng::Rng;
use rustix::process::Signal;

use super::{FULL_AGAIN, KNOWN_DOWN, SEED, cluster, pick, read_by_a_new_mount};

/// How often everything is written anew meanwhile.
const TIMES: usize = 3;

#[test]
fn a_server_that_was_stopped_and_woken_brings_no_old_content_back() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(4, 3);
    let mount = cluster.mount();
    let mut files = KnownFiles::write(mount.path(), "known", 12, &[5000, 300_000, (4 << 20) + 99], &mut rng);
    for round in 0..if is_long() { 24 } else { 4 } {
        let stopped = pick(&mut rng, 1 + round % 2, 4);
        println!("round {round}: {stopped:?}");
        // Those that mount now have a map in which the stopped ones are well.
        let mut early = cluster.mount();
        files.read(early.path()).unwrap();
        stopped.iter().for_each(|role| cluster.signal(role, Signal::STOP));
        for _ in 0..TIMES {
            for file in &mut files.0 {
                // Sometimes as long as before, so that only the bytes tell.
                let len = if rng.chance(50) { file.len } else { file.len / 2 + 4097 };
                *file = KnownFile::write(mount.path(), &file.name, len, &mut rng).unwrap();
            }
        }
        cluster.wait_until_down(&stopped, KNOWN_DOWN);
        // Also what was written after it was known.
        for file in files.0.iter_mut().take(4) {
            *file = KnownFile::write(mount.path(), &file.name, file.len, &mut rng).unwrap();
        }
        stopped.iter().for_each(|role| cluster.signal(role, Signal::CONT));
        files.read(early.path()).unwrap();
        for _ in 0..3 {
            read_by_a_new_mount(&mut cluster, &files);
        }
        early.umount();
        cluster.wait_until_full(FULL_AGAIN);
        read_by_a_new_mount(&mut cluster, &files);
    }
    drop(mount);
    cluster.fsck().unwrap();
}

/// Bytes in the segment files of a server.
fn segment_bytes(cluster: &Cluster, role: &str) -> u64 {
    let entries = std::fs::read_dir(cluster.dir().join(role).join("segments")).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// The bug: a put waited for a silent server while the stand-in that had taken it was released and dropped what it had. Asked to
/// stand in again it refused that version as dropped, and the client gave the written bytes up with ESTALE.
#[test]
fn a_write_that_waits_for_a_silent_server_outlives_the_release_of_its_stand_in() {
    const FILES: u64 = 16;
    const LEN: usize = 200_000;
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(4, 3);
    let mount = cluster.mount();
    std::fs::create_dir(mount.join("known")).unwrap();
    cluster.signal("stored-1", Signal::STOP);
    cluster.wait_until_down(&["stored-1"], KNOWN_DOWN);
    // With one of four away a write goes to all others.
    let others = ["stored-3", "stored-4"];
    let before = others.map(|role| segment_bytes(&cluster, role));
    cluster.signal("stored-2", Signal::STOP);
    let seeds: Vec<u64> = (0..FILES).map(|_| rng.next()).collect();
    let written = std::thread::scope(|scope| {
        let write = |(at, seed): (usize, &u64)| {
            let (root, mut rng) = (mount.path(), Rng::new(*seed));
            scope.spawn(move || KnownFile::write(root, &format!("known/f{at}"), LEN, &mut rng))
        };
        let writers: Vec<_> = seeds.iter().enumerate().map(write).collect();
        wait_until("the writes are on those who answer", KNOWN_DOWN, || {
            let grown = others.iter().zip(before).map(|(role, before)| segment_bytes(&cluster, role) - before);
            grown.into_iter().all(|bytes| bytes >= FILES * LEN as u64)
        });
        // It is full again before the other one is known to be down.
        cluster.signal("stored-1", Signal::CONT);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Result<Vec<_>, _>>()
    });
    let files = KnownFiles(written.unwrap_or_else(|error| panic!("a write was given up: {error}\n{}", mount.log())));
    read_by_a_new_mount(&mut cluster, &files);
    cluster.signal("stored-2", Signal::CONT);
    cluster.wait_until_full(FULL_AGAIN);
    read_by_a_new_mount(&mut cluster, &files);
    drop(mount);
    cluster.fsck().unwrap();
}
