//! `dgfs chunks top`: which chunks are used, whose they are, and who may know.
//!
//! Never looks at times. What is counted must be there after every storage daemon was killed.

use std::ffi::OsString;
use std::fs::{File, metadata, write};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::Scratch;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// Counts are saved every five seconds.
const SAVED: Duration = Duration::from_secs(60);
/// A file of more than the metadata keeps.
const LEN: usize = 300_000;
/// Nobody.
const OTHER_UID: u32 = 65_534;

fn top(words: &[&str]) -> Outcome {
    let words: Vec<OsString> = ["chunks", "top"].iter().chain(words).map(OsString::from).collect();
    run(dgfs(), &words, COMMAND)
}

#[track_caller]
fn rows(words: &[&str]) -> Vec<Value> {
    let text = top(words).expect_success("dgfs chunks top");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["silent"], serde_json::json!([]), "{value}");
    value["chunks"].as_array().unwrap().clone()
}

fn put_synced(path: &Path, byte: u8) {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![byte; LEN]).unwrap();
    file.sync_all().unwrap();
}

fn of_file<'a>(rows: &'a [Value], path: &str) -> Option<&'a Value> {
    rows.iter().find(|row| row["path"] == path)
}

#[test]
fn the_busiest_chunk_is_named_with_its_file_also_after_all_servers_were_killed() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 3, replicas: 2, ..ClusterPlan::default() });
    let config = cluster.dir().join("client.toml");
    let config = config.to_str().unwrap().to_owned();
    let mount = cluster.mount();
    std::fs::create_dir(mount.join("dir")).unwrap();
    put_synced(&mount.join("dir/idle"), 1);
    put_synced(&mount.join("dir/busy"), 2);
    for _ in 0..5 {
        put_synced(&mount.join("dir/again"), 3);
    }
    let ask = |more: &[&str]| rows(&[&["--json", "--config", &config], more].concat());
    let first = ask(&["--by", "writes"]);
    let busy = of_file(&first, "/dir/busy").unwrap_or_else(|| panic!("not among {first:?}"));
    assert_eq!(
        (busy["class"].as_str(), busy["writes"].as_u64(), busy["index"].as_u64()),
        (Some("r2"), Some(2), Some(0))
    );
    assert_eq!(busy["write_bytes"].as_u64(), Some(2 * LEN as u64), "a put to two copies counts twice");
    assert_eq!(busy["servers"].as_array().map(Vec::len), Some(2));
    assert_eq!(ask(&["--by", "writes", "--limit", "1"]).len(), 1);
    assert!(ask(&["--by", "errors"]).is_empty());

    // One server alone tells its own part.
    let own = ask(&["--server", "1"]);
    assert!(own.iter().all(|row| row["servers"] == serde_json::json!([1])), "{own:?}");
    let unknown = top(&["--config", &config, "--server", "nobody"]);
    assert!(!unknown.status.success() && unknown.errors.contains("no storage server nobody"), "{}", unknown.errors);
    let table = top(&["--config", &config, "--by", "writes"]).expect_success("dgfs chunks top");
    assert!(table.starts_with("CHUNK") && table.contains("/dir/busy [0]"), "{table}");

    let saved = |server: u32| {
        let file = cluster.dir().join(format!("stored-{server}/chunk-uses"));
        metadata(file).is_ok_and(|file| file.len() > 60)
    };
    wait_until("every server saved its counts", SAVED, || (1..=3).all(saved));
    let before = ask(&["--by", "writes"]);
    cluster.kill9("stored-");
    cluster.start_the_dead();
    wait_until("the servers tell what they counted", SAVED, || {
        let words = ["--json", "--config", &config, "--by", "writes"];
        let told: Value = serde_json::from_str(&top(&words).output).unwrap_or_default();
        told["chunks"].as_array().is_some_and(|rows| of_file(rows, "/dir/busy") == of_file(&before, "/dir/busy"))
    });
}

#[test]
fn an_embedded_mount_tells_root_and_whoever_mounted_it_and_nobody_else() {
    let scratch = std::sync::Arc::new(Scratch::new("chunks"));
    let words = vec!["--data-dir".into(), scratch.join("data").into(), "-o".into(), "allow_other".into()];
    let mount = Mount::with_words(&scratch, "mnt", words);
    put_synced(&mount.join("secret name"), 1);
    write(mount.join("small"), "in the metadata").unwrap();
    let at = mount.path().to_str().unwrap();
    let told = rows(&[at, "--json", "--by", "bytes"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0]["path"].as_str(), told[0]["write_bytes"].as_u64()), (Some("/secret name"), Some(LEN as u64)));

    let other = Command::new(dgfs()).args(["chunks", "top", at]).uid(OTHER_UID).output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success() && said.contains("told to root and to whoever mounted"), "{said}");
    assert!(!said.contains("secret") && other.stdout.is_empty());

    for (words, sentence) in [
        (vec![at, "--by", "names"], "reads, writes, bytes, errors or recent"),
        (vec![at, "--limit", "0"], "--limit"),
        (vec![at, "--server", "77"], "no such storage server"),
        (vec!["/"], "is not on a DGFS mount"),
        (vec![], "--config"),
    ] {
        let refused = top(&words);
        assert!(!refused.status.success() && refused.errors.contains(sentence), "{words:?}: {}", refused.errors);
    }
}
