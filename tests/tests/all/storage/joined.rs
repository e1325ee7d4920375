//! A machine joins with an address and a token.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, kill9, log_file, run, spawn, wait};
use dgfs_tests::program::dgfs;

use super::FULL_AGAIN;

const COMMAND: Duration = Duration::from_secs(60);

fn dgfs_says(words: &[&str]) -> Outcome {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    run(dgfs(), &words, COMMAND)
}

fn token(cluster: &Cluster, role: &str, valid: &str) -> String {
    let authority = cluster.dir().join("ca").display().to_string();
    let made = dgfs_says(&["cluster", "token", "--ca", &authority, "--role", role, "--valid", valid]);
    made.expect_success("dgfs cluster token").trim().to_owned()
}

fn join(cluster: &Cluster, token: &str, into: &Path, more: &[&str]) -> Outcome {
    let address = fs::read_to_string(cluster.dir().join("join")).expect("dgfs up writes where machines join");
    let into = into.display().to_string();
    let mut words = vec!["join", "--token", token, "--meta", address.trim(), "--dir", &into, "--host", "127.0.0.1"];
    words.extend(more);
    dgfs_says(&words)
}

#[track_caller]
fn refused(outcome: &Outcome, sentence: &str) {
    assert!(!outcome.status.success() && outcome.errors.contains(sentence), "{outcome:?}");
}

#[test]
fn a_machine_joins_by_a_token_once_and_stores_and_mounts_with_what_it_got() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, replicas: 2, ..ClusterPlan::default() });
    let scratch = cluster.scratch().clone();
    let (nas, again, laptop) = (scratch.join("nas"), scratch.join("again"), scratch.join("laptop"));
    let stored = token(&cluster, "stored", "1h");
    let _ = join(&cluster, &stored, &nas, &["--name", "nas", "--zone", "cellar", "--listen", "127.0.0.1:0"])
        .expect_success("dgfs join");
    refused(&join(&cluster, &stored, &again, &[]), "was used already");
    assert!(!again.join("cert.pem").exists());
    refused(&join(&cluster, "dgfsjoin1.00", &again, &[]), "token");

    let mut daemon = Command::new(dgfs());
    daemon.arg("stored").arg("--config").arg(nas.join("stored.toml")).stderr(log_file(&scratch.join("nas.log")));
    let mut daemon = spawn(daemon).unwrap();
    cluster.wait_for_servers("the new server takes part and is full", FULL_AGAIN, |servers, _| {
        servers.iter().any(|server| server.name == "nas" && server.state == "up" && server.places > 0)
    });
    let mount = cluster.mount();
    fs::write(mount.join("file"), vec![7; 300_000]).unwrap();

    let client = token(&cluster, "client", "1h");
    let _ = join(&cluster, &client, &laptop, &[]).expect_success("dgfs join of a client");
    let words = vec![OsString::from("--config"), laptop.join("client.toml").into_os_string()];
    let second = Mount::with_words(&scratch, "laptop-mnt", words);
    assert_eq!(fs::read(second.join("file")).unwrap(), vec![7; 300_000]);
    drop(second);

    kill9(daemon.id());
    let _ended = wait(&mut daemon, COMMAND);
}
