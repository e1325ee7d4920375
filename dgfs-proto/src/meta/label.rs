//! The words for requests in logs and metrics.
//!
//! Never says anything of their contents.

use crate::chunk::ChunkRequest;
use crate::meta::{AdminRequest, MetaRequest, Mutation, Query, ServerRequest, SessionRequest, WatchRequest};

impl MetaRequest {
    /// The operation, one of a bounded set.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Session(request) => request.op(),
            Self::Query(query) => query.op(),
            Self::Mutate { mutation, .. } => mutation.op(),
            Self::CancelWait(_) => "cancel_wait",
            Self::Sync => "sync",
            Self::GetMap(_) => "map",
            Self::Volume => "volume",
            Self::Server(request) => request.op(),
            Self::Admin(_) => "admin",
            Self::KeptBack { .. } => "kept_back",
            Self::Watch(_) => "watch",
        }
    }

    /// Does it wait for others by its nature (polls, locks, followers of the log)?
    #[must_use]
    pub const fn waits(&self) -> bool {
        match self {
            Self::Session(request) => matches!(request, SessionRequest::Poll { .. } | SessionRequest::Open { .. }),
            Self::Mutate { mutation, .. } => matches!(mutation, Mutation::Lock { wait: true, .. }),
            Self::Admin(request) => matches!(request, AdminRequest::Log { wait: true, .. }),
            Self::Watch(request) => matches!(request, WatchRequest::Events { wait: true, .. }),
            Self::Query(_)
            | Self::CancelWait(_)
            | Self::Sync
            | Self::GetMap(_)
            | Self::Volume
            | Self::Server(_)
            | Self::KeptBack { .. } => false,
        }
    }
}

impl SessionRequest {
    const fn op(&self) -> &'static str {
        match self {
            Self::Open { .. } => "session_open",
            Self::Beat => "session_beat",
            Self::Poll { .. } => "session_poll",
            Self::Close => "session_close",
            Self::Recalled(_) => "recalled",
        }
    }
}

impl Query {
    const fn op(&self) -> &'static str {
        match self {
            Self::Lookup { .. } => "lookup",
            Self::GetAttr(_) | Self::GetAttrs(_) => "getattr",
            Self::ReadDir { .. } => "readdir",
            Self::ReadLink(_) => "readlink",
            Self::Content { .. } | Self::Contents { .. } | Self::NextChunk { .. } => "content",
            Self::GetXattr { .. } | Self::ListXattr(_) => "getxattr",
            Self::TreeStat(_) => "treestat",
            Self::TestLock { .. } => "test_lock",
            Self::StatFs => "statfs",
            Self::PathOf(_) => "path_of",
            Self::Policy(_) => "policy",
            Self::LeaseWrites(_) => "lease_writes",
        }
    }
}

impl Mutation {
    const fn op(&self) -> &'static str {
        match self {
            Self::Make { .. } => "make",
            Self::Link { .. } => "link",
            Self::Remove { .. } => "remove",
            Self::Rename { .. } => "rename",
            Self::SetAttr { .. } => "setattr",
            Self::Commit(_) => "commit",
            Self::SetXattr { .. } | Self::RemoveXattr { .. } => "setxattr",
            Self::Tag(_) | Self::Tags { .. } => "tag",
            Self::Relate { .. } => "relate",
            Self::SaveQuery { .. } => "save_query",
            Self::CopyChunks { .. } => "copy_chunks",
            Self::Open { .. } | Self::Register { .. } => "open",
            Self::Release { .. } => "release",
            Self::Lock { .. } | Self::UnlockOwner { .. } => "lock",
            Self::Grant { .. } | Self::GrantInodes { .. } => "grant",
        }
    }
}

impl ServerRequest {
    const fn op(&self) -> &'static str {
        match self {
            Self::Join { .. } => "server_join",
            Self::Beat { .. } => "server_beat",
            Self::CheckLive(_) | Self::CheckMoves(_) | Self::CheckCompression(_) => "server_check",
            Self::Numbers { .. } => "server_numbers",
            Self::Move { .. } => "server_move",
        }
    }
}

impl ChunkRequest {
    /// The operation, one of a bounded set.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Get { .. } => "get",
            Self::Extents(_) => "extents",
            Self::Sync => "sync",
            Self::Verify(_) => "verify",
            Self::List { .. } => "list",
            Self::Status => "status",
            Self::Drop(_) => "drop",
            Self::Export(_) => "export",
            Self::Repair(_) => "repair",
            Self::Stored(_) => "stored",
            Self::Uses(_) => "uses",
        }
    }
}
