//! Many mounts, one truth: what one mount does, the others see when its call returns, from warm caches.
//!
//! Never waits for anything to become true: each look follows the call it must see. Two mounts take turns (or run against
//! each other) while a third stirs the same directory. `DGFS_LONG=1` takes ten times the rounds.

mod ahead;
mod data;
mod history;
mod locks;
mod programs;
mod races;
mod seen;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::program::is_long;
use dgfs_tests::rng::Rng;

/// Three mounts of one cluster.
struct Trio {
    a: Mount,
    b: Mount,
    c: Mount,
    // Last: the mounts end before their cluster.
    cluster: Cluster,
}

impl Trio {
    fn new() -> Self {
        Self::of(ClusterPlan::default())
    }

    fn of(plan: ClusterPlan<'_>) -> Self {
        let mut cluster = Cluster::start(plan);
        let (a, b, c) = (cluster.mount(), cluster.mount(), cluster.mount());
        Self { a, b, c, cluster }
    }

    /// Runs `work` in directory `name` of mounts a and b, while c makes, renames, lists, writes and removes files of its own in
    /// the same directory.
    fn stirred(&self, name: &str, work: impl FnOnce(&Path, &Path)) {
        fs::create_dir(self.a.join(name)).unwrap();
        let done = AtomicBool::new(false);
        let stirs = AtomicU64::new(0);
        thread::scope(|scope| {
            let stirrer = scope.spawn(|| stir(&self.c.join(name), &done, &stirs));
            // Ends the stirrer also when `work` panics.
            let _end = EndOnDrop(&done);
            work(&self.a.join(name), &self.b.join(name));
            drop(_end);
            stirrer.join().unwrap();
        });
        assert!(stirs.load(Ordering::Relaxed) > 0, "the third mount never came to stir");
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn stir(directory: &Path, done: &AtomicBool, stirs: &AtomicU64) {
    let mut rng = Rng::new(7);
    let path = |rng: &mut Rng| directory.join(format!("stirred{}", rng.below(8)));
    while !done.load(Ordering::Acquire) {
        match rng.below(5) {
            0 => drop(File::create(path(&mut rng)).and_then(|mut file| file.write_all(b"stirred"))),
            1 => drop(fs::rename(path(&mut rng), path(&mut rng))),
            2 => drop(fs::remove_file(path(&mut rng))),
            3 => drop(fs::read_dir(directory).map(|entries| entries.count())),
            _ => drop(fs::read(path(&mut rng))),
        }
        stirs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Rounds of a loop.
fn rounds(short: u64) -> u64 {
    if is_long() { short * 10 } else { short }
}

/// Names in a directory, without what the third mount stirs.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("stirred"))
        .collect();
    names.sort();
    names
}

/// Runs both at the same moment; their answers.
fn at_once<T: Send>(one: impl FnOnce() -> T + Send, other: impl FnOnce() -> T + Send) -> (T, T) {
    let start = Barrier::new(2);
    let start = &start;
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            start.wait();
            one()
        });
        start.wait();
        let second = other();
        (first.join().unwrap(), second)
    })
}

/// The same name below both.
fn both(one: &Path, other: &Path, name: &str) -> (PathBuf, PathBuf) {
    (one.join(name), other.join(name))
}
