//! Directories say how their files are stored.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;

use super::{FULL_AGAIN, read_whole};

pub(super) const COMMAND: Duration = Duration::from_secs(120);

pub(super) fn policy(words: &[&str], path: &Path) -> Outcome {
    let path = path.display().to_string();
    let mut all = vec!["policy", words[0], &path];
    all.extend(&words[1..]);
    run(dgfs(), &all, COMMAND)
}

/// Classes of a file's chunks.
pub(super) fn classes(file: &Path) -> Vec<String> {
    let info = run(dgfs(), &["info", "--json", &file.display().to_string()], COMMAND).expect_success("dgfs info");
    let value: serde_json::Value = serde_json::from_str(&info).unwrap();
    let chunks = value["chunks"].as_array().unwrap();
    chunks.iter().map(|chunk| chunk["class"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn new_data_follow_the_policy_of_the_nearest_directory_and_old_data_where_it_is_applied() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 4, replicas: 2, ..ClusterPlan::default() });
    let mount = cluster.mount();
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
    let path = |name: &str| mount.join(name);
    fs::create_dir_all(path("d/below")).unwrap();
    fs::write(path("d/before"), &bytes).unwrap();
    assert_eq!(classes(&path("d/before")), ["r2", "r2", "r2"]);

    let _ = policy(&["set", "--redundancy", "ec:2+1"], &path("d")).expect_success("policy set");
    fs::write(path("d/below/coded"), &bytes).unwrap();
    assert_eq!(classes(&path("d/below/coded")), ["ec:2+1", "ec:2+1", "ec:2+1"], "inherited, and at once");
    fs::write(path("small"), &bytes).unwrap();
    assert_eq!(classes(&path("small")), ["r2", "r2", "r2"], "beside it nothing changes");
    assert_eq!(classes(&path("d/before")), ["r2", "r2", "r2"], "what is there stays");
    let shown = policy(&["get"], &path("d/below/coded")).expect_success("policy get");
    assert!(shown.contains("redundancy ec:2+1") && shown.contains("/d)"), "{shown}");

    // What is written in pieces waits as copies until it is sealed.
    {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::create_new(path("d/pieces")).unwrap();
        for at in (0..8_u64).rev() {
            file.write_all_at(&bytes[..500_000], at * 500_000).unwrap();
            file.sync_all().unwrap();
        }
    }
    let sealed = || classes(&path("d/pieces")).iter().all(|class| class == "ec:2+1");
    wait_until("what waits as copies is coded", FULL_AGAIN, sealed);
    assert_eq!(read_whole(&path("d/pieces"))[..500_000], bytes[..500_000]);

    fs::create_dir_all(path("other/deep")).unwrap();
    let _ = policy(&["set", "--redundancy", "r1"], &path("other/deep")).expect_success("policy set");
    let _ = policy(&["set", "--availability", "99"], &path("other")).expect_success("policy set --availability");
    let listed = policy(&["ls"], &path("")).expect_success("policy ls");
    let mut lines = listed.lines();
    let mut line = || lines.next().unwrap_or_default().to_owned();
    assert!(line().starts_with("r2 ") && line().starts_with("ec:2+1 "), "{listed}");
    let target = line();
    assert!(target.contains("/other (for 99 %)") && line().ends_with("/other/deep"), "{listed}");
    let listed = policy(&["ls", "--json"], &path("other/deep")).expect_success("policy ls --json");
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["own"][0]["redundancy"], "r1", "{listed}");

    let _ = policy(&["set", "--redundancy", "r3", "--apply"], &path("d")).expect_success("policy set --apply");
    let usage = policy(&["usage", "--wait"], &path("d")).expect_success("policy usage --wait");
    assert!(usage.contains("r3") && usage.contains("0 chunks have another class"), "{usage}");
    for name in ["d/before", "d/below/coded"] {
        assert_eq!(classes(&path(name)), ["r3", "r3", "r3"], "{name}");
        assert!(read_whole(&path(name)) == bytes, "{name} has other bytes");
    }
    let _ = policy(&["unset"], &path("d")).expect_success("policy unset");
    fs::write(path("d/after"), &bytes).unwrap();
    assert_eq!(classes(&path("d/after")), ["r2", "r2", "r2"]);
    cluster.fsck().unwrap();
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused_with_what_is_missing() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 3, replicas: 2, ..ClusterPlan::default() });
    let mount = cluster.mount();
    let dir = mount.join("d");
    fs::create_dir(&dir).unwrap();
    for (words, sentence) in [
        (["set", "--redundancy", "r5"], "needs more storage servers"),
        (["set", "--redundancy", "ec:4+2"], "needs more storage servers"),
        (["set", "--redundancy", "r9"], "r1 to r5"),
        (["set", "--availability", "99.99999999"], "out of reach"),
    ] {
        let refused = policy(&words, &dir);
        assert!(!refused.status.success() && refused.errors.contains(sentence), "{words:?}: {refused:?}");
    }
    let shown = policy(&["set", "--availability", "99.95"], &dir).expect_success("a target within reach");
    assert!(shown.contains("chosen: ec:2+1"), "three servers without a record: {shown}");
    let shown = policy(&["get"], &dir).expect_success("policy get");
    assert!(shown.contains("ec:2+1") && shown.contains("99.95"), "{shown}");
    let outside = policy(&["set", "--redundancy", "r1"], Path::new("/tmp"));
    assert!(!outside.status.success() && outside.errors.contains("not on a DGFS mount"), "{outside:?}");
}
