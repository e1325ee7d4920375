//! How the disk does: errors by kind, whether it takes writes, how long syncs take, and for how long it has not answered.
//!
//! Never repairs and never refuses anything. Always: what passes through here is counted where it happened, once, whoever asked
//! for it: a put, a read, the scrub, compaction, or the probe that writes when nobody else does.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts};

use dgfs_runtime::metrics::LATENCY_BOUNDS_S;

/// What the disk did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Give bytes back.
    Read,
    /// Take bytes, for another reason than room.
    Write,
    /// Sync.
    Sync,
    /// Take bytes for want of room.
    Full,
}

impl Trouble {
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Sync, Self::Full];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Full => "full",
        }
    }
}

/// Calls to the disk whose age is known. When so many wait at once, those that come later are not told: they are younger.
const WAITS_MAX: usize = 128;

/// Threads that have called a disk so far.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where this thread notes its calls first: most are alone there, and their cache line stays with their core.
    static OWN_WAIT: usize = THREADS.fetch_add(1, Ordering::Relaxed) % WAITS_MAX;
}

/// Since when one call is waited for, milliseconds since the health began; 0: none is. Two never share a cache line, nor the
/// pair of them that is fetched at once.
#[derive(Default)]
#[repr(align(128))]
struct Wait(AtomicU64);

/// Ends the note of a call, also when the call panics.
struct Answered<'a>(Option<&'a Wait>);

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        if let Some(Wait(since)) = self.0 {
            since.store(0, Ordering::Relaxed);
        }
    }
}

/// The health of the disk below one store.
pub(crate) struct Health {
    errors: [AtomicU64; Trouble::ALL.len()],
    is_refusing: AtomicBool,
    /// When the last write that succeeded began, milliseconds since `began_ms`.
    written_ms: AtomicU64,
    waits: Box<[Wait]>,
    sync_seconds: Histogram,
    /// By [`coarse_ms`].
    began_ms: u64,
}

impl Health {
    pub(crate) fn new() -> Self {
        let options = HistogramOpts::new("dgfs_stored_sync_seconds", "How long a sync of the disk took")
            .buckets(LATENCY_BOUNDS_S.to_vec());
        let sync_seconds = match Histogram::with_opts(options) {
            Ok(histogram) => histogram,
            Err(error) => panic!("the histogram of syncs cannot be made: {error}"),
        };
        Self {
            errors: Default::default(),
            is_refusing: AtomicBool::new(false),
            written_ms: AtomicU64::new(0),
            waits: (0..WAITS_MAX).map(|_| Wait::default()).collect(),
            sync_seconds,
            began_ms: coarse_ms(),
        }
    }

    /// Writes, and passes the outcome on.
    pub(crate) fn write<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let began_ms = self.now_ms();
        let outcome = self.waited(began_ms, work);
        match &outcome {
            Ok(_) => {
                self.written_ms.store(began_ms, Ordering::Relaxed);
                if self.is_refusing.load(Ordering::Relaxed) && self.is_refusing.swap(false, Ordering::Relaxed) {
                    tracing::warn!("the disk takes writes again");
                }
            }
            Err(error) if is_full(error) => self.count(Trouble::Full),
            Err(error) => {
                self.count(Trouble::Write);
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the disk takes no writes: look at the kernel's log, and at whether it is mounted read-only");
                }
            }
        }
        outcome
    }

    /// Reads, and passes the outcome on. That a file is shorter or missing is damage, not the disk's refusal.
    pub(crate) fn read<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let outcome = self.waited(self.now_ms(), work);
        if let Err(error) = &outcome
            && error.raw_os_error().is_some()
            && error.kind() != io::ErrorKind::NotFound
        {
            self.count(Trouble::Read);
        }
        outcome
    }

    /// Syncs, times it, and passes its outcome on.
    pub(crate) fn sync(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = Instant::now();
        let outcome = self.waited(self.now_ms(), work);
        self.sync_seconds.observe(began.elapsed().as_secs_f64());
        if outcome.is_err() {
            self.count(Trouble::Sync);
        }
        outcome
    }

    /// Calls the disk; until it answers, [`Self::waiting_s`] tells of the call.
    fn waited<T>(&self, now_ms: u64, work: impl FnOnce() -> T) -> T {
        let _answered = Answered(self.note(now_ms));
        work()
    }

    /// Notes a call where this thread does; elsewhere when another one, or a call around this one, is there; nowhere when all
    /// places are taken.
    fn note(&self, now_ms: u64) -> Option<&Wait> {
        let now_ms = now_ms.max(1);
        let is_taken = |Wait(since): &&Wait| {
            since.load(Ordering::Relaxed) == 0
                && since.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let (before, from_own) = self.waits.split_at_checked(OWN_WAIT.with(|own| *own))?;
        from_own.iter().chain(before).find(is_taken)
    }

    pub(crate) fn count(&self, trouble: Trouble) {
        if let Some(number) = self.errors.get(trouble as usize) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn errors(&self, trouble: Trouble) -> u64 {
        self.errors.get(trouble as usize).map_or(0, |number| number.load(Ordering::Relaxed))
    }

    /// Was the last write refused, for another reason than room?
    pub(crate) fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }

    /// Milliseconds since a write began that succeeded.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.written_ms.load(Ordering::Relaxed))
    }

    /// Seconds for which the oldest call under way has been waited for; 0 when none is.
    pub(crate) fn waiting_s(&self) -> u64 {
        let now = self.now_ms();
        let since = self.waits.iter().map(|Wait(since)| since.load(Ordering::Relaxed));
        since.filter(|since| *since > 0).map(|since| now.saturating_sub(since) / 1000).max().unwrap_or(0)
    }

    /// How long syncs took.
    pub(crate) fn sync_seconds(&self) -> &Histogram {
        &self.sync_seconds
    }

    fn now_ms(&self) -> u64 {
        coarse_ms().saturating_sub(self.began_ms)
    }
}

/// Milliseconds by the kernel's monotonic clock as it was at its last tick, some ms ago at most: a fifth of the price of the exact
/// one, which would tell seconds no better.
fn coarse_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call. It cannot fail for a clock that every Linux has; 0 if it does.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// Is it for want of room?
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::scope;

    use super::{Health, Trouble, WAITS_MAX, Wait, coarse_ms};

    fn refused(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_fault_of_a_disk_moves_its_own_number() {
        let health = Health::new();
        for (errno, trouble) in
            [(libc::EROFS, Trouble::Write), (libc::EIO, Trouble::Write), (libc::ENOSPC, Trouble::Full)]
        {
            let before = health.errors(trouble);
            health.write(|| refused(errno)).unwrap_err();
            assert_eq!(health.errors(trouble), before + 1, "{errno}");
        }
        health.read(|| refused(libc::EIO)).unwrap_err();
        health.sync(|| refused(libc::EIO)).unwrap_err();
        assert_eq!(Trouble::ALL.map(|trouble| health.errors(trouble)), [1, 2, 1, 1]);
        assert_eq!(health.sync_seconds().get_sample_count(), 1);
    }

    #[test]
    fn a_disk_refuses_from_the_first_refused_write_to_the_first_that_is_taken() {
        let health = Health::new();
        health.write(|| refused(libc::ENOSPC)).unwrap_err();
        assert!(!health.is_refusing(), "a full disk is not a broken one");
        health.write(|| refused(libc::EROFS)).unwrap_err();
        assert!(health.is_refusing());
        health.write(|| Ok(())).unwrap();
        assert!(!health.is_refusing());
    }

    #[test]
    fn a_missing_file_and_a_short_one_are_no_refusal_to_read() {
        let health = Health::new();
        health.read(|| refused(libc::ENOENT)).unwrap_err();
        health.read::<()>(|| Err(io::ErrorKind::UnexpectedEof.into())).unwrap_err();
        assert_eq!(health.errors(Trouble::Read), 0);
    }

    type Call = fn(&Health, &Sender<()>, &Receiver<()>) -> io::Result<()>;

    /// A call to a disk that answers when it is told to.
    fn hung(begun: &Sender<()>, answer: &Receiver<()>) -> io::Result<()> {
        begun.send(()).unwrap();
        answer.recv().unwrap();
        Ok(())
    }

    fn under_way(health: &Health) -> impl Iterator<Item = &Wait> {
        health.waits.iter().filter(|Wait(since)| since.load(Ordering::Relaxed) > 0)
    }

    #[test]
    fn a_write_a_read_or_a_sync_that_hangs_is_told_until_it_is_answered() {
        let calls: [Call; 3] = [
            |health, begun, answer| health.write(|| hung(begun, answer)),
            |health, begun, answer| health.read(|| hung(begun, answer)),
            |health, begun, answer| health.sync(|| hung(begun, answer)),
        ];
        for call in calls {
            // As if it had begun a minute ago: a call can be made older than it is.
            let health = Health { began_ms: coarse_ms().saturating_sub(60_000), ..Health::new() };
            let ((begun, begins), (answers, answer)) = (channel(), channel());
            scope(|scope| {
                let health = &health;
                scope.spawn(move || call(health, &begun, &answer).unwrap());
                begins.recv().unwrap();
                assert_eq!(health.waiting_s(), 0, "it has just begun");
                // Others that are answered at once change nothing.
                health.write(|| Ok(())).unwrap();
                let Wait(since) = under_way(health).next().unwrap();
                since.fetch_sub(30_000, Ordering::Relaxed);
                health.write(|| Ok(())).unwrap();
                assert_eq!(health.waiting_s(), 30);
                answers.send(()).unwrap();
            });
            assert_eq!(health.waiting_s(), 0);
        }
    }

    #[test]
    fn more_calls_than_are_told_hang_and_are_answered() {
        let health = Health::new();
        scope(|scope| {
            let (begun, begins) = channel();
            let answers: Vec<_> = (0..WAITS_MAX + 3)
                .map(|_| {
                    let ((answer, answered), begun, health) = (channel(), begun.clone(), &health);
                    scope.spawn(move || health.write(|| hung(&begun, &answered)).unwrap());
                    begins.recv().unwrap();
                    answer
                })
                .collect();
            answers.iter().for_each(|answer| answer.send(()).unwrap());
        });
        assert_eq!(under_way(&health).count(), 0);
    }

    #[test]
    fn a_call_within_a_call_has_a_place_of_its_own_and_leaves_that_of_the_other() {
        let health = Health::new();
        let inside = || {
            let both = health.read(|| Ok(under_way(&health).count()));
            both.map(|both| (both, under_way(&health).count()))
        };
        assert_eq!(health.write(inside).unwrap(), (2, 1));
        assert_eq!(under_way(&health).count(), 0);
    }
}
