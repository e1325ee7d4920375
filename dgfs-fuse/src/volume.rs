//! Reaches the parts of a volume, wherever they run, for mounts and tools alike.
//!
//! Never keeps state of a volume and never retries for long: a tool says what failed. Opening a mount's session is the client library's work.

pub mod index;
mod inode;
pub mod uses;
pub mod watched;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use dgfs_client::stores::{ChunkDirectory, NoChannel, StoresByAddress};
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest};
use dgfs_proto::ids::{Epoch, Ino};
use dgfs_proto::limits::MEMBERS_PAGE_MAX;
use dgfs_proto::limits::USES_MAX;
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{
    AdminRequest, InodeChunks, MemberStatus, MetaCall, MetaReply, MetaRequest, MetaStatus, Query, ServerStatus,
    WatchReply, WatchRequest,
};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, ChunkProtocol, GraphProtocol, MetaProtocol, Role};
use dgfs_runtime::pki::Identity;
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::telemetry::fresh_request_id;

use crate::adapter::Inspect;
use crate::mount::checks::own_uid;
use crate::volume::index::ClusterIndex;
use crate::volume::uses::{TopChunk, TopChunks, TopError, TopQuestion};
use crate::volume::watched::MountWatch;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);
/// Storage servers asked at once.
const STORES_AT_ONCE: usize = 32;

/// Before the slot from which `dgfs.info` goes on.
const INFO_FROM: &[u8] = b"dgfs.info.";
/// Before the order, the limit and the server of the busiest chunks.
const CHUNKS: &[u8] = b"dgfs.chunks.";
/// Bytes of chunks in one attribute: 64 KiB less what is around them.
const TOP_BYTES_MAX: usize = 60_000;

/// Channels to a volume's metadata services and storage servers. Cheap to clone.
#[derive(Clone)]
pub struct VolumeLink {
    /// Metadata services, the likely active one first.
    pub metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
    /// Storage servers.
    pub stores: Arc<dyn ChunkDirectory>,
    /// Whoever answers for the graph; none where nobody is asked.
    pub graph: Vec<Arc<dyn Channel<GraphProtocol>>>,
}

impl VolumeLink {
    /// Channels to a cluster.
    ///
    /// # Errors
    /// The identity's files do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn to_cluster(metas: &[String], identity: &Identity) -> Result<Self, String> {
        let meta = |address: &String| -> Result<Arc<dyn Channel<MetaProtocol>>, String> {
            let channel = QuicChannel::<MetaProtocol>::new(address.clone(), identity, Role::Meta);
            channel
                .map(|channel| Arc::new(channel) as Arc<dyn Channel<MetaProtocol>>)
                .map_err(|error| error.to_string())
        };
        let metas = metas.iter().map(meta).collect::<Result<_, _>>()?;
        let identity = identity.clone();
        let make = move |address: &str| -> Arc<dyn Channel<ChunkProtocol>> {
            match QuicChannel::<ChunkProtocol>::new(address.to_owned(), &identity, Role::Stored) {
                Ok(channel) => Arc::new(channel),
                Err(error) => Arc::new(NoChannel::new(error.to_string())),
            }
        };
        Ok(Self { metas, stores: Arc::new(StoresByAddress::new(make)), graph: Vec::new() })
    }

    /// The same, which also reaches the cluster's index services.
    #[must_use]
    pub fn with_index(mut self, identity: &Identity) -> Self {
        self.graph = vec![Arc::new(ClusterIndex::new(self.clone(), identity.clone()))];
        self
    }

    /// Asks the active metadata service.
    ///
    /// # Errors
    /// A sentence: nobody is active, nobody answers, or the answer is a refusal.
    pub async fn ask(&self, request: MetaRequest) -> Result<MetaReply, String> {
        let mut last = "no metadata server was named".to_owned();
        for meta in &self.metas {
            let call = MetaCall { request_id: fresh_request_id(), session: None, request: request.clone() };
            match meta.call(call, Bytes::new(), Some(QUESTION)).await {
                Ok((MetaReply::Refused(Status::NotActive), _)) => last = format!("{} is a standby", meta.peer()),
                Ok((MetaReply::Refused(status), _)) => return Err(format!("{} refused: {status}", meta.peer())),
                Ok((reply, _)) => return Ok(reply),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    /// The metadata service's numbers.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn status(&self) -> Result<MetaStatus, String> {
        match self.ask(MetaRequest::Admin(AdminRequest::Status)).await? {
            MetaReply::Status(status) => Ok(status),
            _ => Err("the metadata service answered something else than its status".to_owned()),
        }
    }

    /// The cluster map.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn map(&self) -> Result<ClusterMap, String> {
        match self.ask(MetaRequest::GetMap(Epoch(0))).await? {
            MetaReply::Map(map) => Ok(map.unwrap_or_default()),
            _ => Err("the metadata service answered something else than a map".to_owned()),
        }
    }

    /// The storage servers with their history.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn servers(&self) -> Result<Vec<ServerStatus>, String> {
        match self.ask(MetaRequest::Admin(AdminRequest::Servers)).await? {
            MetaReply::Servers(servers) => Ok(servers),
            _ => Err("the metadata service does not tell its storage servers".to_owned()),
        }
    }

    /// A page of inodes with their chunks, behind `after`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn inodes(&self, after: Option<Ino>, limit: u32) -> Result<Vec<InodeChunks>, String> {
        match self.ask(MetaRequest::Admin(AdminRequest::Inodes { after, limit })).await? {
            MetaReply::Inodes(page) => Ok(page),
            _ => Err("the metadata service answered something else than inodes".to_owned()),
        }
    }

    /// Asks one storage server.
    ///
    /// # Errors
    /// A sentence: it does not answer.
    pub async fn ask_store(
        &self,
        server: &ServerInfo,
        epoch: Epoch,
        request: ChunkRequest,
    ) -> Result<ChunkReply, String> {
        let call = ChunkCall { request_id: fresh_request_id(), map_epoch: epoch, session: None, request };
        let answer = self.stores.channel(server).call(call, Bytes::new(), Some(QUESTION)).await;
        answer.map(|(reply, _)| reply).map_err(|error| error.to_string())
    }

    /// Everything `dgfs status` shows, as JSON.
    ///
    /// # Errors
    /// The metadata service does not answer; a silent storage server is told in the answer.
    pub async fn describe(&self) -> Result<Value, String> {
        let status = self.status().await?;
        // Together: each that is silently away takes as long as a connection may take to fail.
        let asked: Vec<BoxFuture<'_, Value>> = status
            .map
            .servers
            .iter()
            .map(|server| Box::pin(self.describe_store(server, status.map.epoch)) as BoxFuture<'_, Value>)
            .collect();
        let stores: Vec<Value> = stream::iter(asked).buffered(STORES_AT_ONCE).collect().await;
        let mut value = json!({ "meta": status, "stores": stores, "processes": self.processes().await? });
        // The tables of 4,096 partitions are for programs that ask for the map itself.
        if let Some(map) = value.pointer_mut("/meta/map").and_then(Value::as_object_mut) {
            map.remove("classes");
        }
        if let Some(uuid) = value.pointer_mut("/meta/volume/uuid") {
            *uuid = json!(status.volume.uuid.to_string());
        }
        Ok(value)
    }

    /// The processes of the cluster; none of an embedded volume.
    async fn processes(&self) -> Result<Vec<MemberStatus>, String> {
        let mut all: Vec<MemberStatus> = Vec::new();
        loop {
            let after = all.last().map(|one| one.who.instance);
            match self.ask(MetaRequest::Watch(WatchRequest::Members { after, limit: MEMBERS_PAGE_MAX })).await? {
                MetaReply::Watch(WatchReply::Members(page)) if page.is_empty() => return Ok(all),
                MetaReply::Watch(WatchReply::Members(page)) => all.extend(page),
                _ => return Err("the metadata service answered something else".to_owned()),
            }
        }
    }

    async fn describe_store(&self, server: &ServerInfo, epoch: Epoch) -> Value {
        match self.ask_store(server, epoch, ChunkRequest::Status).await {
            Ok(ChunkReply::Status(status)) => json!(status),
            Ok(_) => json!({ "server": server.id, "error": "refused to tell its status" }),
            Err(error) => json!({ "server": server.id, "error": error }),
        }
    }
}

/// The slot in `dgfs.info.SLOT`.
fn first_slot(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name.strip_prefix(INFO_FROM)?).ok()?.parse().ok()
}

/// What follows [`CHUNKS`] in an attribute's name: `ORDER.LIMIT`, or `ORDER.LIMIT.SERVER`.
fn top_question(name: &[u8]) -> Option<TopQuestion> {
    let mut words = std::str::from_utf8(name.strip_prefix(CHUNKS)?).ok()?.splitn(3, '.');
    let (by, limit) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (1..=USES_MAX).contains(&limit).then(|| TopQuestion { by, limit, server: words.next().map(str::to_owned) })
}

/// As many chunks of an answer as fit an attribute.
fn fitting(mut top: TopChunks) -> Value {
    let mut room = TOP_BYTES_MAX;
    let fits = |chunk: &TopChunk| {
        let bytes = json!(chunk).to_string().len() + 1;
        room = room.saturating_sub(bytes);
        room > 0
    };
    let count = top.chunks.iter().map(fits).take_while(|fits| *fits).count();
    top.cut = count < top.chunks.len();
    top.chunks.truncate(count);
    json!(top)
}

/// Answers `dgfs.*` attributes of a mount.
pub struct MountInspector {
    /// The volume.
    pub link: VolumeLink,
    /// What `dgfs.mount` answers.
    pub mount: Vec<u8>,
    /// What is told of the process itself.
    pub watched: MountWatch,
}

impl Inspect for MountInspector {
    fn inspect(&self, uid: u32, ino: Ino, name: &[u8]) -> BoxFuture<'static, Result<Vec<u8>, Status>> {
        let is_owner = uid == 0 || uid == own_uid();
        if watched::is_named(name) {
            return if is_owner {
                self.watched.answer(self.link.clone(), name.to_vec())
            } else {
                Box::pin(async { Err(Status::NotPermitted) })
            };
        }
        // Names of files anywhere in the volume: for whoever runs the mount, not for whoever may use it.
        if name.starts_with(CHUNKS) && !is_owner {
            return Box::pin(async { Err(Status::AccessDenied) });
        }
        let (link, mount, name) = (self.link.clone(), self.mount.clone(), name.to_vec());
        Box::pin(async move {
            let answer = match name.as_slice() {
                b"dgfs.mount" => return Ok(mount),
                b"dgfs.policy" | b"dgfs.compression" => {
                    let asked = link.ask(MetaRequest::Query(Query::Policy(ino))).await;
                    return match asked {
                        Ok(MetaReply::Policy { class, .. }) if name == b"dgfs.policy" => {
                            Ok(class.to_string().into_bytes())
                        }
                        Ok(MetaReply::Policy { compression, .. }) => Ok(compression.to_string().into_bytes()),
                        Ok(_) | Err(_) => Err(Status::Io),
                    };
                }
                b"dgfs.info" => link.describe_inode(ino, 0).await,
                name if name.starts_with(INFO_FROM) => match first_slot(name) {
                    Some(first) => link.describe_inode(ino, first).await,
                    None => return Err(Status::NoXattr),
                },
                name if name.starts_with(CHUNKS) => match top_question(name) {
                    Some(question) => match link.top_chunks(&question).await {
                        Ok(top) => Ok(fitting(top)),
                        Err(TopError::NoServer(_)) => return Err(Status::NotFound),
                        Err(TopError::Silent(sentence)) => Err(sentence),
                    },
                    None => return Err(Status::NoXattr),
                },
                b"dgfs.status" => link.describe().await,
                b"dgfs.servers" => link.servers().await.map(|servers| json!(servers)),
                _ => return Err(Status::NoXattr),
            };
            match answer {
                Ok(value) => Ok(value.to_string().into_bytes()),
                Err(error) => {
                    tracing::warn!(%error, "a question about the mount was not answered");
                    Err(Status::Io)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::chunk::UseOrder;
    use dgfs_proto::ids::ChunkId;

    use super::uses::{TopChunk, TopChunks, TopQuestion};
    use super::{fitting, top_question};

    #[test]
    fn the_name_of_an_attribute_says_which_chunks_are_wanted() {
        let question = |server: Option<&str>| {
            Some(TopQuestion { by: UseOrder::Reads, limit: 9, server: server.map(str::to_owned) })
        };
        assert_eq!(top_question(b"dgfs.chunks.reads.9"), question(None));
        assert_eq!(top_question(b"dgfs.chunks.reads.9.a.b"), question(Some("a.b")));
        for name in ["dgfs.chunks.reads", "dgfs.chunks.names.9", "dgfs.chunks.reads.0", "dgfs.chunks.reads.1001"] {
            assert_eq!(top_question(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn an_answer_fits_an_attribute_and_says_that_it_was_cut() {
        let chunk = |path: String| TopChunk {
            chunk: ChunkId::new(1).unwrap(),
            class: "r1".to_owned(),
            ino: None,
            index: 0,
            path: Some(path),
            reads: 1,
            writes: 1,
            read_bytes: 1,
            write_bytes: 1,
            errors: 0,
            last_use: 1,
            servers: Vec::new(),
        };
        let top = |length: usize| TopChunks { chunks: vec![chunk("x".repeat(length)); 100], ..TopChunks::default() };
        let whole = fitting(top(10));
        assert_eq!((whole["chunks"].as_array().unwrap().len(), &whole["cut"]), (100, &serde_json::json!(false)));
        let cut = fitting(top(4000));
        assert_eq!(cut["cut"], true);
        let (chunks, bytes) = (cut["chunks"].as_array().unwrap().len(), cut.to_string().len());
        assert!(chunks >= 10 && bytes < 65_536, "{chunks} chunks, {bytes} bytes");
    }
}
