//! Moves chunks to the class that the policy of their directory says: seals what waits as copies to be coded, and converts old
//! data where that was asked for.
//!
//! Never decides which: meta does, and it refuses a move of what was written meanwhile. Always: the bytes are stored whole
//! under their new name before the file refers to it; what a broken move leaves is collected like any write that never ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dgfs_client::coding;
use dgfs_proto::chunk::{ChunkReply, ChunkRequest, Patch, PatchKind, Put, PutDurability, VersionId};
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Ino, ServerId};
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;
use dgfs_proto::map::ClusterMap;
use dgfs_proto::meta::{LiveQuery, MetaReply, ServerRequest};
use dgfs_proto::status::Status;
use tokio::sync::watch;

use crate::pace::Pace;
use crate::store::Held;
use crate::view::ClusterView;

/// Pause between passes over what is held.
const PASS: Duration = Duration::from_secs(10);
/// A chunk that was written within so many seconds is left: it may be patched again.
const SETTLED_S: u64 = 10;
/// Questions in one call, and versions looked at for them.
const QUESTIONS_MAX: usize = 256;
/// Numbers fetched at once.
const NUMBERS: u32 = 256;

/// The task that moves.
pub(crate) struct Mover {
    view: Arc<ClusterView>,
    pace: Pace,
    /// Numbers left: next chunk, next version, how many.
    numbers: (u64, u64, u32),
}

/// What is moved.
struct Moving {
    owner: Ino,
    index: u64,
    from: VersionId,
    to: VersionId,
    compression: Compression,
    bytes: Bytes,
}

impl Mover {
    pub(crate) fn new(view: Arc<ClusterView>, pace: Pace) -> Self {
        Self { view, pace, numbers: (0, 0, 0) }
    }

    /// Runs until `stopped`.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let pass = async {
                if self.view.map().policies > 0
                    && let Err(status) = self.pass().await
                {
                    tracing::debug!(%status, "moving chunks to their class goes on later");
                }
            };
            tokio::select! {
                () = pass => {}
                _ = stopped.changed() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PASS) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    /// Asks about everything this server is the first of, and moves what is to be moved.
    async fn pass(&mut self) -> Result<(), Status> {
        let mut after = None;
        let mut moved = 0;
        loop {
            let page = self.view.held(after, None, QUESTIONS_MAX).await?;
            let Some(last) = page.last().map(|held| held.held.id) else { break };
            moved += self.move_some(&page).await?;
            after = Some(last);
        }
        if moved > 0 {
            tracing::info!(chunks = moved, "chunks were moved to the class that their directory wants");
        }
        Ok(())
    }

    async fn move_some(&mut self, page: &[Held]) -> Result<u64, Status> {
        let map = self.view.map();
        let now = self.view.store().now();
        let is_due = |held: &&Held| held.put_at + SETTLED_S <= now && self.is_first(&map, held.held.id.chunk);
        let due: Vec<&Held> = page.iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(0);
        }
        let question = |held: &&Held| LiveQuery { id: held.held.id, owner: held.held.owner, index: held.held.index };
        let asked = ServerRequest::CheckMoves(due.iter().map(question).collect());
        let MetaReply::Moves(wanted) = self.view.ask_meta(asked).await? else { return Err(Status::Malformed) };
        let mut moved = 0;
        for (held, class) in due.iter().zip(wanted) {
            let Some(class) = class else { continue };
            match self.move_one(held, class).await {
                Ok(()) => moved += 1,
                Err(status) => {
                    let id = held.held.id;
                    tracing::debug!(chunk = %id.chunk, version = %id.version, %class, %status, "a chunk was not moved");
                }
            }
        }
        Ok(moved)
    }

    /// One server of those that hold a chunk moves it: the first full member that is up.
    fn is_first(&self, map: &ClusterMap, chunk: ChunkId) -> bool {
        let Some(placement) = map.placement(chunk) else { return false };
        let mut able = (0_u8..).zip(&placement.members).filter(|(_, member)| member.full && map.is_up(member.server));
        let first = able.next().map(|(place, member)| (member.server, chunk.with_shard(place)));
        first.is_some_and(|(server, name)| Some(server) == self.view.own() && name == chunk)
    }

    async fn move_one(&mut self, held: &Held, class: Class) -> Result<(), Status> {
        let id = held.held.id;
        let (bytes, compression) = self.whole(id).await?;
        if bytes.is_empty() {
            return Err(Status::Invalid);
        }
        let (number, version) = self.number().await?;
        let chunk = ChunkId::of(class, number).ok_or(Status::NoSpace)?;
        let from = VersionId { chunk: id.chunk.whole(), version: id.version };
        let to = VersionId { chunk, version };
        let len = bytes.len() as u64;
        let allocated = u32::try_from(len).map_err(|_| Status::FileTooBig)?;
        let moving = Moving { owner: held.held.owner, index: held.held.index, from, to, compression, bytes };
        self.put(&moving).await?;
        let Moving { owner, index, .. } = moving;
        match self.view.ask_meta(ServerRequest::Move { owner, index, from, to, allocated }).await? {
            MetaReply::Done => {}
            _ => return Err(Status::Malformed),
        }
        self.pace.after(len).await;
        Ok(())
    }

    /// All bytes of a chunk, of which this server holds a copy or a shard, and what they are compressed with.
    async fn whole(&self, id: VersionId) -> Result<(Bytes, Compression), Status> {
        match id.chunk.class().shape() {
            Shape::Replicated(_) => {
                let whole = self.view.blocking(move |store| store.export(id)).await?;
                Ok((whole.dense(), whole.compression))
            }
            Shape::Coded { data, .. } => {
                let (mut bytes, mut compression) = (Vec::new(), Compression::None);
                for shard in 0..data {
                    let id = VersionId { chunk: id.chunk.with_shard(shard), version: id.version };
                    let own = self.view.blocking(move |store| store.export(id)).await;
                    let shard = match own {
                        Ok(own) => own,
                        Err(_) => self.view.fetch(id).await?,
                    };
                    bytes.extend_from_slice(&shard.dense());
                    compression = shard.compression;
                }
                // The last data shard is filled up with zeros, which are there without being stored.
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
                bytes.truncate(end);
                Ok((Bytes::from(bytes), compression))
            }
        }
    }

    async fn number(&mut self) -> Result<(u64, ChunkVersion), Status> {
        if self.numbers.2 == 0 {
            let asked = self.view.ask_meta(ServerRequest::Numbers { count: NUMBERS }).await?;
            let MetaReply::Granted { chunk, version } = asked else { return Err(Status::Malformed) };
            self.numbers = (chunk, version.get(), NUMBERS);
        }
        let (chunk, version, left) = self.numbers;
        self.numbers = (chunk + 1, version + 1, left - 1);
        Ok((chunk, ChunkVersion::new(version).ok_or(Status::NoSpace)?))
    }

    /// Stores the bytes under their new name on every server that a write goes to, synced.
    async fn put(&self, moving: &Moving) -> Result<(), Status> {
        let class = moving.to.chunk.class();
        let shards = match class.shape() {
            Shape::Replicated(_) => Vec::new(),
            Shape::Coded { .. } => {
                let bytes = moving.bytes.clone();
                let coded = tokio::task::spawn_blocking(move || coding::encode(class, &bytes)).await;
                coded.map_err(|_| Status::Io)?.map_err(|error| {
                    tracing::error!(chunk = %moving.from.chunk, %error, "a chunk could not be coded");
                    Status::Io
                })?
            }
        };
        let map = self.view.map();
        let set = map.write_set(moving.to.chunk);
        if !set.enough || set.targets.len() < class.width() {
            // Not now: with a server down it would begin its life with a shard too few.
            return Err(Status::Unavailable);
        }
        let puts = set.targets.iter().map(|(server, place)| {
            let body = shards.get(usize::from(*place)).unwrap_or(&moving.bytes).clone();
            self.put_at(&map, *server, put_of(moving, *place, &body), body)
        });
        for outcome in futures_util::future::join_all(puts).await {
            outcome?;
        }
        Ok(())
    }

    async fn put_at(&self, map: &ClusterMap, server: ServerId, put: Put, body: Bytes) -> Result<(), Status> {
        if Some(server) == self.view.own() {
            self.view.blocking(move |store| store.put(&put, &body).map(drop)).await?;
            return self.view.store().sync().await;
        }
        let info = map.server(server).ok_or(Status::Unavailable)?;
        match self.view.send(info, map.epoch, ChunkRequest::Put(put), body).await? {
            (ChunkReply::Put { .. }, _) => Ok(()),
            _ => Err(Status::Malformed),
        }
    }
}

fn put_of(moving: &Moving, place: u8, body: &Bytes) -> Put {
    let crcs = body.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Put {
        chunk: moving.to.chunk.with_shard(place),
        base: None,
        version: moving.to.version,
        owner: moving.owner,
        index: moving.index,
        durability: PutDurability::Synced,
        compression: moving.compression,
        patches: vec![Patch { offset: 0, len, kind: PatchKind::Data { crcs } }],
    }
}
