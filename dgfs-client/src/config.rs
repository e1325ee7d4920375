//! What a mount is told, and why it could not start.
//!
//! Never reads a file: the `dgfs` command does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use dgfs_proto::chunk::PutDurability;
use dgfs_proto::meta::ClientInfo;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, GraphProtocol, MetaProtocol};

use crate::stores::ChunkDirectory;

/// Smallest write-back budget: two chunks of the default size and a request.
pub const WRITE_BACK_BYTES_MIN: u64 = 9 << 20;

/// The virtual directory's name, unless a mount is told another one.
pub const TAGS_NAME_DEFAULT: &[u8] = b".tags";

/// A cache on a local disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCacheConfig {
    /// Its directory.
    pub directory: PathBuf,
    /// Bytes it may take, about.
    pub bytes: u64,
}

/// Settings of one mount.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Who mounts.
    pub client: ClientInfo,
    /// Bytes of unsent writes at most; at least [`WRITE_BACK_BYTES_MIN`] is used.
    pub write_back_bytes: u64,
    /// Bytes of chunk data kept for reading; 0 keeps none (embedded: the page cache does).
    pub read_cache_bytes: u64,
    /// Chunk data kept on a local disk, too, shared by the mounts of this host.
    pub disk_cache: Option<DiskCacheConfig>,
    /// The largest read-ahead window; 0 reads nothing ahead.
    pub read_ahead_bytes_max: u64,
    /// What a put's answer means. With `Handed`, fsync also syncs the storage servers.
    pub durability: PutDurability,
    /// How long one operation tries before it answers `Unavailable`.
    pub deadline: Duration,
    /// Answer `Unavailable` at the first failure instead.
    pub soft: bool,
    /// Age at which unsent writes are sent.
    pub flush_age: Duration,
    /// How long the kernel may believe answers while no other session exists.
    pub ttl_sole: Duration,
    /// Meta and storage are in this process: asking them is as cheap as a cache.
    pub local: bool,
    /// The name of the virtual directory that every directory has; none: there is no such directory.
    pub tags_name: Option<Vec<u8>>,
    /// It is listed, too.
    pub tags_visible: bool,
    /// Where files are made that programs make in a tag's directory: a path from the volume's root; none: they are refused.
    pub inbox: Option<Vec<u8>>,
}

impl VfsConfig {
    /// Settings of an embedded mount: everything in this process.
    #[must_use]
    pub fn embedded(client: ClientInfo) -> Self {
        Self {
            client,
            write_back_bytes: 128 << 20,
            read_cache_bytes: 0,
            disk_cache: None,
            read_ahead_bytes_max: 0,
            durability: PutDurability::Handed,
            deadline: Duration::from_secs(60),
            soft: false,
            flush_age: Duration::from_secs(1),
            ttl_sole: Duration::from_secs(3600),
            local: true,
            tags_name: Some(TAGS_NAME_DEFAULT.to_vec()),
            tags_visible: false,
            inbox: None,
        }
    }

    /// Settings of a mount of a cluster.
    #[must_use]
    pub fn cluster(client: ClientInfo) -> Self {
        Self {
            client,
            write_back_bytes: 128 << 20,
            read_cache_bytes: 64 << 20,
            disk_cache: None,
            read_ahead_bytes_max: 16 << 20,
            durability: PutDurability::Synced,
            deadline: Duration::from_secs(60),
            soft: false,
            flush_age: Duration::from_secs(1),
            ttl_sole: Duration::from_secs(1),
            local: false,
            tags_name: Some(TAGS_NAME_DEFAULT.to_vec()),
            tags_visible: false,
            inbox: None,
        }
    }
}

/// What a mount talks to.
#[derive(Clone)]
pub struct VfsDeps {
    /// The metadata servers, the likely active one first; at least one.
    pub meta: Vec<Arc<dyn Channel<MetaProtocol>>>,
    /// Reaches storage servers.
    pub stores: Arc<dyn ChunkDirectory>,
    /// The indexes, any of which answers; none: whatever is asked inside `.tags` is answered `NotSupported`.
    pub graph: Vec<Arc<dyn Channel<GraphProtocol>>>,
}

/// Why a mount could not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no metadata server was named: give at least one address")]
    NoMeta,
    /// Nobody answered in time.
    #[error(
        "no metadata server answered ({peers}): check that `dgfs meta` runs there and that the addresses are right"
    )]
    Unreachable {
        /// The addresses tried.
        peers: String,
    },
    /// Another cluster, version or a bad certificate: a sentence with the remedy.
    #[error("{0}")]
    Rejected(String),
    /// The local cache cannot be used.
    #[error("the cache directory {directory} cannot be used: {reason}; name another one with --cache-dir")]
    DiskCache {
        /// The directory.
        directory: String,
        /// Why.
        reason: String,
    },
    /// Meta refused the session.
    #[error("the metadata server refused the session: {0}")]
    Refused(Status),
    /// The volume cannot be used by this program.
    #[error(
        "the volume's chunk size of {0} bytes is outside what this version supports: use the version that formatted it"
    )]
    ChunkBytes(u32),
}
