//! The cache on a local disk: shared by mounts, right when it is damaged, enough to read by when storage is away.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::wait_until;
use dgfs_tests::rng::Rng;

const MIB: usize = 1 << 20;
const FILE: usize = 12 * MIB;
/// Blocks of 256 KiB.
const BLOCKS: usize = FILE / (MIB / 4);

fn mounted(cluster: &mut Cluster, cache: &Path) -> Mount {
    let dir = cache.to_str().unwrap();
    // Little memory, so that the disk is what counts.
    cluster.mount_with(&["--cache-dir", dir, "--cache-size", "64M", "--cache-mb", "1"])
}

/// Blocks in the cache.
fn blocks(cache: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![cache.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else if entry.file_name() != "lock" && entry.path().extension().is_none() {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Reads `file` until all of it is in the cache: when the disk is busy a block is left out.
fn read_until_cached(file: &Path, content: &[u8], cache: &Path) {
    wait_until("every block is on the local disk", Duration::from_secs(60), || {
        fs::write("/proc/sys/vm/drop_caches", b"1").expect("drop the page cache (root is needed)");
        assert!(fs::read(file).unwrap() == content);
        blocks(cache).len() == BLOCKS
    });
}

#[test]
fn what_one_mount_has_read_another_reads_from_the_disk_they_share() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let cache = cluster.scratch().join("cache");
    let content = Rng::new(5).bytes(FILE);
    let one = mounted(&mut cluster, &cache);
    fs::write(one.join("f"), &content).unwrap();
    let mut other = mounted(&mut cluster, &cache);
    read_until_cached(&one.join("f"), &content, &cache);
    // Nobody but the disk can tell.
    assert!(cluster.kill9("stored") > 0);
    assert!(fs::read(other.join("f")).unwrap() == content);
    cluster.start_the_dead();
    other.umount();
    // Spoiled, each in another place; one is another block's content under its name.
    let spoiled = blocks(&cache);
    for (at, path) in spoiled.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let place = at * 7919 % bytes.len();
        bytes[place] ^= 0x10;
        fs::write(path, bytes).unwrap();
    }
    let third = mounted(&mut cluster, &cache);
    assert!(fs::read(third.join("f")).unwrap() == content, "a damaged block was believed");
    read_until_cached(&third.join("f"), &content, &cache);
    // Overwritten: another version, other blocks.
    let newer = Rng::new(6).bytes(FILE);
    fs::write(one.join("f"), &newer).unwrap();
    assert!(fs::read(third.join("f")).unwrap() == newer);
}

#[test]
fn the_cache_stays_near_its_size() {
    let mut cluster = Cluster::start(ClusterPlan::default());
    let cache = cluster.scratch().join("cache");
    let mount = mounted(&mut cluster, &cache);
    for at in 0..10 {
        let content = Rng::new(at).bytes(FILE);
        fs::write(mount.join(format!("f{at}")), &content).unwrap();
        fs::write("/proc/sys/vm/drop_caches", b"1").expect("drop the page cache (root is needed)");
        assert!(fs::read(mount.join(format!("f{at}"))).unwrap() == content);
    }
    let total: u64 = blocks(&cache).iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    assert!(total > 0 && total < 72 * MIB as u64, "{total} bytes for a size of 64 MiB");
}
