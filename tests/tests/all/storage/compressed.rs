//! Directories say what the data of their files are compressed with.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::program::dgfs;

use super::policies::{COMMAND, classes, policy};
use super::{FULL_AGAIN, read_whole};

/// How the copies and shards of a file are stored, as the servers tell.
struct Stored {
    copies: usize,
    /// Each once.
    ways: Vec<String>,
    disk_bytes: u64,
}

fn stored(file: &Path) -> Stored {
    let info = run(dgfs(), &["info", "--json", &file.display().to_string()], COMMAND).expect_success("dgfs info");
    let value: serde_json::Value = serde_json::from_str(&info).unwrap();
    let chunks = value["chunks"].as_array().unwrap();
    let copies: Vec<_> = chunks.iter().flat_map(|chunk| chunk["stored"].as_array().unwrap()).collect();
    let mut ways: Vec<String> = copies.iter().map(|copy| copy["compression"].as_str().unwrap().to_owned()).collect();
    ways.sort();
    ways.dedup();
    let disk_bytes = copies.iter().map(|copy| copy["disk_bytes"].as_u64().unwrap()).sum();
    Stored { copies: copies.len(), ways, disk_bytes }
}

/// Text that becomes smaller.
fn text(len: usize) -> Vec<u8> {
    let line = |number: usize| format!("line {number} says what {} other lines say\n", number % 17).into_bytes();
    (0..).flat_map(line).take(len).collect()
}

#[test]
fn data_are_compressed_as_their_directory_wants_and_old_data_where_it_is_applied() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 4, replicas: 2, ..ClusterPlan::default() });
    let mount = cluster.mount();
    let path = |name: &str| mount.join(name);
    let bytes = text(9_000_000);
    for directory in ["plain", "lz4", "zstd", "zstd/coded"] {
        fs::create_dir(path(directory)).unwrap();
    }
    let _ = policy(&["set", "--compression", "lz4"], &path("lz4")).expect_success("policy set");
    let _ = policy(&["set", "--compression", "zstd"], &path("zstd")).expect_success("policy set");
    let _ = policy(&["set", "--redundancy", "ec:2+1"], &path("zstd/coded")).expect_success("policy set");
    for name in ["plain/f", "lz4/f", "zstd/f", "zstd/coded/f"] {
        fs::write(path(name), &bytes).unwrap();
    }
    let [plain, lz4, zstd, coded] = ["plain/f", "lz4/f", "zstd/f", "zstd/coded/f"].map(|name| stored(&path(name)));
    assert_eq!([&plain.ways, &lz4.ways, &zstd.ways, &coded.ways], [&["none"], &["lz4"], &["zstd"], &["zstd"]]);
    let (plain, two_copies) = (plain.disk_bytes, 2 * bytes.len() as u64);
    assert!(plain > two_copies && lz4.disk_bytes < plain / 2 && zstd.disk_bytes < plain / 3);
    assert_eq!(classes(&path("zstd/coded/f")), ["ec:2+1", "ec:2+1", "ec:2+1"]);
    let shown = policy(&["get"], &path("zstd/coded/f")).expect_success("policy get");
    assert!(shown.contains("redundancy ec:2+1") && shown.contains("compression zstd (set for"), "{shown}");
    let listed = policy(&["ls"], &path("")).expect_success("policy ls");
    assert!(listed.lines().any(|line| line.starts_with("- ") && line.contains(" lz4 ")), "{listed}");

    // Patched in the middle, and read by another mount, cold.
    {
        let file = fs::File::options().write(true).open(path("lz4/f")).unwrap();
        file.write_all_at(b"PATCHED", 5_000_000).unwrap();
        file.sync_all().unwrap();
    }
    let other = cluster.mount();
    let mut patched = bytes.clone();
    patched[5_000_000..5_000_007].copy_from_slice(b"PATCHED");
    assert!(read_whole(&other.join("lz4/f")) == patched && read_whole(&other.join("zstd/coded/f")) == bytes);

    // Old data follow where that is asked for; a server that is away makes it up when it returns.
    let left = policy(&["usage"], &path("plain")).expect_success("policy usage");
    assert!(left.contains("0 chunks have another class"), "{left}");
    cluster.kill9("stored-2");
    let _ = policy(&["set", "--compression", "zstd", "--apply"], &path("plain")).expect_success("policy set --apply");
    let _ = policy(&["set", "--compression", "none", "--apply"], &path("lz4")).expect_success("policy set --apply");
    cluster.start_the_dead();
    let settled = |name: &str, way: &str| {
        let usage = policy(&["usage", "--json"], &path(name)).expect_success("policy usage --json");
        let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
        let file = stored(&path(&format!("{name}/f")));
        // Two copies of three chunks.
        usage["left"] == 0 && file.ways == [way] && file.copies == 6
    };
    wait_until("all copies are compressed anew", FULL_AGAIN, || settled("plain", "zstd") && settled("lz4", "none"));
    assert!(stored(&path("plain/f")).disk_bytes < plain / 3 && stored(&path("lz4/f")).disk_bytes > two_copies);
    for role in ["stored-1", "stored-3"] {
        cluster.kill9(role);
        let reader = cluster.mount();
        assert!(
            read_whole(&reader.join("plain/f")) == bytes && read_whole(&reader.join("lz4/f")) == patched,
            "without {role}"
        );
        assert!(read_whole(&reader.join("zstd/coded/f")) == bytes, "a shard less");
        cluster.start_the_dead();
        cluster.wait_until_full(FULL_AGAIN);
    }
    let _ = policy(&["unset", "--compression"], &path("zstd")).expect_success("policy unset");
    fs::write(path("zstd/after"), &bytes).unwrap();
    assert_eq!(stored(&path("zstd/after")).ways, ["none"]);
    let refused = policy(&["unset", "--redundancy"], &path("zstd"));
    assert!(!refused.status.success() && refused.errors.contains("has no policy of its own"), "{refused:?}");
    let refused = policy(&["set", "--compression", "gzip"], &path("zstd"));
    assert!(!refused.status.success() && refused.errors.contains("none, lz4 or zstd"), "{refused:?}");
    cluster.fsck().unwrap();
}

#[test]
fn an_embedded_volume_compresses_new_data_and_old_ones_where_it_is_applied() {
    let mut mount = Mount::embedded();
    let bytes = text(5_000_000);
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/old"), &bytes).unwrap();
    let _ = policy(&["set", "--compression", "zstd"], &mount.join("d")).expect_success("policy set");
    fs::write(mount.join("d/new"), &bytes).unwrap();
    assert_eq!(stored(&mount.join("d/old")).ways, ["none"], "what is there stays");
    assert_eq!(stored(&mount.join("d/new")).ways, ["zstd"]);
    let _ = policy(&["set", "--compression", "lz4", "--apply"], &mount.join("d")).expect_success("policy set --apply");
    let usage = policy(&["usage", "--wait"], &mount.join("d")).expect_success("policy usage --wait");
    assert!(usage.contains("lz4") && usage.contains("4 chunks") && usage.contains("0 chunks have another"), "{usage}");
    mount.remount();
    for name in ["d/old", "d/new"] {
        assert!(read_whole(&mount.join(name)) == bytes, "{name}");
        assert!(stored(&mount.join(name)).disk_bytes < bytes.len() as u64 / 2, "{name}");
    }
    // The chunk size is the volume's: it is chosen when that is made.
    let refused = run(dgfs(), &["format", "--data-dir", "/nonexistent", "--chunk-bytes", "100000"], COMMAND);
    assert!(!refused.status.success() && refused.errors.contains("a power of two from 65536 to"), "{refused:?}");
}
