//! A cluster of storage servers: some are lost, stopped, damaged, wiped, added and drained, and nothing acknowledged is.
//!
//! Never more than is promised: with R copies R-1 servers may be away or not yet full. `DGFS_STORAGE_SEED` repeats the choices
//! (not the moments).

mod added;
mod coded;
mod compressed;
mod damaged;
mod filled;
mod joined;
mod links;
mod lost;
mod policies;
mod stopped;
mod under_load;
mod wiped;

use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::known::KnownFiles;
use dgfs_tests::ledger::Working;
use dgfs_tests::load::Progress;
use dgfs_tests::process::wait_until;
use dgfs_tests::rng::Rng;

/// Repeats the choices.
const SEED: &str = "DGFS_STORAGE_SEED";
/// Lengths of files: in the metadata, one small chunk, one whole one, several.
const LENS: [usize; 8] = [0, 3000, 4097, 100_000, 700_001, 4 << 20, (4 << 20) + 5, (9 << 20) + 1234];
/// Until a server that answers nothing is known to be down: 5 s of silence, on a loaded machine.
const KNOWN_DOWN: Duration = Duration::from_secs(30);
/// Until everything is redundant again once servers are back, with what these tests store.
const FULL_AGAIN: Duration = Duration::from_secs(120);
/// A read with servers away takes another copy at once; it may have to find out who is away.
const READ_AT_ONCE: Duration = Duration::from_secs(8);
/// A write waits until whom it needs is known to be down, and then for a stand-in.
const WRITES_GO_ON: Duration = Duration::from_secs(30);
/// A single call that waits longer than this hangs.
const CALL_MAX: Duration = Duration::from_secs(60);
/// Rounds of the ledger's writers that show that they go on.
const ROUNDS: u64 = 20;

fn cluster(servers: u32, replicas: u8) -> Cluster {
    Cluster::start(ClusterPlan { servers, replicas, ..ClusterPlan::default() })
}

fn go_on(who: &str, working: &mut Working<'_>) {
    let goal = working.rounds() + ROUNDS;
    wait_until(who, Duration::from_secs(90), || working.rounds() >= goal);
}

/// No read of a load was wrong, and none of its calls hangs.
#[track_caller]
fn assert_well(progress: &Progress) {
    assert!(progress.failures.is_empty(), "{}", progress.failures.join("\n"));
    assert!(progress.pending < CALL_MAX, "a call has not returned for {:?}", progress.pending);
    let (write, read) = progress.slowest;
    assert!(write < CALL_MAX && read < CALL_MAX, "the slowest write took {write:?}, the slowest read {read:?}");
}

/// The kernel forgets every page it has.
fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the kernel's caches: needs root");
}

/// A file's bytes as the servers have them.
fn read_whole(path: &std::path::Path) -> Vec<u8> {
    drop_caches();
    std::fs::read(path).expect("read a file")
}

/// So many different ones of `stored-1` to `stored-COUNT`.
fn pick(rng: &mut Rng, many: usize, count: usize) -> Vec<String> {
    let mut all: Vec<String> = (1..=count).map(|number| format!("stored-{number}")).collect();
    (0..many).map(|_| all.remove(rng.index(all.len()))).collect()
}

/// Reads everything by a mount that knows nothing yet; how long the slowest file took.
#[track_caller]
fn read_by_a_new_mount(cluster: &mut Cluster, files: &KnownFiles) -> Duration {
    let mut mount = cluster.mount();
    let slowest = files.read(mount.path()).unwrap();
    mount.umount();
    slowest
}
