//! Counts what a mount asked of its peers and what its caches did.
//!
//! Never decides anything by its numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec};

use dgfs_proto::chunk::ChunkRequest;
use dgfs_proto::meta::{MetaRequest, Mutation, Query, SessionRequest};
use dgfs_runtime::instruments;
use dgfs_runtime::metrics::{LATENCY_BOUNDS_S, histograms_by};

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($kind:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $text] $kind),+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its name, for metrics.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$kind => $text),+ }
            }
        }
    };
}

kinds!(
    /// Kinds of calls to the metadata service.
    MetaKind {
        Session = "session", Lookup = "lookup", GetAttr = "getattr", ReadDir = "readdir", ReadLink = "readlink",
        Content = "content", Xattr = "xattr", OtherQuery = "query", Make = "make", Link = "link",
        Remove = "remove", Rename = "rename", SetAttr = "setattr", Commit = "commit", SetXattr = "setxattr",
        CopyChunks = "copy_chunks", Open = "open", Release = "release", Lock = "lock", Grant = "grant",
        Sync = "sync", Map = "map", Lease = "lease", Recall = "recall", KeptBack = "kept_back", Other = "other",
    }
);

kinds!(
    /// Kinds of calls to storage servers.
    ChunkKind { Put = "put", Get = "get", Extents = "extents", Sync = "sync", Other = "other" }
);

impl MetaKind {
    pub(crate) const fn of(request: &MetaRequest) -> Self {
        match request {
            MetaRequest::Session(
                SessionRequest::Open { .. }
                | SessionRequest::Beat
                | SessionRequest::Poll { .. }
                | SessionRequest::Close,
            ) => Self::Session,
            MetaRequest::Session(SessionRequest::Recalled(_)) => Self::Recall,
            MetaRequest::Query(query) => Self::of_query(query),
            MetaRequest::Mutate { mutation, .. } => Self::of_mutation(mutation),
            MetaRequest::KeptBack { .. } => Self::KeptBack,
            MetaRequest::Sync => Self::Sync,
            MetaRequest::GetMap(_) => Self::Map,
            MetaRequest::CancelWait(_)
            | MetaRequest::Volume
            | MetaRequest::Server(_)
            | MetaRequest::Admin(_)
            | MetaRequest::Watch(_) => Self::Other,
        }
    }

    const fn of_query(query: &Query) -> Self {
        match query {
            Query::Lookup { .. } => Self::Lookup,
            Query::GetAttr(_) | Query::GetAttrs(_) => Self::GetAttr,
            Query::ReadDir { .. } => Self::ReadDir,
            Query::ReadLink(_) => Self::ReadLink,
            Query::Content { .. } | Query::Contents { .. } | Query::NextChunk { .. } => Self::Content,
            Query::GetXattr { .. } | Query::ListXattr(_) => Self::Xattr,
            Query::LeaseWrites(_) => Self::Lease,
            Query::TreeStat(_) | Query::TestLock { .. } | Query::StatFs | Query::PathOf(_) | Query::Policy(_) => {
                Self::OtherQuery
            }
        }
    }

    const fn of_mutation(mutation: &Mutation) -> Self {
        match mutation {
            Mutation::Make { .. } => Self::Make,
            Mutation::Link { .. } => Self::Link,
            Mutation::Remove { .. } => Self::Remove,
            Mutation::Rename { .. } => Self::Rename,
            Mutation::SetAttr { .. } => Self::SetAttr,
            Mutation::Commit(_) => Self::Commit,
            Mutation::SetXattr { .. }
            | Mutation::RemoveXattr { .. }
            | Mutation::Tag(_)
            | Mutation::Tags { .. }
            | Mutation::Relate { .. }
            | Mutation::SaveQuery { .. } => Self::SetXattr,
            Mutation::CopyChunks { .. } => Self::CopyChunks,
            Mutation::Open { .. } | Mutation::Register { .. } => Self::Open,
            Mutation::Release { .. } => Self::Release,
            Mutation::Lock { .. } | Mutation::UnlockOwner { .. } => Self::Lock,
            Mutation::Grant { .. } | Mutation::GrantInodes { .. } => Self::Grant,
        }
    }
}

impl ChunkKind {
    pub(crate) const fn of(request: &ChunkRequest) -> Self {
        match request {
            ChunkRequest::Put(_) => Self::Put,
            ChunkRequest::Get { .. } => Self::Get,
            ChunkRequest::Extents(_) => Self::Extents,
            ChunkRequest::Sync => Self::Sync,
            ChunkRequest::Verify(_)
            | ChunkRequest::List { .. }
            | ChunkRequest::Status
            | ChunkRequest::Drop(_)
            | ChunkRequest::Export(_)
            | ChunkRequest::Repair(_)
            | ChunkRequest::Stored(_)
            | ChunkRequest::Uses(_) => Self::Other,
        }
    }
}

/// What happened since the mount began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// Calls to the metadata service by kind, retries counted too.
    pub meta: Vec<(MetaKind, u64)>,
    /// Calls to storage servers by kind.
    pub chunk: Vec<(ChunkKind, u64)>,
    /// Those of them that were not answered, or with a refusal.
    pub chunk_errors: Vec<(ChunkKind, u64)>,
}

impl RoundTrips {
    /// Calls of one kind.
    #[must_use]
    pub fn meta_calls(&self, kind: MetaKind) -> u64 {
        self.meta.iter().find(|(of, _)| *of == kind).map_or(0, |(_, calls)| *calls)
    }

    /// Calls of one kind.
    #[must_use]
    pub fn chunk_calls(&self, kind: ChunkKind) -> u64 {
        self.chunk.iter().find(|(of, _)| *of == kind).map_or(0, |(_, calls)| *calls)
    }

    /// All calls to meta but heartbeats and polls.
    #[must_use]
    pub fn meta_total(&self) -> u64 {
        self.meta.iter().filter(|(kind, _)| *kind != MetaKind::Session).map(|(_, calls)| calls).sum()
    }
}

/// Further numbers of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientNumbers {
    /// Bytes of unsent writes now.
    pub dirty_bytes: u64,
    /// Writes that waited for room.
    pub writes_waited: u64,
    /// Commits repeated because another writer was first.
    pub conflicts: u64,
    /// Times the session was taken up again.
    pub resumes: u64,
    /// Writes lost to an error that trying again does not mend.
    pub write_errors: u64,
    /// Reads answered from the read cache.
    pub cache_hits: u64,
    /// Blocks read from the cache on the local disk.
    pub disk_cache_hits: u64,
    /// Blocks of that cache that were not what they should have been.
    pub disk_cache_damaged: u64,
    /// Blocks fetched ahead.
    pub read_ahead: u64,
    /// Changes made ahead of meta.
    pub kept_back: u64,
    /// Those of them that were refused: 0, unless the engine is full or the session was ended.
    pub kept_refused: u64,
    /// Those of them that ended otherwise than they were told: 0.
    pub kept_otherwise: u64,
    /// Those of them that wait for their answers now.
    pub kept_waiting: u64,
    /// Bytes of unsent writes at most.
    pub dirty_limit_bytes: u64,
    /// Bytes of chunk data in the read cache.
    pub cache_bytes: u64,
    /// Bytes it may take.
    pub cache_limit_bytes: u64,
    /// Blocks that no cache had.
    pub cache_misses: u64,
    /// Bytes the cache on the local disk takes, all mounts that share it together, as far as this one knows.
    pub disk_cache_bytes: u64,
    /// Milliseconds since the metadata service last answered; 0 once the session is over, when nobody asks it any more.
    pub meta_silent_ms: u64,
}

/// How long calls took, for metrics: the series are shared with whoever counts.
#[derive(Clone, Debug)]
pub struct CallTimes {
    /// Calls to the metadata service, by kind.
    pub meta: HistogramVec,
    /// Calls to storage servers, by kind.
    pub chunk: HistogramVec,
}

#[derive(Debug)]
pub(crate) struct Counters {
    meta: [AtomicU64; MetaKind::ALL.len()],
    chunk: [AtomicU64; ChunkKind::ALL.len()],
    /// Calls to storage servers that had no answer, or a refusal.
    chunk_errors: [AtomicU64; ChunkKind::ALL.len()],
    pub(crate) times: CallTimes,
    /// The series of `times` in the order of the kinds: found once, not with each call.
    meta_times: Vec<Histogram>,
    chunk_times: Vec<Histogram>,
    pub(crate) cache_misses: AtomicU64,
    pub(crate) writes_waited: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) resumes: AtomicU64,
    pub(crate) write_errors: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) disk_cache_hits: AtomicU64,
    pub(crate) disk_cache_damaged: AtomicU64,
    pub(crate) read_ahead: AtomicU64,
    pub(crate) kept_back: AtomicU64,
    pub(crate) kept_refused: AtomicU64,
    pub(crate) kept_otherwise: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let by = |name, help| histograms_by(name, help, "kind", &LATENCY_BOUNDS_S);
        let times = CallTimes {
            meta: by("dgfs_client_meta_call_seconds", "Seconds until the metadata service answered, by kind of call"),
            chunk: by("dgfs_client_chunk_call_seconds", "Seconds until a storage server answered, by kind of call"),
        };
        Self {
            meta_times: MetaKind::ALL.iter().map(|kind| times.meta.with_label_values(&[kind.text()])).collect(),
            chunk_times: ChunkKind::ALL.iter().map(|kind| times.chunk.with_label_values(&[kind.text()])).collect(),
            times,
            chunk_errors: [const { AtomicU64::new(0) }; ChunkKind::ALL.len()],
            cache_misses: AtomicU64::new(0),
            meta: [const { AtomicU64::new(0) }; MetaKind::ALL.len()],
            chunk: [const { AtomicU64::new(0) }; ChunkKind::ALL.len()],
            writes_waited: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            disk_cache_hits: AtomicU64::new(0),
            disk_cache_damaged: AtomicU64::new(0),
            read_ahead: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
            kept_refused: AtomicU64::new(0),
            kept_otherwise: AtomicU64::new(0),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn meta(&self, kind: MetaKind) {
        if let Some(counter) = self.meta.get(kind as usize) {
            count(counter);
        }
    }

    pub(crate) fn chunk(&self, kind: ChunkKind) {
        if let Some(counter) = self.chunk.get(kind as usize) {
            count(counter);
        }
    }

    pub(crate) fn meta_took(&self, kind: MetaKind, time: Duration) {
        if !instruments::are_on() {
            return;
        }
        if let Some(times) = self.meta_times.get(kind as usize) {
            times.observe(time.as_secs_f64());
        }
    }

    pub(crate) fn chunk_took(&self, kind: ChunkKind, time: Duration) {
        if !instruments::are_on() {
            return;
        }
        if let Some(times) = self.chunk_times.get(kind as usize) {
            times.observe(time.as_secs_f64());
        }
    }

    pub(crate) fn chunk_failed(&self, kind: ChunkKind) {
        if let Some(counter) = self.chunk_errors.get(kind as usize) {
            count(counter);
        }
    }

    pub(crate) fn round_trips(&self) -> RoundTrips {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RoundTrips {
            meta: MetaKind::ALL.iter().copied().zip(self.meta.iter().map(read)).collect(),
            chunk: ChunkKind::ALL.iter().copied().zip(self.chunk.iter().map(read)).collect(),
            chunk_errors: ChunkKind::ALL.iter().copied().zip(self.chunk_errors.iter().map(read)).collect(),
        }
    }

    /// What is counted here; the rest is 0.
    pub(crate) fn numbers(&self) -> ClientNumbers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClientNumbers {
            writes_waited: read(&self.writes_waited),
            conflicts: read(&self.conflicts),
            resumes: read(&self.resumes),
            write_errors: read(&self.write_errors),
            cache_hits: read(&self.cache_hits),
            disk_cache_hits: read(&self.disk_cache_hits),
            disk_cache_damaged: read(&self.disk_cache_damaged),
            read_ahead: read(&self.read_ahead),
            kept_back: read(&self.kept_back),
            kept_refused: read(&self.kept_refused),
            kept_otherwise: read(&self.kept_otherwise),
            cache_misses: read(&self.cache_misses),
            ..ClientNumbers::default()
        }
    }
}
