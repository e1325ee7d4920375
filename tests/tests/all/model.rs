//! Random operations on a mount and on a local directory must come out alike.
//!
//! Never knows what is right: the local file system (ext4, xfs, btrfs…) does. Results, errno, attributes, the movement of time
//! stamps and contents are compared after each operation, whole trees from time to time and after a remount.
//!
//! `DGFS_MODEL_SEED` repeats a run; `DGFS_MODEL_SECS` makes it longer (hours, if you like).

mod op;
mod side;
mod tree;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;
use dgfs_tests::scratch::Scratch;
use rustix::fs::OFlags;

use self::op::{Chooser, Op, SLOTS, Shape, Slot};
use self::side::{Side, Witness};
use self::tree::difference;

/// Operations between two comparisons of everything.
const OPS_PER_TREE: u64 = 400;
/// Operations between two times the kernel forgets names.
const OPS_PER_FORGET: u64 = 900;
/// Operations between two remounts.
const OPS_PER_REMOUNT: u64 = 6_000;
/// An operation that takes longer waits for something it should not wait for.
const SLOW: Duration = Duration::from_secs(10);
/// How far a reader may lag behind what another mount wrote and closed.
const LAG: Duration = Duration::from_millis(1500);
/// Threads on one mount.
const THREADS: usize = 4;
/// Operations told when both sides differ.
const HISTORY: usize = 120;

#[test]
fn an_embedded_mount_with_small_chunks_behaves_like_a_local_directory() {
    let shape = Shape { chunk: 64 << 10, size_max: 1 << 20, write_max: 200 << 10 };
    let mount = Mount::embedded_with_chunks(shape.chunk as u32);
    run(&mut [mount], shape, seconds("DGFS_MODEL_SECS", 25, 600));
}

#[test]
fn an_embedded_mount_behaves_like_a_local_directory() {
    let shape = Shape { chunk: 4 << 20, size_max: 9 << 20, write_max: 2 << 20 };
    let mount = Mount::embedded();
    run(&mut [mount], shape, seconds("DGFS_MODEL_SECS", 15, 600));
}

#[test]
fn a_cluster_mount_behaves_like_a_local_directory() {
    let shape = Shape { chunk: 4 << 20, size_max: 5 << 20, write_max: 1 << 20 };
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mount = cluster.mount();
    run(&mut [mount], shape, seconds("DGFS_MODEL_SECS", 20, 600));
}

/// What one mount changed the other sees at its next look; content when it was closed.
#[test]
fn two_mounts_taking_turns_behave_like_a_local_directory() {
    let shape = Shape { chunk: 4 << 20, size_max: 5 << 20, write_max: 1 << 20 };
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mut mounts = [cluster.mount(), cluster.mount()];
    run(&mut mounts, shape, seconds("DGFS_MODEL_SECS", 20, 600));
}

/// Each thread has a directory of its own, so each has its own reference; what they share is the mount.
#[test]
fn threads_side_by_side_do_not_disturb_each_other() {
    let shape = Shape { chunk: 64 << 10, size_max: 1 << 20, write_max: 200 << 10 };
    let mount = Mount::embedded_with_chunks(shape.chunk as u32);
    side_by_side(&[mount], shape, seconds("DGFS_MODEL_SECS", 12, 600));
    let mut cluster = Cluster::start(ClusterPlan::default());
    side_by_side(&[cluster.mount()], shape, seconds("DGFS_MODEL_SECS", 10, 600));
    side_by_side(&[cluster.mount(), cluster.mount()], shape, seconds("DGFS_MODEL_SECS", 10, 600));
}

fn side_by_side(mounts: &[Mount], shape: Shape, time: Duration) {
    let (mut rng, seed) = Rng::announced("DGFS_MODEL_SEED");
    let scratch = Scratch::new("reference");
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for number in 0..THREADS {
            let name = format!("model{number}-of-{}", mounts.len());
            let mount = &mounts[number % mounts.len()];
            let (left, right) = ([mount.join(&name)], [scratch.join(&name)]);
            for root in [&left[0], &right[0]] {
                std::fs::create_dir_all(root).expect("make the root of a side");
            }
            let mut chooser = Chooser::new(Rng::new(rng.next()), shape);
            scope.spawn(move || {
                let mut pair = Pair::new(&left, &right, seed, 0);
                while Instant::now() < end {
                    pair.step(&mut chooser);
                }
                pair.compare();
            });
        }
    });
}

fn run(mounts: &mut [Mount], shape: Shape, time: Duration) {
    let (rng, seed) = Rng::announced("DGFS_MODEL_SEED");
    let scratch = Scratch::new("reference");
    let end = Instant::now() + time;
    let mut done = 0;
    let mut chooser = Chooser::new(rng, shape);
    while Instant::now() < end {
        let left: Vec<_> = mounts.iter().map(|mount| mount.join("model")).collect();
        let right = [scratch.join("model")];
        for root in [&left[0], &right[0]] {
            std::fs::create_dir_all(root).expect("make the root of a side");
        }
        let mut pair = Pair::new(&left, &right, seed, done);
        while Instant::now() < end && pair.done < done + OPS_PER_REMOUNT {
            pair.step(&mut chooser);
            if left.len() > 1 && chooser.takes_turns() {
                pair.turn(pair.done.is_multiple_of(20));
            }
        }
        pair.turn(false);
        pair.compare();
        done = pair.done;
        drop(pair);
        for mount in &mut *mounts {
            mount.remount();
        }
        Pair::new(&left, &right, seed, done).compare();
    }
    println!("{done} operations");
}

/// Both sides and what was done to them.
struct Pair {
    mount: Side,
    reference: Side,
    seed: u64,
    done: u64,
    history: VecDeque<String>,
}

impl Pair {
    fn new(mount: &[PathBuf], reference: &[PathBuf], seed: u64, done: u64) -> Self {
        Self { mount: Side::new(mount), reference: Side::new(reference), seed, done, history: VecDeque::new() }
    }

    fn step(&mut self, chooser: &mut Chooser) {
        let slots: Vec<_> = (0..SLOTS).map(|slot| self.slot(slot)).collect();
        let op = chooser.next(&slots);
        self.done += 1;
        let witnesses = witnesses(&op);
        let before = witnesses.iter().map(|at| (self.mount.look(at), self.reference.look(at))).collect::<Vec<_>>();
        let started = Instant::now();
        let left = self.mount.apply(&op);
        let took = started.elapsed();
        let right = self.reference.apply(&op);
        while self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{}: {op:?} → {right:?}", self.done));
        if took > SLOW {
            self.fail(&format!("the mount took {took:?}"));
        }
        if left != right {
            self.fail(&format!("the mount answers {left:?}\nthe reference    {right:?}{}", first_byte(&left, &right)));
        }
        for (witness, before) in witnesses.iter().zip(before) {
            let after = (self.mount.look(witness), self.reference.look(witness));
            let views = (after.0.map(|(view, _)| view), after.1.map(|(view, _)| view));
            if views.0 != views.1 {
                self.fail(&format!("{witness:?} is {:?} on the mount\nand {:?} on the reference", views.0, views.1));
            }
            if op.moves_times_as_it_likes() {
                continue;
            }
            let moved = |before: Option<(_, side::Stamps)>, after: Option<(_, side::Stamps)>| {
                before.zip(after).and_then(|((_, before), (_, after))| before.moved(after))
            };
            let (left, right) = (moved(before.0, after.0), moved(before.1, after.1));
            if left != right {
                self.fail(&format!(
                    "[mtime, ctime] of {witness:?} moved: {left:?} on the mount, {right:?} on the reference\n{:?}\n{:?}",
                    before.0.zip(after.0).map(|((_, before), (_, after))| (before, after)),
                    before.1.zip(after.1).map(|((_, before), (_, after))| (before, after)),
                ));
            }
        }
        if left.is_ok() {
            chooser.learn(&op);
        }
        if self.done.is_multiple_of(OPS_PER_FORGET) {
            forget_names();
        }
        if self.done.is_multiple_of(OPS_PER_TREE) {
            self.compare();
        }
    }

    fn slot(&self, slot: usize) -> Slot {
        let Some(flags) = self.reference.flags(slot) else { return Slot::Free };
        if self.mount.is_away(slot) {
            return Slot::Away;
        }
        let stat = self.reference.slot(slot).map(rustix::fs::fstat);
        let size = stat.and_then(Result::ok).map_or(0, |stat| stat.st_size as u64);
        Slot::Open { size, is_direct: flags.contains(OFlags::DIRECT) }
    }

    /// The other mount's turn. What was written is closed before: content is close-to-open. What is open for reading may stay open:
    /// it lags behind, but not longer than [`LAG`].
    fn turn(&mut self, readers_stay: bool) {
        for slot in 0..SLOTS {
            let writes = |flags: OFlags| flags.intersects(OFlags::WRONLY | OFlags::RDWR);
            if self.reference.flags(slot).is_some_and(|flags| !readers_stay || writes(flags)) {
                let close = Op::Close { slot };
                let _ = (self.mount.apply(&close), self.reference.apply(&close));
            }
        }
        if readers_stay {
            sleep(LAG);
        }
        self.mount.turn();
        self.history.push_back("turn".to_owned());
    }

    fn compare(&self) {
        if let Some(found) = difference(&self.mount, &self.reference) {
            self.fail(&found);
        }
    }

    fn fail(&self, what: &str) -> ! {
        let slots: Vec<_> =
            (0..SLOTS).filter_map(|slot| self.reference.flags(slot).map(|flags| (slot, flags))).collect();
        let history = self.history.iter().map(String::as_str).collect::<Vec<_>>().join("\n  ");
        panic!("DGFS_MODEL_SEED={} operation {}: {what}\nopen: {slots:?}\n  {history}", self.seed, self.done)
    }
}

/// The kernel drops names and inodes that nobody uses, as when memory is short: the mount is told and must find them anew. Only root may
/// ask for it.
fn forget_names() {
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "2");
}

fn witnesses(op: &Op) -> Vec<Witness> {
    let paths = op.paths().into_iter().map(Witness::Path);
    paths.chain(op.slots().into_iter().map(Witness::Slot)).collect()
}

fn first_byte(left: &side::Outcome, right: &side::Outcome) -> String {
    let (Ok(side::Value::Bytes(left)), Ok(side::Value::Bytes(right))) = (left, right) else { return String::new() };
    let at = left.iter().zip(right).position(|(left, right)| left != right);
    at.map_or_else(String::new, |at| format!("\nfirst difference at byte {at}: {} for {}", left[at], right[at]))
}
