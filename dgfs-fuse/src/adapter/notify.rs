//! Makes the kernel forget what it caches.
//!
//! Never runs on a thread that serves requests and holds no lock while the kernel works: dropping pages waits for
//! reads of that file, dropping a name for the directory's lock, which the kernel holds while a request of this mount in that
//! directory is unanswered. So a name is waited for only for [`NAME_WAIT`]; past that all names of the mount are made to
//! expire, which waits for nothing. Pages are waited for for [`PAGES_WAIT`]. Bounded by [`QUEUE_MAX`]: a full queue holds
//! the caller (an invalidation may never be dropped).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use futures_util::future::BoxFuture;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Notify;

use dgfs_client::vfs::{Forget, KernelCache};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::RECALL_MS_MAX;
use dgfs_proto::name::Name;

use crate::metrics::MountMetrics;

/// Requests that may wait.
const QUEUE_MAX: usize = 64 << 10;
/// Two threads for each kind, so that one file whose reads wait does not hold up all others.
const THREADS: usize = 2;
/// How long one name is waited for.
/// Rather long than short: a directory whose name expired so is for a moment nowhere to `getcwd(2)` of those who work in it.
const NAME_WAIT: Duration = Duration::from_millis(25);
/// How long pages are waited for.
/// The metadata service gives this mount up when others waited for so long.
const PAGES_WAIT: Duration = Duration::from_millis(RECALL_MS_MAX + 5_000);
/// An inode that was named to the kernel so lately may not be known to it yet.
const LATELY: Duration = Duration::from_secs(1);
/// Inodes remembered as named lately.
const LATELY_MAX: usize = 4096;
/// How often an inode that the kernel is about to know is tried again, and how long after each try.
const TRIES_MAX: u32 = 6;
const TRY_PAUSE: Duration = Duration::from_millis(2);
/// Makes every name that the kernel caches expire (`FUSE_NOTIFY_INC_EPOCH`, Linux 6.16).
const NOTIFY_INC_EPOCH: i32 = 8;

enum Target {
    Inode(Ino),
    /// From a byte on, so many; 0: all.
    Pages(Ino, i64, i64),
    Attributes(Ino),
    Name(Ino, Name),
}

struct Job {
    target: Target,
    done: Arc<Done>,
}

/// What a caller waits for.
#[derive(Default)]
struct Done {
    flag: AtomicBool,
    changed: Notify,
}

impl Done {
    fn set(&self) {
        self.flag.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    async fn wait(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.flag.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

#[derive(Default)]
struct State {
    inodes: VecDeque<Job>,
    /// These never wait in the kernel.
    attributes: VecDeque<Job>,
    names: VecDeque<Job>,
    notifier: Option<Notifier>,
    /// The mount's own `/dev/fuse`, for what the library does not say.
    device: Option<Arc<File>>,
    closed: bool,
}

/// The kernel's caches of one mount. Made before the mount; nothing is cached until [`KernelForgetter::attach`].
pub struct KernelForgetter {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    /// This kernel takes [`NOTIFY_INC_EPOCH`].
    epochs: AtomicBool,
    /// Inodes that replies named lately with a time.
    lately: Mutex<VecDeque<(Ino, Instant)>>,
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
            epochs: AtomicBool::new(false),
            lately: Mutex::default(),
            barrier: Arc::default(),
            metrics,
        })
    }

    /// What replies with cache times hold for reading.
    pub(crate) fn barrier(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.barrier)
    }

    /// Starts the threads for a mount.
    pub(crate) fn attach(self: &Arc<Self>, notifier: Notifier, device: OwnedFd) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            state.notifier = Some(notifier);
            state.device = Some(Arc::new(File::from(device)));
        }
        // Before the first name is cached it does nothing, and tells whether the kernel knows it.
        let epochs = self.expire_all_names();
        self.epochs.store(epochs, Ordering::Release);
        if !epochs {
            tracing::info!(
                "this kernel (before 6.16) cannot forget all names at once: while others are mounted it keeps none"
            );
        }
        for number in 0..THREADS {
            let (inodes, names, attributes) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
            let thread = |name: &str| std::thread::Builder::new().name(format!("dgfs-{name}-{number}"));
            thread("forget").spawn(move || inodes.work(|state| &mut state.inodes))?;
            thread("forget-name").spawn(move || names.work(|state| &mut state.names))?;
            if number == 0 {
                thread("forget-attr").spawn(move || attributes.work(|state| &mut state.attributes))?;
            }
        }
        Ok(())
    }

    /// Ends the threads: the mount is gone, and its caches with it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.notifier = None;
        state.device = None;
        let State { inodes, attributes, names, .. } = &mut *state;
        inodes.drain(..).chain(attributes.drain(..)).chain(names.drain(..)).for_each(|job| job.done.set());
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Has every cached name asked for anew; false when the kernel cannot.
    fn expire_all_names(&self) -> bool {
        let Some(device) = self.state.lock().device.clone() else { return false };
        drop(self.barrier.write());
        // fuse_out_header: the message's length, the kind of notification in place of an error, no request.
        let mut message = [0_u8; 16];
        let (len, kind) = (16_u32.to_ne_bytes(), NOTIFY_INC_EPOCH.to_ne_bytes());
        message.iter_mut().zip(len.into_iter().chain(kind)).for_each(|(to, from)| *to = from);
        (&*device).write_all(&message).is_ok()
    }

    fn queue(&self, target: Target) -> Option<Arc<Done>> {
        let done = Arc::new(Done::default());
        let mut state = self.state.lock();
        while state.inodes.len() + state.attributes.len() + state.names.len() >= QUEUE_MAX && !state.closed {
            self.room.wait(&mut state);
        }
        if state.closed || state.notifier.is_none() {
            return None;
        }
        let job = Job { done: Arc::clone(&done), target };
        match &job.target {
            Target::Name(..) => state.names.push_back(job),
            Target::Attributes(_) => state.attributes.push_back(job),
            Target::Inode(_) | Target::Pages(..) => state.inodes.push_back(job),
        }
        drop(state);
        self.work.notify_all();
        Some(done)
    }

    /// Has the kernel ask for the attributes anew; nobody waits for it, and where the queue is full it is left out.
    pub(crate) fn refresh_attributes(&self, ino: Ino) {
        let mut state = self.state.lock();
        if state.attributes.len() < QUEUE_MAX / 2 && !state.closed && state.notifier.is_some() {
            state.attributes.push_back(Job { target: Target::Attributes(ino), done: Arc::default() });
            drop(state);
            self.work.notify_all();
        }
    }

    fn work(&self, of: impl Fn(&mut State) -> &mut VecDeque<Job>) {
        while let Some((job, notifier)) = self.next(&of) {
            // Replies that were given a cache time before this request are on their way: let them pass first.
            drop(self.barrier.write());
            let outcome = match &job.target {
                // Offset 0 without a length: attributes and all pages.
                Target::Inode(ino) => self.tell(*ino, || notifier.inval_inode(INodeNo(ino.get()), 0, 0)),
                Target::Pages(ino, from, len) => {
                    self.tell(*ino, || notifier.inval_inode(INodeNo(ino.get()), *from, *len))
                }
                Target::Attributes(ino) => self.tell(*ino, || notifier.inval_inode(INodeNo(ino.get()), -1, 0)),
                Target::Name(parent, name) => {
                    notifier.inval_entry(INodeNo(parent.get()), OsStr::from_bytes(name.as_bytes()))
                }
            };
            if let Err(error) = outcome {
                tracing::trace!(%error, "the kernel did not take an invalidation: it held nothing of it");
            }
            self.metrics.invalidations.inc();
            job.done.set();
        }
    }

    /// A reply names an inode to the kernel, which may believe it for some time.
    pub(crate) fn named(&self, ino: Ino) {
        let mut lately = self.lately.lock();
        if lately.len() == LATELY_MAX {
            lately.pop_front();
        }
        lately.push_back((ino, Instant::now()));
    }

    /// Tells the kernel to forget of an inode. One that it does not know, but that was named to it a moment ago, is just being
    /// made from that reply: a little later it is there.
    fn tell(&self, ino: Ino, forget: impl Fn() -> io::Result<()>) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            match forget() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.was_named_lately(ino) => {
                    std::thread::sleep(TRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
        Ok(())
    }

    fn was_named_lately(&self, ino: Ino) -> bool {
        self.lately
            .lock()
            .iter()
            .rev()
            .take_while(|(_, since)| since.elapsed() < LATELY)
            .any(|(named, _)| *named == ino)
    }

    fn next(&self, of: &impl Fn(&mut State) -> &mut VecDeque<Job>) -> Option<(Job, Notifier)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let notifier = state.notifier.clone();
            if let (Some(notifier), Some(job)) = (notifier, of(&mut state).pop_front()) {
                self.room.notify_one();
                return Some((job, notifier));
            }
            self.work.wait(&mut state);
        }
    }

    async fn forget_all(self: Arc<Self>, what: Vec<Forget>) -> Vec<Ino> {
        let (mut waits, mut names, mut all) = (Vec::new(), Vec::new(), false);
        for forget in what {
            match forget {
                Forget::Attrs(ino) => waits.extend(self.queue(Target::Attributes(ino))),
                Forget::Inode(ino) => waits.extend(self.queue(Target::Inode(ino))),
                Forget::Pages { ino, from, len } => {
                    // Bytes that the kernel cannot name it cannot hold.
                    let (from, len) = (i64::try_from(from).unwrap_or(i64::MAX), i64::try_from(len).unwrap_or(0));
                    waits.extend(self.queue(Target::Pages(ino, from, len)));
                }
                Forget::Name(parent, name) => {
                    names.extend(self.queue(Target::Name(parent, name)).map(|done| (parent, done)));
                }
                Forget::AllNames => all = true,
            }
        }
        let mut busy = Vec::new();
        let in_time = async {
            for (_, done) in &names {
                done.wait().await;
            }
        };
        if !all && tokio::time::timeout(NAME_WAIT, in_time).await.is_err() {
            all = true;
            let waiting = names.iter().filter(|(_, done)| !done.flag.load(Ordering::Acquire));
            busy.extend(waiting.map(|(parent, _)| *parent));
        }
        if all {
            self.metrics.epochs.inc();
            let _: bool = self.expire_all_names();
        }
        let in_time = async {
            for done in &waits {
                done.wait().await;
            }
        };
        if tokio::time::timeout(PAGES_WAIT, in_time).await.is_err() {
            tracing::warn!("the kernel has not dropped a cached object in {} s; going on", PAGES_WAIT.as_secs());
        }
        busy
    }
}

impl KernelCache for KernelForgetter {
    fn forget(self: Arc<Self>, what: Vec<Forget>) -> BoxFuture<'static, Vec<Ino>> {
        Box::pin(self.forget_all(what))
    }

    fn can_forget_names(&self) -> bool {
        self.epochs.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dgfs_client::vfs::{Forget, KernelCache as _};
    use dgfs_proto::ids::Ino;
    use dgfs_runtime::metrics::MetricSet;

    use super::KernelForgetter;
    use crate::metrics::MountMetrics;

    #[tokio::test]
    async fn forgetting_without_a_mount_returns_at_once() {
        let forgetter = KernelForgetter::new(MountMetrics::new(&MetricSet::new()));
        let all = || {
            vec![
                Forget::Inode(Ino::ROOT),
                Forget::Pages { ino: Ino::ROOT, from: 0, len: 1 },
                Forget::Attrs(Ino::ROOT),
                Forget::AllNames,
            ]
        };
        assert!(Arc::clone(&forgetter).forget(all()).await.is_empty());
        forgetter.close();
        assert!(Arc::clone(&forgetter).forget(all()).await.is_empty());
        assert!(!forgetter.can_forget_names());
    }
}
