//! `dgfs stats`, `dgfs top` and `dgfs profile` of a mount and of a cluster under load.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, children, kill9, run, signal, wait, wait_until};
use dgfs_tests::program::dgfs;
use rustix::process::Signal;
use serde_json::Value;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);

fn call(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
    run(dgfs(), &words, COMMAND)
}

#[track_caller]
fn json(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Value {
    let text = call(words).expect_success("a command with --json");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is not in {value}"))
}

/// Writes files below `dir` for as long as `work` takes.
fn under_load<T>(mount: &Mount, work: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    let dir = mount.join("load");
    fs::create_dir_all(&dir).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let path = dir.join(format!("file{}", number % 50));
                fs::write(&path, vec![5; 64 << 10]).unwrap();
                assert_eq!(fs::read(&path).unwrap().len(), 64 << 10);
            }
        });
        let outcome = work();
        ended.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn a_mount_tells_what_it_did_what_it_does_and_for_whom() {
    let mut mount = Mount::embedded();
    fs::write(mount.join("file"), vec![1; 1 << 20]).unwrap();
    let stats = json(&[&"stats", &mount.path(), &"--json"]);
    assert!(number(&stats, "/written_bytes") >= f64::from(1 << 20), "{stats}");
    assert!(number(&stats, "/operations") > 0.0 && stats.pointer("/by_operation/0/p99_s").is_some(), "{stats}");
    let text = call(&[&"stats", &mount.path()]).expect_success("dgfs stats");
    assert!(text.contains("operations ") && text.contains("write "), "{text}");

    let top = under_load(&mount, || json(&[&"top", &mount.path(), &"--json", &"--interval", &"2s"]));
    assert!(number(&top, "/seconds") >= 2.0 && number(&top, "/written_bytes") > 0.0, "{top}");
    let process = top.pointer("/processes/0/process").and_then(Value::as_str).unwrap_or_default();
    assert!(process.starts_with(&format!("{} ", std::process::id())), "{top}");

    let profile = |by: &str| {
        under_load(&mount, || json(&[&"profile", &mount.path(), &"--seconds", &"1", &"--by", &by, &"--json"]))
    };
    let paths = profile("path");
    let entries = paths.get("entries").and_then(Value::as_array).unwrap();
    let below = |entry: &Value| entry.get("path").and_then(Value::as_str).is_some_and(|path| path.starts_with("/load"));
    assert!(entries.iter().any(below), "{paths}");
    let ops = profile("op");
    assert!(number(&ops, "/entries/0/count") > 0.0, "{ops}");
    mount.umount();
}

#[test]
fn a_cluster_tells_of_each_server_and_names_the_one_that_is_away() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let mount = cluster.mount();
    let config = cluster.dir().join("client.toml");
    let told = || json(&[&"stats", &"--config", &config, &"--json"]);
    // The index is known once it has asked for the log.
    wait_until("all daemons are known", COMMAND, || told()["servers"].as_array().is_some_and(|all| all.len() == 5));
    let top = under_load(&mount, || json(&[&"top", &"--config", &config, &"--json", &"--interval", &"2s"]));
    let servers = top.get("servers").and_then(Value::as_array).unwrap();
    assert_eq!(servers.len(), 5, "{top}");
    let written: f64 = servers.iter().filter_map(|server| server.get("written_bytes")?.as_f64()).sum();
    assert!(written > 0.0, "{top}");
    let stats = told();
    let active = |server: &&Value| server.get("active").and_then(Value::as_f64) == Some(1.0);
    assert_eq!(stats.get("servers").and_then(Value::as_array).unwrap().iter().filter(active).count(), 1, "{stats}");

    let (_, pid) = cluster.daemons().into_iter().find(|(role, _)| role == "stored-2").unwrap();
    kill9(pid);
    let partial = call(&[&"stats", &"--config", &config]);
    assert_eq!(partial.status.code(), Some(1), "{}", partial.errors);
    assert!(partial.output.contains("AWAY") && partial.output.contains("stored 1 ("), "{}", partial.output);
    assert!(partial.errors.contains("stored 2 (") && partial.errors.contains("does not answer"), "{}", partial.errors);
    let top = call(&[&"top", &"--config", &config, &"--interval", &"100ms"]);
    assert_eq!(top.status.code(), Some(1), "{}", top.errors);
    assert!(top.output.contains("AWAY") && !top.output.contains('\u{1b}'), "{}", top.output);
    assert!(top.errors.contains("stored 2 (") && top.errors.contains("does not answer"), "{}", top.errors);
    let top = call(&[&"top", &"--config", &config, &"--interval", &"100ms", &"--json", &"--once"]);
    assert_eq!(top.status.code(), Some(1), "{}", top.errors);
    let view: Value = serde_json::from_str(&top.output).unwrap();
    let away = |server: &Value| {
        server["server"].as_str().is_some_and(|name| name.contains("stored 2 (")) && server["error"].is_string()
    };
    assert!(view["servers"].as_array().unwrap().iter().any(away), "{view}");
}

#[test]
fn a_terminal_is_given_back_as_it_was_after_an_interrupt() {
    let mount = Mount::embedded();
    // `script` gives it a terminal; the interrupt comes as ^C would.
    let line = format!("timeout -s INT 3 {} top {} --interval 500ms", dgfs().display(), mount.path().display());
    let words = ["-qec", &line, "/dev/null"];
    let shown = run("script", &words, COMMAND).output;
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    assert!(shown.contains(enter) && shown.contains("operations "), "{shown:?}");
    let after = shown.rsplit_once(leave).unwrap_or_else(|| panic!("the terminal is not given back: {shown:?}")).1;
    assert!(!after.contains(enter) && shown.contains("\u{1b}[?25h"), "{shown:?}");
}

#[test]
fn it_ends_when_it_is_asked_to_although_the_mount_does_not_answer() {
    let mount = Mount::embedded();
    signal(mount.pid(), Signal::STOP);
    let mut top = Command::new(dgfs()).arg("top").arg(mount.path()).stderr(Stdio::null()).spawn().unwrap();
    // Once its asker is there, it waits for the mount.
    wait_until("the mount is asked", COMMAND, || !children(top.id()).is_empty());
    signal(top.id(), Signal::TERM);
    let ended = wait(&mut top, COMMAND);
    signal(mount.pid(), Signal::CONT);
    assert!(ended.is_some(), "it did not end");
}

#[test]
fn wrong_words_get_a_sentence() {
    assert!(call(&[&"top"]).errors.contains("--config"));
    assert!(call(&[&"top", &"/", &"--interval", &"1m"]).errors.contains("100ms to 20s"));
    assert!(call(&[&"stats", &"/"]).errors.contains("is not on a DGFS mount"));
    assert!(call(&[&"profile", &"/", &"--by", &"colour"]).errors.contains("process"));
}
