//! The busiest chunks of a volume: asked of every storage server, added up, and named by their files.
//!
//! Never counts anything itself. Always: a server that does not answer is named in the answer, and what is told of a chunk is the
//! sum over the servers that did; a path is that of the file the chunk was written for, if it still has one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use dgfs_proto::chunk::{ChunkReply, ChunkRequest, ChunkUse, UseOrder, UsesOf};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::{ChunkId, Epoch, Ino, ServerId};
use dgfs_proto::limits::USES_MAX;
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{MetaReply, MetaRequest, Query};

use super::{STORES_AT_ONCE, VolumeLink};

/// Chunks that the second question is about, at most: the first of all that any server named.
const CANDIDATES_MAX: usize = 4 * USES_MAX;
/// Paths asked for at once.
const PATHS_AT_ONCE: usize = 16;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopQuestion {
    /// The order, the greatest first.
    pub by: UseOrder,
    /// 1 to [`USES_MAX`].
    pub limit: usize,
    /// The number or the name of the one server that is asked; none: all.
    pub server: Option<String>,
}

/// The busiest chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopChunks {
    /// The busiest first.
    pub chunks: Vec<TopChunk>,
    /// Servers that did not tell, and why.
    pub silent: Vec<String>,
    /// There were more than fit the answer.
    #[serde(default)]
    pub cut: bool,
}

/// Use of one chunk at all servers together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopChunk {
    /// Its id (of a coded one that of the whole, not of a shard).
    pub chunk: ChunkId,
    /// Its redundancy class.
    pub class: String,
    /// The inode it was written for.
    pub ino: Option<Ino>,
    /// Which chunk of that inode.
    pub index: u64,
    /// Where that inode is in the volume; none when it has no name any more.
    pub path: Option<String>,
    /// Gets.
    pub reads: u64,
    /// Puts: a write to three copies counts three times.
    pub writes: u64,
    /// Bytes got.
    pub read_bytes: u64,
    /// Bytes put.
    pub write_bytes: u64,
    /// Gets and puts that failed.
    pub errors: u64,
    /// Seconds since 1970 of the last get or put.
    pub last_use: u64,
    /// The servers that counted.
    pub servers: Vec<ServerId>,
}

/// What one server told of the uses of its chunks, or why it did not.
type Answer<'a> = (&'a ServerInfo, Result<Vec<ChunkUse>, String>);

impl TopChunk {
    fn new(chunk: ChunkId) -> Self {
        Self {
            chunk,
            class: chunk.class().to_string(),
            ino: None,
            index: 0,
            path: None,
            reads: 0,
            writes: 0,
            read_bytes: 0,
            write_bytes: 0,
            errors: 0,
            last_use: 0,
            servers: Vec::new(),
        }
    }

    fn add(&mut self, server: ServerId, uses: &ChunkUse) {
        self.reads = self.reads.saturating_add(uses.reads);
        self.writes = self.writes.saturating_add(uses.writes);
        self.read_bytes = self.read_bytes.saturating_add(uses.read_bytes);
        self.write_bytes = self.write_bytes.saturating_add(uses.write_bytes);
        self.errors = self.errors.saturating_add(uses.errors);
        self.last_use = self.last_use.max(uses.last_use);
        if let Some(owner) = uses.owner {
            (self.ino, self.index) = (Some(owner), uses.index);
        }
        if !self.servers.contains(&server) {
            self.servers.push(server);
        }
    }

    fn rank(&self, by: UseOrder) -> u64 {
        match by {
            UseOrder::Reads => self.reads,
            UseOrder::Writes => self.writes,
            UseOrder::Bytes => self.read_bytes.saturating_add(self.write_bytes),
            UseOrder::Errors => self.errors,
            UseOrder::Recent => self.last_use,
        }
    }
}

/// Why nothing is told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopError {
    /// No server has that number or name.
    #[error("there is no storage server {0}: `dgfs status` shows them")]
    NoServer(String),
    /// Whoever had to answer did not.
    #[error("{0}")]
    Silent(String),
}

/// Answers of servers: each name of a chunk at each server once.
type Told = BTreeMap<(ServerId, ChunkId), ChunkUse>;

impl VolumeLink {
    /// The busiest chunks, with the paths of their files.
    ///
    /// # Errors
    /// There is no such server, the metadata service does not answer, or no storage server does.
    pub async fn top_chunks(&self, question: &TopQuestion) -> Result<TopChunks, TopError> {
        let map = self.map().await.map_err(TopError::Silent)?;
        let servers = asked(&map, question.server.as_deref())?;
        let limit = u32::try_from(question.limit).unwrap_or(u32::MAX);
        let (by, mut told, mut silent) = (question.by, Told::new(), Vec::new());
        let first = servers.iter().map(|server| (*server, UsesOf::Top { by, limit })).collect();
        self.ask_uses(map.epoch, first, &mut told, &mut silent).await;
        if silent.len() == servers.len() {
            let sentence = format!("no storage server told what it counts: {}", silent.join("; "));
            return Err(TopError::Silent(sentence));
        }
        // What is first at one server is asked of the others, where it may be further down.
        if servers.len() > 1 {
            let second = missing(&merged(&told, by, CANDIDATES_MAX), &servers, &told);
            self.ask_uses(map.epoch, second, &mut told, &mut silent).await;
        }
        let mut chunks = merged(&told, by, question.limit);
        self.name(&mut chunks).await;
        silent.sort();
        silent.dedup();
        Ok(TopChunks { chunks, silent, cut: false })
    }

    async fn ask_uses(
        &self,
        epoch: Epoch,
        calls: Vec<(&ServerInfo, UsesOf)>,
        told: &mut Told,
        silent: &mut Vec<String>,
    ) {
        let calls: Vec<BoxFuture<'_, Answer<'_>>> = calls
            .into_iter()
            .map(|(server, of)| {
                Box::pin(async move { (server, self.uses_at(server, epoch, of).await) }) as BoxFuture<'_, _>
            })
            .collect();
        let mut answers = stream::iter(calls).buffer_unordered(STORES_AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            match answer {
                Ok(uses) => told.extend(uses.into_iter().map(|uses| ((server.id, uses.chunk), uses))),
                Err(reason) => silent.push(format!("server {} ({}): {reason}", server.id, server.label)),
            }
        }
    }

    async fn uses_at(&self, server: &ServerInfo, epoch: Epoch, of: UsesOf) -> Result<Vec<ChunkUse>, String> {
        if !server.up {
            return Err("it is down".to_owned());
        }
        match self.ask_store(server, epoch, ChunkRequest::Uses(of)).await? {
            ChunkReply::Uses(uses) => Ok(uses),
            ChunkReply::Refused(status) => Err(format!("it refused: {status}")),
            _ => Err("it answered something else".to_owned()),
        }
    }

    /// Looks up the files' paths; one that is not found has none.
    async fn name(&self, chunks: &mut [TopChunk]) {
        let inodes: BTreeSet<Ino> = chunks.iter().filter_map(|chunk| chunk.ino).collect();
        let asked: Vec<BoxFuture<'_, Option<(Ino, String)>>> =
            inodes.into_iter().map(|ino| Box::pin(self.path_of(ino)) as BoxFuture<'_, _>).collect();
        let paths: BTreeMap<Ino, String> =
            stream::iter(asked).buffer_unordered(PATHS_AT_ONCE).filter_map(|path| async { path }).collect().await;
        for chunk in chunks {
            chunk.path = chunk.ino.and_then(|ino| paths.get(&ino).cloned());
        }
    }

    async fn path_of(&self, ino: Ino) -> Option<(Ino, String)> {
        match self.ask(MetaRequest::Query(Query::PathOf(ino))).await {
            Ok(MetaReply::Path(names)) => {
                let names = names.iter().map(|name| format!("/{}", String::from_utf8_lossy(name.as_bytes())));
                Some((ino, names.collect()))
            }
            Ok(_) | Err(_) => None,
        }
    }
}

/// The servers to ask: all, or the one that is wanted.
fn asked<'a>(map: &'a ClusterMap, wanted: Option<&str>) -> Result<Vec<&'a ServerInfo>, TopError> {
    let is_wanted =
        |server: &ServerInfo| wanted.is_none_or(|wanted| server.id.to_string() == wanted || server.label == wanted);
    let servers: Vec<&ServerInfo> = map.servers.iter().filter(|server| is_wanted(server)).collect();
    match (servers.is_empty(), wanted) {
        (false, _) => Ok(servers),
        (true, Some(wanted)) => Err(TopError::NoServer(wanted.to_owned())),
        (true, None) => Err(TopError::Silent("no storage server has joined yet".to_owned())),
    }
}

/// Adds up what is known of each chunk; the first `limit` by `by`.
fn merged(told: &Told, by: UseOrder, limit: usize) -> Vec<TopChunk> {
    let mut chunks: BTreeMap<ChunkId, TopChunk> = BTreeMap::new();
    for ((server, chunk), uses) in told {
        let whole = chunk.whole();
        chunks.entry(whole).or_insert_with(|| TopChunk::new(whole)).add(*server, uses);
    }
    let mut chunks: Vec<TopChunk> = chunks.into_values().filter(|chunk| chunk.rank(by) > 0).collect();
    chunks.sort_by_key(|chunk| (Reverse(chunk.rank(by)), chunk.chunk));
    chunks.truncate(limit);
    chunks
}

/// What is still to be asked: each candidate, or each of its shards, at each server that did not speak of it.
fn missing<'a>(candidates: &[TopChunk], servers: &[&'a ServerInfo], told: &Told) -> Vec<(&'a ServerInfo, UsesOf)> {
    let mut calls = Vec::new();
    for server in servers {
        let names = candidates.iter().flat_map(|candidate| names_of(candidate.chunk));
        let unknown: Vec<ChunkId> = names.filter(|name| !told.contains_key(&(server.id, *name))).collect();
        calls.extend(unknown.chunks(USES_MAX).map(|names| (*server, UsesOf::Chunks(names.to_vec()))));
    }
    calls
}

/// The names under which servers hold a chunk.
fn names_of(whole: ChunkId) -> Vec<ChunkId> {
    match whole.class().shape() {
        Shape::Replicated(_) => vec![whole],
        Shape::Coded { data, parity } => (0..data + parity).map(|shard| whole.with_shard(shard)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::chunk::{ChunkUse, UseOrder, UsesOf};
    use dgfs_proto::class::Class;
    use dgfs_proto::ids::{ChunkId, Ino, ServerId};
    use dgfs_proto::map::{ClusterMap, Labels, ServerInfo, Standing};

    use super::{Told, asked, merged, missing};

    fn uses(chunk: ChunkId, reads: u64, last_use: u64) -> ChunkUse {
        let owner = Ino::new(5);
        ChunkUse {
            chunk,
            owner,
            index: 2,
            bytes: 1,
            reads,
            writes: 0,
            read_bytes: reads,
            write_bytes: 0,
            errors: 0,
            last_use,
        }
    }

    fn server(id: u32, label: &str) -> ServerInfo {
        ServerInfo {
            id: ServerId(id),
            address: String::new(),
            label: label.to_owned(),
            labels: Labels::default(),
            weight: 1,
            standing: Standing::Active,
            up: true,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
        }
    }

    fn chunk(class: &str, number: u64) -> ChunkId {
        ChunkId::of(class.parse::<Class>().unwrap(), number).unwrap()
    }

    #[test]
    fn copies_and_shards_are_added_up_and_the_order_is_that_of_the_sums() {
        let (copied, coded, single) = (chunk("r2", 1), chunk("ec:2+1", 2), chunk("r1", 3));
        let mut told = Told::new();
        for (server, uses) in [
            (1, uses(copied, 5, 9)),
            (2, uses(copied, 4, 8)),
            (1, uses(coded.with_shard(0), 3, 1)),
            (2, uses(coded.with_shard(2), 9, 2)),
            (3, uses(single, 8, 3)),
        ] {
            told.insert((ServerId(server), uses.chunk), uses);
        }
        let all = merged(&told, UseOrder::Reads, 10);
        let sums: Vec<_> = all.iter().map(|one| (one.chunk, one.reads, one.servers.len())).collect();
        assert_eq!(sums, [(coded.whole(), 12, 2), (copied, 9, 2), (single, 8, 1)]);
        assert_eq!((all[0].class.as_str(), all[0].ino, all[0].index), ("ec:2+1", Ino::new(5), 2));
        assert_eq!(merged(&told, UseOrder::Recent, 1)[0].chunk, copied);
        assert!(merged(&told, UseOrder::Errors, 10).is_empty());
    }

    #[test]
    fn what_one_server_names_is_asked_of_the_others() {
        let (copied, coded) = (chunk("r2", 1), chunk("ec:2+1", 2));
        let mut told = Told::new();
        told.insert((ServerId(1), copied), uses(copied, 5, 9));
        told.insert((ServerId(2), coded.with_shard(1)), uses(coded.with_shard(1), 3, 1));
        let (one, two) = (server(1, "a"), server(2, "b"));
        let calls = missing(&merged(&told, UseOrder::Reads, 10), &[&one, &two], &told);
        let names = |of: &UsesOf| match of {
            UsesOf::Chunks(names) => names.clone(),
            UsesOf::Top { .. } => panic!("asked again"),
        };
        let shards = [0, 1, 2].map(|shard| coded.with_shard(shard));
        assert_eq!(names(&calls[0].1), shards);
        assert_eq!(names(&calls[1].1), [copied, shards[0], shards[2]]);
    }

    #[test]
    fn a_server_is_named_by_number_or_label_and_one_that_is_not_there_is_refused() {
        let map = ClusterMap { servers: vec![server(1, "a"), server(2, "b")], ..ClusterMap::default() };
        assert_eq!(asked(&map, None).unwrap().len(), 2);
        assert_eq!(asked(&map, Some("2")).unwrap()[0].label, "b");
        assert_eq!(asked(&map, Some("a")).unwrap()[0].id, ServerId(1));
        assert!(asked(&map, Some("c")).unwrap_err().to_string().contains("no storage server c"));
        assert!(asked(&ClusterMap::default(), None).is_err());
    }
}
