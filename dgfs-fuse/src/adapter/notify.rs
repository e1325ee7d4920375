//! Makes the kernel forget what it caches.
//!
//! Never runs on a thread that serves requests and holds no lock while the kernel works: dropping pages waits for
//! reads of that file, dropping an entry for the directory's lock. A caller waits for its own request, but at
//! most [`FORGET_WAIT`]; past that the request is still carried out. Bounded by [`QUEUE_MAX`]: a full queue
//! holds the caller (an invalidation may never be dropped).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex, RwLock};

use dgfs_client::vfs::KernelCache;
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;

use crate::metrics::MountMetrics;

/// Requests that may wait.
const QUEUE_MAX: usize = 4096;
/// Two threads, so that one file whose reads wait does not hold up all others.
const THREADS: usize = 2;
/// How long a caller waits for the kernel.
const FORGET_WAIT: Duration = Duration::from_secs(2);

enum Target {
    Inode(Ino),
    Attributes(Ino),
    Entry(Ino, Name),
}

struct Job {
    target: Target,
    done: Arc<Done>,
}

#[derive(Default)]
struct Done {
    flag: Mutex<bool>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    notifier: Option<Notifier>,
    closed: bool,
}

/// The kernel's caches of one mount. Made before the mount; nothing is cached until [`KernelForgetter::attach`].
pub struct KernelForgetter {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    /// Held for reading while a reply with a cache time is sent.
    barrier: Arc<RwLock<()>>,
    metrics: Arc<MountMetrics>,
}

impl KernelForgetter {
    /// A forgetter without a mount yet.
    #[must_use]
    pub fn new(metrics: Arc<MountMetrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            barrier: Arc::default(),
            metrics,
        })
    }

    /// What replies with cache times hold for reading.
    pub(crate) fn barrier(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.barrier)
    }

    /// Starts the threads for a mount.
    pub(crate) fn attach(self: &Arc<Self>, notifier: Notifier) -> io::Result<()> {
        self.state.lock().notifier = Some(notifier);
        for number in 0..THREADS {
            let forgetter = Arc::clone(self);
            std::thread::Builder::new().name(format!("dgfs-forget-{number}")).spawn(move || forgetter.work())?;
        }
        Ok(())
    }

    /// Ends the threads: the mount is gone, and its caches with it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.notifier = None;
        for job in state.queue.drain(..) {
            job.done.set();
        }
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }

    fn forget(&self, target: Target) {
        let done = Arc::new(Done::default());
        {
            let mut state = self.state.lock();
            while state.queue.len() >= QUEUE_MAX && !state.closed {
                self.room.wait(&mut state);
            }
            if state.closed || state.notifier.is_none() {
                return;
            }
            state.queue.push_back(Job { target, done: Arc::clone(&done) });
        }
        self.work.notify_one();
        if !done.wait(FORGET_WAIT) {
            tracing::warn!("the kernel has not dropped a cached object in {} s; going on", FORGET_WAIT.as_secs());
        }
    }

    /// Has the kernel ask for the attributes anew; nobody waits for it, and where the queue is full it is left out.
    pub(crate) fn refresh_attributes(&self, ino: Ino) {
        let mut state = self.state.lock();
        if state.queue.len() < QUEUE_MAX / 2 && !state.closed && state.notifier.is_some() {
            state.queue.push_back(Job { target: Target::Attributes(ino), done: Arc::default() });
            drop(state);
            self.work.notify_one();
        }
    }

    fn work(&self) {
        while let Some((job, notifier)) = self.next() {
            // Replies that were given a cache time before this request are on their way: let them pass first.
            drop(self.barrier.write());
            let outcome = match &job.target {
                // Offset 0 without a length: attributes and all pages.
                Target::Inode(ino) => notifier.inval_inode(INodeNo(ino.get()), 0, 0),
                Target::Attributes(ino) => notifier.inval_inode(INodeNo(ino.get()), -1, 0),
                Target::Entry(parent, name) => {
                    notifier.inval_entry(INodeNo(parent.get()), OsStr::from_bytes(name.as_bytes()))
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "the kernel did not take an invalidation");
            }
            self.metrics.invalidations.inc();
            job.done.set();
        }
    }

    fn next(&self) -> Option<(Job, Notifier)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let notifier = state.notifier.clone();
            if let (Some(notifier), Some(job)) = (notifier, state.queue.pop_front()) {
                self.room.notify_one();
                return Some((job, notifier));
            }
            self.work.wait(&mut state);
        }
    }
}

impl Done {
    fn set(&self) {
        *self.flag.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut flag = self.flag.lock();
        while !*flag {
            if self.changed.wait_until(&mut flag, until).timed_out() {
                return *flag;
            }
        }
        true
    }
}

impl KernelCache for KernelForgetter {
    fn forget_inode(&self, ino: Ino) {
        self.forget(Target::Inode(ino));
    }

    fn forget_entry(&self, parent: Ino, name: &Name) {
        self.forget(Target::Entry(parent, name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use dgfs_client::vfs::KernelCache as _;
    use dgfs_proto::ids::Ino;
    use dgfs_runtime::metrics::MetricSet;

    use super::KernelForgetter;
    use crate::metrics::MountMetrics;

    #[test]
    fn forgetting_without_a_mount_returns_at_once() {
        let forgetter = KernelForgetter::new(MountMetrics::new(&MetricSet::new()));
        forgetter.forget_inode(Ino::ROOT);
        forgetter.close();
        forgetter.forget_inode(Ino::ROOT);
    }
}
