//! `dgfs doctor` finds nothing in a healthy cluster, and names what was broken with the command that mends it;
//! `dgfs debug bundle` has what everybody told and no secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run, signal, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::scratch::Scratch;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long anything may take until it is seen, or is so no more: a call that failed while daemons began counts for a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// What only the cluster may know.
const SECRET: &str = "hunter2-of-the-cluster";

fn of_cluster(words: &[&str], cluster: &Cluster) -> Outcome {
    let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
    all.extend(["--config".into(), cluster.dir().join("client.toml").into_os_string()]);
    run(dgfs(), &all, COMMAND)
}

/// Those findings that are no `ok`, by check; the exit code must fit.
#[track_caller]
fn findings(outcome: &Outcome) -> BTreeMap<String, Value> {
    let report: Value = serde_json::from_str(&outcome.output).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    let all = report["findings"].as_array().expect("a list").clone();
    let is_ok = |finding: &Value| finding["severity"] == "ok";
    assert!(all.iter().any(is_ok), "checks that find nothing say so: {report}");
    let found: Vec<Value> = all.into_iter().filter(|finding| !is_ok(finding)).collect();
    let counted = report["errors"].as_u64().unwrap() + report["warnings"].as_u64().unwrap();
    assert_eq!(counted, found.len() as u64);
    assert_eq!(outcome.status.code(), Some(i32::from(!found.is_empty())), "{report}");
    for finding in &found {
        assert!(finding["command"].as_str().is_some_and(|command| !command.is_empty()), "{finding}");
    }
    found.into_iter().map(|finding| (finding["check"].as_str().unwrap().to_owned(), finding)).collect()
}

#[track_caller]
fn assert_told(found: &BTreeMap<String, Value>, check: &str, sentence: &str, command: &str) {
    let finding = found.get(check).unwrap_or_else(|| panic!("{check} is not among {found:?}"));
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(text("sentence").contains(sentence) && text("command").contains(command), "{finding}");
}

/// Every entry of a bundle, by its name.
fn entries(bundle: &Path, into: &Path) -> BTreeMap<String, String> {
    let words: [&std::ffi::OsStr; 4] = ["-xzf".as_ref(), bundle.as_ref(), "-C".as_ref(), into.as_ref()];
    let _ = run("tar", &words, COMMAND).expect_success("unpack a bundle");
    let (mut found, mut left) = (BTreeMap::new(), vec![into.join("dgfs-debug")]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                left.push(entry);
            } else {
                let name = entry.strip_prefix(into.join("dgfs-debug")).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&entry).unwrap());
            }
        }
    }
    found
}

fn bundle(cluster: &Cluster, file: &Path) -> Outcome {
    of_cluster(&["debug", "bundle", "-o", &file.display().to_string()], cluster)
}

/// Everybody is known and answers: two metadata services, two storage servers, one index.
fn wait_until_healthy(cluster: &Cluster) {
    let mut last = String::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let outcome = of_cluster(&["doctor", "--json"], cluster);
        if outcome.status.success() {
            let _ = findings(&outcome);
            let logs = of_cluster(&["stats", "--json"], cluster).expect_success("dgfs stats");
            let servers: Value = serde_json::from_str(&logs).unwrap();
            if servers["servers"].as_array().is_some_and(|servers| servers.len() == 5) {
                return;
            }
        }
        last.clone_from(&outcome.output);
        assert!(std::time::Instant::now() < deadline, "a healthy cluster has findings: {last}");
    }
}

#[test]
fn a_cluster_is_judged_and_a_bundle_tells_all_but_secrets() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, replicas: 2, ..ClusterPlan::default() });
    let mut mount = cluster.mount();
    fs::write(mount.join("file"), vec![1; 1 << 20]).unwrap();
    wait_until_healthy(&cluster);
    let text = of_cluster(&["doctor"], &cluster).expect_success("dgfs doctor");
    assert!(text.lines().all(|line| line.starts_with("ok ")) && text.contains("every daemon answers"), "{text}");

    // What a bundle has of a healthy cluster.
    let scratch = cluster.scratch().clone();
    fs::write(cluster.dir().join("extra.toml"), format!("password = \"{SECRET}\"\nurl = \"redis://me:{SECRET}@x\"\n"))
        .unwrap();
    let file = scratch.join("bundle.tar.gz");
    let made = bundle(&cluster, &file).expect_success("dgfs debug bundle");
    assert_eq!(made.trim(), file.display().to_string());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let told = entries(&file, &scratch.dir("unpacked"));
    let with = |end: &str| told.keys().filter(|name| name.starts_with("daemons/") && name.ends_with(end)).count();
    assert_eq!((with("/facts.json"), with("/metrics.txt"), with("/logs.jsonl")), (5, 5, 5), "{:?}", told.keys());
    assert!(told.iter().any(|(name, text)| name.ends_with("/metrics.txt") && text.contains("dgfs_meta_active 1")));
    assert!(told.iter().any(|(name, text)| name.ends_with("/logs.jsonl") && text.contains("storage daemon listens")));
    for name in ["doctor.json", "versions.json", "cluster/status.json", "cluster/events.jsonl", "config/client.toml"] {
        assert!(told.get(name).is_some_and(|text| text.len() > 2), "{name} of {:?}", told.keys());
    }
    assert!(told.keys().any(|name| name.starts_with("mounts/") && name.ends_with("/stats.json")), "{:?}", told.keys());
    assert!(told["MISSING.txt"].starts_with("Nothing is missing.\n\nNot looked at:\n"), "{}", told["MISSING.txt"]);
    assert_no_secret(&cluster, &told);

    let again = bundle(&cluster, &file);
    assert_eq!(again.status.code(), Some(3), "{}", again.errors);
    assert!(again.errors.contains("is there already"), "{}", again.errors);

    let link = scratch.join("dangling.tar.gz");
    std::os::unix::fs::symlink(scratch.join("nowhere"), &link).unwrap();
    let dangling = bundle(&cluster, &link);
    assert_eq!(dangling.status.code(), Some(3), "{}", dangling.errors);
    assert!(dangling.errors.contains("leads to nothing"), "{}", dangling.errors);

    // What is broken is named, and what mends it.
    mount.kill9();
    cluster.kill9_all(&["stored-2"]);
    let _ = cluster.redis.command("CONFIG SET appendonly no");
    let mut found = BTreeMap::new();
    wait_until("the metadata service saw both", PATIENCE, || {
        found = findings(&of_cluster(&["doctor", "--json"], &cluster));
        ["answers", "servers", "redis", "partitions"].iter().all(|check| found.contains_key(*check))
    });
    let up = format!("dgfs up {}", cluster.dir().display());
    assert_told(&found, "answers", "does not answer", &up);
    assert_told(&found, "servers", "is down", &up);
    assert_told(&found, "redis", "appendonly no", "CONFIG SET appendonly yes");
    assert_told(&found, "partitions", "lack copies", "server ls");
    let partial = bundle(&cluster, &scratch.join("partial.tar.gz"));
    assert_eq!(partial.status.code(), Some(1), "{}", partial.errors);
    assert!(partial.errors.contains("stored 2 (") && partial.errors.contains("does not answer"), "{}", partial.errors);
    let told = entries(&scratch.join("partial.tar.gz"), &scratch.dir("partial"));
    let lines = told["MISSING.txt"].lines();
    assert_eq!(lines.filter(|line| line.contains("stored 2 (")).count(), 1, "{}", told["MISSING.txt"]);
    assert!(told["MISSING.txt"].contains(&mount.path().display().to_string()), "{}", told["MISSING.txt"]);
    let from_disk = |name: &&String| name.ends_with("/log-from-disk.txt") && name.contains("stored_2");
    assert!(told.keys().any(|name| from_disk(&name)), "{:?}", told.keys());
    assert_no_secret(&cluster, &told);
    assert!(told["doctor.json"].contains("appendonly no"));

    // The commands mend it.
    let _ = cluster.redis.command("CONFIG SET appendonly yes");
    cluster.start_the_dead();
    mount.start();
    wait_until_healthy(&cluster);
    mount.umount();
    a_daemon_that_hangs_is_told_from_one_that_is_gone(&cluster);
}

/// It runs and does not answer: it is not said to be started, and the commands are those that make it answer.
fn a_daemon_that_hangs_is_told_from_one_that_is_gone(cluster: &Cluster) {
    let (_, pid) = cluster.daemons().into_iter().find(|(role, _)| role == "stored-2").unwrap();
    let up = || run(dgfs(), &["up".as_ref(), cluster.dir().as_os_str()], COMMAND);
    assert!(up().status.success(), "all answer");
    signal(pid, Signal::STOP);
    let hanging = up();
    let found = findings(&of_cluster(&["doctor", "--json"], cluster));
    signal(pid, Signal::CONT);
    assert_eq!(hanging.status.code(), Some(1), "{hanging:?}");
    assert!(hanging.errors.contains(&format!("stored-2 runs as {pid} but does not answer")), "{}", hanging.errors);
    assert!(hanging.errors.contains(&format!("kill -CONT {pid}")), "{}", hanging.errors);
    assert_told(&found, "answers", &format!("{pid} was stopped"), &format!("kill -CONT {pid}"));
}

/// Neither a key of the cluster nor a password of its files is in any entry.
fn assert_no_secret(cluster: &Cluster, told: &BTreeMap<String, String>) {
    let mut secrets = vec![SECRET.to_owned()];
    let mut left = vec![cluster.dir().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                left.push(entry);
            } else if entry.extension().is_some_and(|end| end == "key" || end == "token")
                || entry.file_name().is_some_and(|name| name == "key.pem")
            {
                let text = fs::read_to_string(&entry).unwrap();
                secrets
                    .extend(text.lines().filter(|line| !line.starts_with("-----")).map(|line| line.trim().to_owned()));
            }
        }
    }
    assert!(secrets.len() > 6, "the cluster has keys and a token: {}", secrets.len());
    for (name, text) in told {
        let leaked = secrets.iter().filter(|secret| secret.len() >= 8).find(|secret| text.contains(secret.as_str()));
        assert!(leaked.is_none() && !text.contains("BEGIN PRIVATE KEY"), "{name} has a secret");
    }
}

#[test]
fn a_mount_that_hangs_is_named_and_nobody_waits_for_it() {
    let mut mount = Mount::embedded();
    let ask =
        |mount: &Mount| run(dgfs(), &["doctor".into(), "--json".into(), mount.path().as_os_str().to_owned()], COMMAND);
    assert_eq!(findings(&ask(&mount)), BTreeMap::new());

    signal(mount.pid(), Signal::STOP);
    let found = findings(&ask(&mount));
    let commands: [&[&str]; 8] = [
        &["stats"],
        &["logs"],
        &["top", "--once"],
        &["profile", "--seconds", "1"],
        &["status"],
        &["info"],
        &["policy", "get"],
        &["umount"],
    ];
    std::thread::scope(|scope| {
        for words in commands {
            let words: Vec<OsString> =
                words.iter().map(OsString::from).chain([mount.path().as_os_str().to_owned()]).collect();
            scope.spawn(move || {
                let outcome = run(dgfs(), &words, COMMAND);
                assert_eq!(outcome.status.code(), Some(3), "{words:?}: {outcome:?}");
                assert!(outcome.errors.contains("does not answer within 5 s"), "{words:?}: {}", outcome.errors);
            });
        }
    });
    let scratch = Scratch::new("hanging");
    let file = scratch.join("hanging.tar.gz");
    let words = ["debug".as_ref(), "bundle".as_ref(), "-o".as_ref(), file.as_os_str(), mount.path().as_os_str()];
    let made = run(dgfs(), &words, COMMAND);
    signal(mount.pid(), Signal::CONT);
    assert_eq!(made.status.code(), Some(1), "{made:?}");
    assert!(made.errors.contains("does not answer"), "{}", made.errors);
    let told = entries(&file, &scratch.dir("unpacked"));
    assert!(
        told.iter().any(|(name, text)| name.ends_with("/log-from-disk.txt") && text.contains("mounted")),
        "{told:?}"
    );
    let point = mount.path().display().to_string();
    assert_told(&found, "mounts", &format!("{point} does not answer"), &format!("umount --lazy {point}"));

    mount.kill9();
    assert_told(&findings(&ask(&mount)), "mounts", "is dead", "dgfs umount");
    mount.start();
    assert_eq!(findings(&ask(&mount)), BTreeMap::new());
    mount.umount();
}

#[test]
fn who_asks_wrongly_is_told() {
    let scratch = Scratch::new("doctor");
    let ask = |words: &[&str]| run(dgfs(), words, COMMAND);
    let nowhere = scratch.path().display().to_string();
    let none = ask(&["doctor", &nowhere]);
    assert_eq!(none.status.code(), Some(3), "{}", none.errors);
    assert!(none.errors.contains("is not on a DGFS mount"), "{}", none.errors);
    let missing = ask(&["doctor", "--config", &format!("{nowhere}/client.toml")]);
    assert_eq!(missing.status.code(), Some(3), "{}", missing.errors);
    assert_eq!(ask(&["doctor", "--bogus"]).status.code(), Some(2));

    let file = scratch.join("none.tar.gz");
    let unmade =
        ask(&["debug", "bundle", "-o", &file.display().to_string(), "--config", &format!("{nowhere}/client.toml")]);
    assert_eq!(unmade.status.code(), Some(3), "{}", unmade.errors);
    assert!(!file.exists(), "a bundle that could not be filled is taken away");
}
