//! Several index services that follow one log: each has the whole graph, and whichever answers is asked.
//!
//! Never asks a service directly: what a mount shows is what is tested.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::process::{run, wait_until};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// A second service, as another machine would have it: a directory and an address of its own.
fn add_second(cluster: &mut Cluster) {
    let first = fs::read_to_string(cluster.dir().join("index-1.toml")).unwrap();
    // Near a port that the kernel gives to nobody by itself: it is still free when the service is started again.
    let listen = first.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"');
    let (host, port) = listen.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let free = (port + 1..).find(|port| UdpSocket::bind((host, *port)).is_ok()).unwrap();
    let second = first.lines().map(|line| match line.split_once(" = ") {
        Some(("dir", _)) => "dir = \"index-2\"".to_owned(),
        Some(("listen", _)) => format!("listen = \"{host}:{free}\""),
        // On this machine, the port is the first one's.
        Some(("metrics_listen", _)) => String::new(),
        _ => line.to_owned(),
    });
    let second: Vec<String> = second.collect();
    fs::write(cluster.dir().join("index-2.toml"), second.join("\n")).unwrap();
    cluster.start_the_dead();
    assert!(cluster.daemons().iter().any(|(role, _)| role == "index-2"));
}

fn tag(path: &Path, tags: &str) {
    let words = ["-n", "user.xdg.tags", "-v", tags, path.to_str().unwrap()];
    let _ = run("setfattr", &words, PATIENCE).expect_success("setfattr");
}

fn names(directory: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(directory).ok()?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.ok()?.file_name().into_string().unwrap());
    }
    names.retain(|name| !name.starts_with('@'));
    names.sort();
    Some(names)
}

#[test]
fn of_two_indexes_either_may_be_killed_or_hang_and_both_say_the_same() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 1, ..ClusterPlan::default() });
    add_second(&mut cluster);
    let mount = cluster.mount();
    let sun = mount.join(".tags/sun");
    let mut expected = Vec::new();
    let mut tag_one = |name: &str| {
        fs::write(mount.join(name), name).unwrap();
        tag(&mount.join(name), "sun");
        expected.push(name.to_owned());
        expected.clone()
    };
    let shows = |expected: Vec<String>, when: &str| {
        wait_until(when, PATIENCE, || names(&sun) == Some(expected.clone()));
    };
    shows(tag_one("a"), "both run");
    cluster.kill9("index-1");
    shows(tag_one("b"), "the second one alone");
    cluster.start_the_dead();
    cluster.kill9("index-2");
    shows(tag_one("c"), "the first one alone, with what happened while it was away");
    cluster.start_the_dead();
    shows(tag_one("d"), "both again");
    for role in ["index-1", "index-2"] {
        cluster.signal(role, Signal::STOP);
        shows(tag_one(&format!("e-{role}")), "the other one while one hangs");
        cluster.signal(role, Signal::CONT);
    }
    drop(mount);
}
