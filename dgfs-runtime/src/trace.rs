//! One request on its way through a process: its number, and where its time went.
//!
//! Never decides how long is too long (`slow` does), and never waits. Always: what a request polls in its own task belongs
//! to it; what it leaves to another task does only where that one [`follow`]s it.

pub mod slow;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::futures::TaskLocalFuture;

use crate::instruments;
use crate::telemetry::fresh_request_id;

macro_rules! stages {
    ($($(#[$doc:meta])* $stage:ident = $word:literal),+ $(,)?) => {
        /// Where a request's time goes. Stages that run at the same time are added up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Stage {
            $($(#[$doc])* $stage),+
        }

        impl Stage {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$stage),+];

            /// The word for it in a log.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$stage => $word),+ }
            }
        }
    };
}

stages! {
    /// It waited for a place among the waiting ones.
    Queue = "queue",
    /// Calls to a metadata service.
    Meta = "meta",
    /// Calls to storage servers.
    Chunk = "chunk",
    /// Calls to an index.
    Index = "index",
    /// A write waited until older ones were sent.
    Room = "room",
    /// Rows were loaded from the engine.
    Rows = "rows",
    /// Other mounts were told to forget.
    Recall = "recall",
    /// The engine took the change.
    Commit = "commit",
    /// A disk was read.
    Read = "read",
    /// A disk was written.
    Write = "write",
    /// A disk was synced.
    Sync = "sync",
}

#[derive(Debug, Default)]
struct Spent {
    times: AtomicU32,
    micros: AtomicU64,
}

/// A request under way.
#[derive(Debug)]
pub struct Trace {
    id: u64,
    began: Instant,
    spent: [Spent; Stage::ALL.len()],
}

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

impl Trace {
    /// A request that begins now.
    #[must_use]
    pub fn begin(id: u64) -> Arc<Self> {
        Arc::new(Self { id, began: Instant::now(), spent: Default::default() })
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// How long it has been under way.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds to a stage.
    pub fn add(&self, stage: Stage, time: Duration) {
        if let Some(spent) = self.spent.get(stage as usize) {
            spent.times.fetch_add(1, Ordering::Relaxed);
            spent.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Its stages that were entered, with how often and how long: `meta=2×31ms commit=1×30ms`.
    #[must_use]
    pub fn stages(&self) -> String {
        let mut words = Vec::new();
        for (stage, spent) in Stage::ALL.iter().zip(&self.spent) {
            let (times, micros) = (spent.times.load(Ordering::Relaxed), spent.micros.load(Ordering::Relaxed));
            if times > 0 {
                words.push(format!("{}={times}×{}ms", stage.word(), micros / 1000));
            }
        }
        words.join(" ")
    }
}

/// `work` belongs to `trace` from now on, wherever it is polled.
pub fn follow<F: Future>(trace: Arc<Trace>, work: F) -> TaskLocalFuture<Arc<Trace>, F> {
    CURRENT.scope(trace, work)
}

/// `work` belongs to the caller's request, or to a new one: for what is left to another task.
pub fn follow_current<F: Future>(work: F) -> TaskLocalFuture<Arc<Trace>, F> {
    follow(current().unwrap_or_else(|| Trace::begin(fresh_request_id())), work)
}

/// Runs `work` at once as part of `trace`.
pub fn within<T>(trace: Arc<Trace>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(trace, work)
}

/// The request that is being worked on.
#[must_use]
pub fn current() -> Option<Arc<Trace>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// The number of the request that is being worked on; none outside of requests.
#[must_use]
pub fn current_id() -> Option<u64> {
    CURRENT.try_with(|trace| trace.id).ok()
}

/// The number of the request that is being worked on, or a new one.
#[must_use]
pub fn request_id() -> u64 {
    current_id().unwrap_or_else(fresh_request_id)
}

/// Adds to a stage of the request that is being worked on, if there is one.
pub fn add(stage: Stage, time: Duration) {
    // Outside of a request nobody asks where the time went.
    let _ = CURRENT.try_with(|trace| trace.add(stage, time));
}

/// Adds the time that `work` takes.
pub async fn timed<F: Future>(stage: Stage, work: F) -> F::Output {
    if !instruments::are_on() {
        return work.await;
    }
    let began = Instant::now();
    let output = work.await;
    add(stage, began.elapsed());
    output
}

/// As [`timed`], for work that does not wait for others.
pub fn timed_now<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    if !instruments::are_on() {
        return work();
    }
    let began = Instant::now();
    let output = work();
    add(stage, began.elapsed());
    output
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stage, Trace, add, current_id, follow, follow_current, request_id, timed};

    #[tokio::test]
    async fn a_request_keeps_its_number_and_counts_its_stages_where_it_waits() {
        let trace = Trace::begin(7);
        follow(std::sync::Arc::clone(&trace), async {
            tokio::task::yield_now().await;
            assert_eq!((current_id(), request_id()), (Some(7), 7));
            add(Stage::Commit, Duration::from_millis(3));
            add(Stage::Commit, Duration::from_millis(4));
            timed(Stage::Meta, tokio::task::yield_now()).await;
        })
        .await;
        assert_eq!(trace.stages(), "meta=1×0ms commit=2×7ms");
        assert_eq!(current_id(), None);
    }

    #[tokio::test]
    async fn another_task_belongs_to_the_request_only_where_it_follows_it() {
        follow(Trace::begin(9), async {
            assert_eq!(tokio::spawn(follow_current(async { current_id() })).await.unwrap(), Some(9));
            assert_eq!(tokio::spawn(async { current_id() }).await.unwrap(), None);
        })
        .await;
        let outside = tokio::spawn(follow_current(async { current_id() })).await.unwrap();
        assert!(outside.is_some_and(|id| id != 9), "{outside:?}");
    }

    #[tokio::test]
    async fn a_request_inside_of_another_has_stages_of_its_own() {
        let outer = Trace::begin(1);
        follow(std::sync::Arc::clone(&outer), async {
            follow(Trace::begin(1), async { add(Stage::Rows, Duration::from_millis(1)) }).await;
        })
        .await;
        assert_eq!(outer.stages(), "");
    }
}
