//! A disk that hangs under several writers: others stand in for its server, which tells of it, and nothing acknowledged is lost.
//!
//! Never asserts a time: it waits for numbers, and for each writer to be answered.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faulty_disk::FaultyDisk;
use dgfs_tests::http::get;
use dgfs_tests::monitored::{Target, with_metrics};
use dgfs_tests::process::wait_until;
use dgfs_tests::rng::Rng;

/// MiB of the disk.
const DISK_MIB: u64 = 512;
/// Writers, each with files of its own: more than the daemon has threads for calls.
const WRITERS: usize = 8;
/// Bytes of a file.
const BYTES: usize = 50_000;
/// Files that a writer keeps: older ones are removed.
const FILES_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the writers and lets the disk go on before the cluster is ended, also after a panic: nobody can kill what waits for a disk.
struct EndOnDrop<'a> {
    ends: &'a AtomicBool,
    disk: &'a mut FaultyDisk,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.disk.go_on();
    }
}

/// Numbers of one process.
struct Page(String);

impl Page {
    /// Of the series that `name` begins; none while the process does not answer, or has no such series.
    fn number(&self, name: &str) -> Option<f64> {
        let (200, text) = get(&self.0, "/metrics").ok()? else { return None };
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

fn content(writer: usize, number: u64) -> Vec<u8> {
    Rng::new((writer as u64) << 32 | (number + 1)).bytes(BYTES)
}

/// Writes until told to end; the files that were acknowledged and are there.
fn write(root: &Path, writer: usize, ends: &AtomicBool, answered: &AtomicU64) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        let path = PathBuf::from(format!("{writer}-{number}"));
        let mut file = File::create(root.join(&path))?;
        file.write_all(&content(writer, number))?;
        file.sync_all()?;
        acknowledged.push((path, number));
        answered.fetch_add(1, Ordering::SeqCst);
        if acknowledged.len() > FILES_MAX {
            fs::remove_file(root.join(acknowledged.remove(0).0))?;
        }
    }
    Ok(acknowledged)
}

#[test]
fn writers_go_on_while_a_disk_hangs_and_its_server_tells_of_it() {
    let mut disk = FaultyDisk::new(DISK_MIB);
    let mut cluster = Cluster::start(ClusterPlan { servers: 3, replicas: 2, ..ClusterPlan::default() });
    cluster.move_data("stored-1", &disk.path().join("store"));
    let targets = with_metrics(&mut cluster);
    let page = |target: &Target| Page(target.address.clone());
    let stored = targets.iter().find(|target| target.name == "stored-1").map(page).expect("a storage daemon");
    let metas: Vec<Page> = targets.iter().filter(|target| target.name.starts_with("meta-")).map(page).collect();
    let down =
        || metas.iter().filter_map(|meta| meta.number("dgfs_meta_storage_servers{state=\"down\"}")).fold(0.0, f64::max);
    let mount = cluster.mount();
    let (ends, answered) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WRITERS]);
    let acknowledged = thread::scope(|scope| {
        let (root, ends, answered) = (mount.path(), &ends, &answered);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || (writer, write(root, writer, ends, &answered[writer]))))
            .collect();
        let end = EndOnDrop { ends, disk: &mut disk };
        let counts = || answered.each_ref().map(|of| of.load(Ordering::SeqCst));
        // What was begun before may be answered yet: two more are begun later.
        let all_go_on = |since: [u64; WRITERS]| counts().iter().zip(since).all(|(now, then)| *now >= then + 3);
        wait_until("each writer is answered", PATIENCE, || all_go_on([0; WRITERS]));
        // Meta forgets who has not announced itself for 30 s.
        for (is_device, long_s) in [(true, 12.0), (false, 36.0)] {
            if is_device {
                end.disk.hang_device()
            } else {
                end.disk.hang_writes()
            }
            wait_until("the daemon tells of its disk, and others stand in", PATIENCE, || {
                stored.number("dgfs_stored_disk_waiting_seconds").is_some_and(|waiting| waiting >= 10.0)
                    && down() == 1.0
            });
            let since = counts();
            wait_until("each writer goes on while the disk hangs", PATIENCE, || all_go_on(since));
            wait_until("it goes on telling, and meta is within reach and tells of it", PATIENCE, || {
                stored.number("dgfs_stored_disk_waiting_seconds").is_some_and(|waiting| waiting >= long_s)
                    && stored.number("dgfs_stored_meta_silent_seconds").is_some_and(|silent| silent <= 3.0)
                    && metas
                        .iter()
                        .any(|meta| get(&meta.0, "/sd").is_ok_and(|(_, targets)| targets.contains(&stored.0)))
            });
            end.disk.go_on();
            wait_until("nobody waits for the disk, and its server is back", PATIENCE, || {
                down() == 0.0 && stored.number("dgfs_stored_disk_waiting_seconds").is_some_and(|waiting| waiting < 10.0)
            });
            let since = counts();
            wait_until("each writer goes on afterwards", PATIENCE, || all_go_on(since));
        }
        drop(end);
        let ended = writers.into_iter().map(|writer| writer.join().expect("a writer"));
        ended.map(|(writer, files)| (writer, files.expect("no error while the disk hung"))).collect::<Vec<_>>()
    });
    let reader = cluster.mount();
    let mut files = 0;
    for (writer, of) in &acknowledged {
        for (path, number) in of {
            let found =
                fs::read(reader.path().join(path)).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
            assert!(found == content(*writer, *number), "{} is not what was written", path.display());
            files += 1;
        }
    }
    println!("{files} files that were acknowledged are there");
}
