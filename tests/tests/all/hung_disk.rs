//! A disk that hangs under many writers: the storage daemon tells of it, and nothing acknowledged is lost.
//!
//! Never asserts a time: it waits for numbers.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faulty_disk::FaultyDisk;
use dgfs_tests::http::get;
use dgfs_tests::monitored::with_metrics;
use dgfs_tests::process::wait_until;
use dgfs_tests::rng::Rng;

/// MiB of the disk.
const DISK_MIB: u64 = 256;
/// Writers, each with a file of its own: more than the daemon has threads for its disk.
const WRITERS: usize = 64;
/// Bytes of a file.
const BYTES: usize = 100_000;
/// Files that each writer makes.
const FILES: usize = 200;
/// Longer than a storage daemon may be silent before it is taken for dead.
const HUNG_S: f64 = 8.0;
const PATIENCE: Duration = Duration::from_secs(120);

/// A number of the daemon; none while it does not answer.
fn number(address: &str, name: &str) -> Option<f64> {
    let (200, text) = get(address, "/metrics").ok()? else { return None };
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn write(root: &Path, name: &str, seed: usize) -> io::Result<()> {
    let mut file = File::create(root.join(name))?;
    file.write_all(&content(seed))?;
    file.sync_all()
}

fn content(seed: usize) -> Vec<u8> {
    Rng::new(seed as u64 + 1).bytes(BYTES)
}

#[test]
fn a_disk_that_hangs_under_many_writers_is_told_and_loses_nothing_acknowledged() {
    let mut disk = FaultyDisk::new(DISK_MIB);
    let mut cluster = Cluster::start(ClusterPlan::default());
    cluster.move_data("stored-1", &disk.path().join("store"));
    let targets = with_metrics(&mut cluster);
    let stored = targets.into_iter().find(|target| target.name == "stored-1").expect("a storage daemon").address;
    let mount = cluster.mount();
    let (begun, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hung = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (root, begun, answered) = (mount.path().to_owned(), Arc::clone(&begun), Arc::clone(&answered));
            let hung = Arc::clone(&hung);
            thread::spawn(move || {
                let mut acknowledged = Vec::new();
                // Until it hangs, and once more then.
                for number in 0..FILES {
                    let is_last = hung.load(Ordering::SeqCst) > 0;
                    begun.fetch_add(usize::from(is_last), Ordering::SeqCst);
                    let (name, seed) = (format!("{writer}-{number}"), writer * FILES + number);
                    if write(&root, &name, seed).is_ok() {
                        acknowledged.push((name, seed));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    if is_last {
                        break;
                    }
                }
                acknowledged
            })
        })
        .collect();
    wait_until("writers are answered", PATIENCE, || answered.load(Ordering::SeqCst) > 0);
    disk.hang_writes();
    hung.store(1, Ordering::SeqCst);
    // A daemon that hangs with its disk would not answer, and its heartbeats would end.
    wait_until("the daemon tells of its disk, and meta hears of it", PATIENCE, || {
        number(&stored, "dgfs_stored_disk_waiting_seconds").is_some_and(|waiting| waiting >= HUNG_S)
            && number(&stored, "dgfs_stored_meta_silent_seconds").is_some_and(|silent| silent <= 2.0)
    });
    let before = number(&stored, "dgfs_stored_disk_waiting_seconds").expect("an answer while the disk hangs");
    wait_until("the number grows", PATIENCE, || {
        number(&stored, "dgfs_stored_disk_waiting_seconds").is_some_and(|waiting| waiting > before)
    });
    disk.go_on();
    let acknowledged: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect();
    wait_until("nobody waits for the disk", PATIENCE, || {
        number(&stored, "dgfs_stored_disk_waiting_seconds") == Some(0.0)
    });
    let reader = cluster.mount();
    for (name, seed) in &acknowledged {
        let found = fs::read(reader.path().join(name)).unwrap_or_else(|error| panic!("read {name}: {error}"));
        assert!(found == content(*seed), "{name} is not what was written");
    }
    println!(
        "{} files were acknowledged, {} writes began while the disk hung",
        acknowledged.len(),
        begun.load(Ordering::SeqCst)
    );
}
