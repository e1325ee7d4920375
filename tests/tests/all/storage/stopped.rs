//! Servers that stand still and wake: they must not bring back what is old.

use dgfs_tests::known::{KnownFile, KnownFiles};
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
