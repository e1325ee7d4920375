//! A server comes and goes: data move no more than they must.

use std::path::Path;
use std::time::Duration;

use dgfs_tests::cluster::Cluster;
use dgfs_tests::cluster::servers::Server;
use dgfs_tests::known::KnownFiles;
use dgfs_tests::ledger::{Ledger, Promise};
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::rng::Rng;
use rustix::process::Signal;

use super::{FULL_AGAIN, KNOWN_DOWN, SEED, cluster, go_on, read_by_a_new_mount};

/// Files of one chunk each: enough for the share of one server to be near its expectation.
const FILES: usize = 2400;
/// Bytes of one.
const LEN: usize = 64 << 10;
/// Copies.
const COPIES: u8 = 3;

/// Writes all files, some at once.
fn fill(root: &Path, rng: &mut Rng) -> KnownFiles {
    const THREADS: usize = 6;
    let seeds: Vec<u64> = (0..THREADS).map(|_| rng.next()).collect();
    let written = std::thread::scope(|scope| {
        let write = |(at, seed): (usize, &u64)| {
            let mut rng = Rng::new(*seed);
            scope.spawn(move || KnownFiles::write(root, &format!("many{at}"), FILES / THREADS, &[LEN], &mut rng).0)
        };
        let threads: Vec<_> = seeds.iter().enumerate().map(write).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    KnownFiles(written)
}

fn fetched(servers: &[Server]) -> u64 {
    servers.iter().map(|server| server.fetched_bytes).sum()
}

/// Each of the servers has its share of the places, within 5 %.
#[track_caller]
fn assert_even(servers: &[Server], count: u64) {
    assert_eq!(servers.iter().filter(|server| server.places > 0).count() as u64, count, "{servers:?}");
    let all: u64 = servers.iter().map(|server| server.places).sum();
    for server in servers.iter().filter(|server| server.places > 0) {
        let share = all / count;
        assert!(
            server.places.abs_diff(share) * 20 <= share,
            "{} has {} places, not about {share}",
            server.name,
            server.places
        );
    }
}

/// Bytes of versions that a server has.
fn live_bytes(cluster: &Cluster, id: u64) -> u64 {
    let status = cluster.status();
    let stores = status["stores"].as_array().expect("a list of stores").iter();
    let found = stores.filter(|store| store["server"] == id).map(|store| store["live_bytes"].as_u64().expect("bytes"));
    found.sum()
}

#[track_caller]
fn assert_refused(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    let said = outcome.errors.lines().last().unwrap_or_default();
    assert!(said.starts_with("dgfs: ") && said.contains(words), "{words:?} is not in: {said}");
}

#[test]
fn a_sixth_server_takes_its_share_and_no_more_and_can_be_drained_and_removed() {
    let (mut rng, _) = Rng::announced(SEED);
    let mut cluster = cluster(5, COPIES);
    let mut mount = cluster.mount();
    let files = fill(mount.path(), &mut rng);
    let mut ledger = Ledger::new(mount.path(), 1, Promise::Returned, &mut rng);
    let copies = files.len_bytes() * u64::from(COPIES);
    let before = fetched(&cluster.server_list());
    let added = cluster.up_add();
    println!("{added}: full after {:?}", cluster.wait_until_full(FULL_AGAIN));
    let servers = cluster.server_list();
    assert_even(&servers, 6);
    let moved = fetched(&servers) - before;
    println!("{moved} of {copies} bytes moved: {:.3}", moved as f64 / copies as f64);
    assert!(moved * 60 <= copies * 12, "{moved} of {copies} bytes moved, more than 1.2 sixths");
    assert!(moved * 60 >= copies * 8, "{moved} of {copies} bytes moved, fewer than 0.8 sixths");
    read_by_a_new_mount(&mut cluster, &files);
    cluster.fsck().unwrap();
    drain_and_remove(&mut cluster, &added, &mut ledger, mount.path());
    assert_even(&cluster.server_list(), 5);
    ledger.verify(mount.path()).unwrap();
    mount.umount();
    read_by_a_new_mount(&mut cluster, &files);
    cluster.fsck().unwrap();
}

/// Under load.
fn drain_and_remove(cluster: &mut Cluster, name: &str, ledger: &mut Ledger, root: &Path) {
    let id = cluster.server(name).id;
    assert_refused(&cluster.server_command(&["remove", name]), "still holds data");
    let failures = ledger.work(root, |working| {
        go_on("writers before the drain", working);
        let config = cluster.dir().join("client.toml");
        let words = ["server".as_ref(), "drain".as_ref(), name.as_ref(), "--wait".as_ref(), "--config".as_ref()];
        let words: Vec<&std::ffi::OsStr> = words.into_iter().chain([config.as_os_str()]).collect();
        let _ = run(dgfs(), &words, FULL_AGAIN).expect_success("dgfs server drain --wait");
        let drained = cluster.server(name);
        assert_eq!((drained.places, drained.extras, &*drained.state), (0, 0, "drained"));
        go_on("writers after the drain", working);
    });
    assert!(failures.is_empty(), "{failures:?}");
    cluster.wait_until_full(FULL_AGAIN);
    wait_until("the drained server drops what it had", FULL_AGAIN, || {
        std::thread::sleep(Duration::from_millis(500));
        live_bytes(cluster, id) == 0
    });
    assert_refused(&cluster.server_command(&["remove", name]), "still runs");
    cluster.signal(name, Signal::TERM);
    cluster.wait_until_down(&[name], KNOWN_DOWN);
    let _ = cluster.server_command(&["remove", name]).expect_success("dgfs server remove");
    assert!(cluster.server_list().iter().all(|server| server.id != id));
}
