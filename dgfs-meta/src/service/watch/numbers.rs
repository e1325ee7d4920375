//! How long calls and commits took, and what failed.
//!
//! Never decides. Always cheap: a call finds its histogram by index, without looking for labels; parked calls (polls, lock
//! waits, followers of a log) are not measured, since their time is not ours.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts};

use dgfs_proto::meta::{
    AdminRequest, MetaReply, MetaRequest, Mutation, Query, ServerRequest, SessionRequest, WatchRequest,
};
use dgfs_runtime::instruments;
use dgfs_runtime::metrics::{LATENCY_BOUNDS_S, MetricSet};

/// Bounds of the changes in one commit group.
const MUTATION_BOUNDS: [f64; 11] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 2048.0];

macro_rules! operations {
    ($($op:ident = $name:literal),* $(,)?) => {
        /// What a call asks for, as metrics tell it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op { $($op),* }

        impl Op {
            const ALL: &'static [Self] = &[$(Self::$op),*];

            /// Its word.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$op => $name),* }
            }
        }
    };
}

operations! {
    Lookup = "lookup",
    GetAttr = "getattr",
    ReadDir = "readdir",
    ReadLink = "readlink",
    Content = "content",
    GetXattr = "getxattr",
    TestLock = "testlock",
    StatFs = "statfs",
    Path = "path",
    Policy = "policy",
    Lease = "lease",
    Make = "make",
    Link = "link",
    Remove = "remove",
    Rename = "rename",
    SetAttr = "setattr",
    SetXattr = "setxattr",
    Commit = "commit",
    Copy = "copy",
    Open = "open",
    Release = "release",
    Lock = "lock",
    Tag = "tag",
    Grant = "grant",
    KeptBack = "kept_back",
    Sync = "sync",
    Map = "map",
    SessionOpen = "session_open",
    SessionBeat = "session_beat",
    SessionClose = "session_close",
    ServerJoin = "server_join",
    ServerBeat = "server_beat",
    ServerCheck = "server_check",
    ServerMove = "server_move",
    Admin = "admin",
    Watch = "watch",
}

impl Op {
    /// What a call is; none for one that is parked.
    pub(crate) fn of(request: &MetaRequest) -> Option<Self> {
        match request {
            MetaRequest::Session(SessionRequest::Open { .. }) => Some(Self::SessionOpen),
            MetaRequest::Session(SessionRequest::Beat | SessionRequest::Recalled(_)) => Some(Self::SessionBeat),
            MetaRequest::Session(SessionRequest::Close) => Some(Self::SessionClose),
            MetaRequest::Session(SessionRequest::Poll { .. }) | MetaRequest::CancelWait(_) => None,
            MetaRequest::Query(query) => Some(Self::of_query(query)),
            MetaRequest::Mutate { mutation, .. } => Self::of_mutation(mutation),
            MetaRequest::KeptBack { .. } => Some(Self::KeptBack),
            MetaRequest::Sync => Some(Self::Sync),
            MetaRequest::GetMap(_) | MetaRequest::Volume => Some(Self::Map),
            MetaRequest::Server(request) => Some(Self::of_server(request)),
            MetaRequest::Admin(AdminRequest::Log { wait: true, .. }) => None,
            MetaRequest::Admin(_) => Some(Self::Admin),
            MetaRequest::Watch(WatchRequest::Events { wait: true, .. }) => None,
            MetaRequest::Watch(_) => Some(Self::Watch),
        }
    }

    const fn of_query(query: &Query) -> Self {
        match query {
            Query::Lookup { .. } => Self::Lookup,
            Query::GetAttr(_) | Query::GetAttrs(_) | Query::TreeStat(_) => Self::GetAttr,
            Query::ReadDir { .. } => Self::ReadDir,
            Query::ReadLink(_) => Self::ReadLink,
            Query::Content { .. } | Query::NextChunk { .. } | Query::Contents { .. } => Self::Content,
            Query::GetXattr { .. } | Query::ListXattr(_) => Self::GetXattr,
            Query::TestLock { .. } => Self::TestLock,
            Query::StatFs => Self::StatFs,
            Query::PathOf(_) => Self::Path,
            Query::Policy(_) => Self::Policy,
            Query::LeaseWrites(_) => Self::Lease,
        }
    }

    fn of_mutation(mutation: &Mutation) -> Option<Self> {
        if crate::core::is_waiting_lock(mutation) {
            return None;
        }
        Some(match mutation {
            Mutation::Make { .. } => Self::Make,
            Mutation::Link { .. } => Self::Link,
            Mutation::Remove { .. } => Self::Remove,
            Mutation::Rename { .. } => Self::Rename,
            Mutation::SetAttr { .. } => Self::SetAttr,
            Mutation::SetXattr { .. } | Mutation::RemoveXattr { .. } => Self::SetXattr,
            Mutation::Commit(_) => Self::Commit,
            Mutation::CopyChunks { .. } => Self::Copy,
            Mutation::Open { .. } | Mutation::Register { .. } => Self::Open,
            Mutation::Release { .. } => Self::Release,
            Mutation::Lock { .. } | Mutation::UnlockOwner { .. } => Self::Lock,
            Mutation::Tag(_) | Mutation::Tags { .. } | Mutation::Relate { .. } | Mutation::SaveQuery { .. } => {
                Self::Tag
            }
            Mutation::Grant { .. } | Mutation::GrantInodes { .. } => Self::Grant,
        })
    }

    const fn of_server(request: &ServerRequest) -> Self {
        match request {
            ServerRequest::Join { .. } => Self::ServerJoin,
            ServerRequest::Beat { .. } => Self::ServerBeat,
            ServerRequest::CheckLive(_) | ServerRequest::CheckMoves(_) | ServerRequest::CheckCompression(_) => {
                Self::ServerCheck
            }
            ServerRequest::Numbers { .. } | ServerRequest::Move { .. } => Self::ServerMove,
        }
    }
}

/// What is counted of one service, over all its times as the active one.
pub(crate) struct Numbers {
    operations: HistogramVec,
    /// By [`Op`].
    resolved: Vec<Histogram>,
    errors: IntCounterVec,
    commit: Histogram,
    mutations: Histogram,
    engine_errors: AtomicU64,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("engine_errors", &self.engine_errors).finish_non_exhaustive()
    }
}

/// A metric whose name and labels are written here.
///
/// # Panics
/// When they are malformed: a bug, found by the first test.
fn made<T>(metric: Result<T, prometheus::Error>) -> T {
    match metric {
        Ok(metric) => metric,
        Err(error) => panic!("a metric of the metadata service cannot be made: {error}"),
    }
}

impl Default for Numbers {
    fn default() -> Self {
        let latency = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(LATENCY_BOUNDS_S.to_vec());
        let operations = made(HistogramVec::new(
            latency(
                "dgfs_meta_operation_seconds",
                "Time from a call's arrival to its answer, by operation; parked calls left out",
            ),
            &["op"],
        ));
        let resolved = Op::ALL.iter().map(|op| operations.with_label_values(&[op.name()])).collect();
        let errors = Opts::new("dgfs_meta_operation_errors_total", "Calls that were refused, by operation and reason");
        let commit = latency("dgfs_meta_commit_seconds", "Time the engine took for a commit group");
        let mutations = HistogramOpts::new("dgfs_meta_commit_mutations", "Changes in one commit group");
        Self {
            operations,
            resolved,
            errors: made(IntCounterVec::new(errors, &["op", "status"])),
            commit: made(Histogram::with_opts(commit)),
            mutations: made(Histogram::with_opts(mutations.buckets(MUTATION_BOUNDS.to_vec()))),
            engine_errors: AtomicU64::new(0),
        }
    }
}

impl Numbers {
    /// Shows them in `set`, once.
    pub(crate) fn register(&self, set: &MetricSet) {
        set.adopt(&self.operations);
        set.adopt(&self.errors);
        set.adopt(&self.commit);
        set.adopt(&self.mutations);
    }

    /// A call was answered.
    pub(crate) fn answered(&self, op: Option<Op>, took: Duration, reply: &MetaReply) {
        let Some(op) = op.filter(|_| instruments::are_on()) else { return };
        if let Some(histogram) = self.resolved.get(op as usize) {
            histogram.observe(took.as_secs_f64());
        }
        if let MetaReply::Refused(status) = reply {
            self.errors.with_label_values(&[op.name(), status.word()]).inc();
        }
    }

    /// A commit group is in the engine.
    pub(crate) fn committed(&self, took: Duration, mutations: u64) {
        if !instruments::are_on() {
            return;
        }
        self.commit.observe(took.as_secs_f64());
        self.mutations.observe(mutations as f64);
    }

    /// The engine did not do what it was asked for.
    pub(crate) fn engine_failed(&self) {
        self.engine_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub(crate) fn engine_errors(&self) -> u64 {
        self.engine_errors.load(Ordering::Relaxed)
    }
}
