//! Questions of tools and log followers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::chunk::ChunkRef;
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::{CHUNK_PAGE_MAX, LIST_MAX, LOG_PAGE_MAX, PAGE_BYTES_MAX, POLL_MS};
use dgfs_proto::meta::{AdminRequest, Content, InodeChunks, MetaReply, MetaStatus, Query};
use dgfs_proto::status::Status;

use crate::core::Asker;
use crate::engine::{RowRange, Table};
use crate::rows::Row;
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;
use crate::service::now;

/// Bytes of a log consumer's name.
const CONSUMER_BYTES_MAX: usize = 64;
/// References in one page of inodes, so that the message stays small.
const REFERENCES_PER_PAGE: usize = 16 * 1024;

impl Active {
    pub(crate) async fn admin(&self, request: AdminRequest) -> Result<MetaReply, Dead> {
        match request {
            AdminRequest::Status => Ok(MetaReply::Status(self.status())),
            AdminRequest::Inodes { after, limit } => self.inodes(after, limit as usize).await,
            AdminRequest::Server { id, command } => self.settle(|core, _| core.server_command(id, &command)).await,
            AdminRequest::Servers => {
                let time = now(&self.options.clock);
                Ok(MetaReply::Servers(self.core.lock().cluster.server_list(time.as_ms())))
            }
            AdminRequest::Consumers => {
                let time = now(&self.options.clock);
                Ok(MetaReply::Consumers(self.core.lock().consumer_list(time)))
            }
            AdminRequest::Graph { after, limit } => self.graph(after, limit as usize).await,
            AdminRequest::Catalogue { after, limit } => self.catalogue(after, limit as usize).await,
            AdminRequest::Log { consumer, after, limit, wait } => {
                if consumer.len() > CONSUMER_BYTES_MAX {
                    return Ok(MetaReply::Refused(Status::Malformed));
                }
                if !consumer.is_empty() {
                    let registered = self.core.lock().register_consumer(&consumer, after, now(&self.options.clock));
                    if let Err(status) = registered {
                        return Ok(MetaReply::Refused(status));
                    }
                }
                self.log(after, limit.clamp(1, LOG_PAGE_MAX) as usize, wait).await
            }
        }
    }

    pub(crate) fn status(&self) -> MetaStatus {
        let time = now(&self.options.clock);
        let core = self.core.lock();
        MetaStatus {
            volume: core.volume.clone(),
            usage: core.usage(),
            engine: self.engine.describe(),
            epoch: self.epoch,
            seq: core.seq(),
            mutations: core.mutations,
            commits: self.commits.load(Ordering::Relaxed),
            engine_calls: self.engine.calls(),
            rows_cached: core.rows_cached(),
            leases: core.leases.len() as u64,
            recalls: core.leases.recalls,
            recall_waits: core.leases.waits() as u64,
            lock_waits: core.lock_waits() as u64,
            garbage: core.garbage.len(),
            orphans: core.orphans.len() as u64,
            sessions: core.session_list(time),
            map: core.map(),
            health: core.cluster.health(),
        }
    }

    /// Inodes behind `after`. A file with more than [`CHUNK_PAGE_MAX`] slots comes without its chunks:
    /// the caller asks for its content by pages.
    async fn inodes(&self, after: Option<Ino>, limit: usize) -> Result<MetaReply, Dead> {
        let limit = limit.clamp(1, LIST_MAX);
        self.sync().await?;
        let first = after.map_or(1, |ino| ino.get() + 1);
        let mut partition = first / 64;
        let mut found = Vec::new();
        let mut references = 0;
        'partitions: loop {
            let next = self.persistently("list inodes", || self.engine.partitions(Table::Inode, partition, 1)).await?;
            let Some(at) = next.first().copied() else { break };
            let range = RowRange { table: Table::Inode, partition: at, from: first, to: u64::MAX, limit: 64 };
            for (key, _) in self.persistently("list inodes", || self.engine.list(range)).await? {
                let Some(ino) = Ino::new(key.sort) else { continue };
                if let Some(inode) = self.inode_chunks(ino).await? {
                    references += inode.chunks.len();
                    found.push(inode);
                }
                if found.len() == limit || references >= REFERENCES_PER_PAGE {
                    break 'partitions;
                }
            }
            partition = at + 1;
        }
        Ok(MetaReply::Inodes(found))
    }

    async fn inode_chunks(&self, ino: Ino) -> Result<Option<InodeChunks>, Dead> {
        let asker = Asker { now: now(&self.options.clock), session: None };
        let query = Query::Content { ino, first: 0, count: CHUNK_PAGE_MAX };
        let (reply, _) = self.query(asker, &query).await?;
        let MetaReply::Opened { attr, content } = reply else { return Ok(None) };
        let chunks: Vec<(u64, ChunkRef)> = match content {
            Content::Slots { slots, .. } => {
                (0..).zip(slots).filter_map(|(index, slot)| slot.map(|slot| (index, slot))).collect()
            }
            Content::Inline(_) => Vec::new(),
        };
        Ok(Some(InodeChunks { attr, chunks }))
    }

    async fn log(&self, after: Seq, limit: usize, wait: bool) -> Result<MetaReply, Dead> {
        let deadline = tokio::time::sleep(Duration::from_millis(POLL_MS));
        tokio::pin!(deadline);
        loop {
            let grew = self.log_changed.notified();
            tokio::pin!(grew);
            grew.as_mut().enable();
            let (head, trimmed, ticket) = {
                let core = self.core.lock();
                (core.seq(), core.counters.trimmed, core.current_ticket())
            };
            if after < trimmed {
                // What it asks for is gone: it must rebuild.
                return Ok(MetaReply::Refused(Status::Stale));
            }
            if head > after {
                if self.commit_up_to(ticket).await? == Fate::Refused {
                    continue;
                }
                if let Some(events) = self.core.lock().recent.page((after, head), limit, PAGE_BYTES_MAX) {
                    return Ok(MetaReply::Log { events, head });
                }
                let range = RowRange { table: Table::Log, partition: 0, from: after.0 + 1, to: head.0, limit };
                let rows = self.persistently("read the change log", || self.engine.list(range)).await?;
                let mut events = Vec::with_capacity(rows.len());
                let mut page_bytes = 0;
                for (key, bytes) in rows {
                    page_bytes += bytes.len();
                    if page_bytes > PAGE_BYTES_MAX && !events.is_empty() {
                        break;
                    }
                    match Row::decode(key, &bytes) {
                        Ok(Row::Event(event)) => events.push(event),
                        Ok(_) | Err(_) => return Ok(MetaReply::Refused(Status::Corrupt)),
                    }
                }
                return Ok(MetaReply::Log { events, head });
            }
            if !wait || self.is_dead() {
                return Ok(MetaReply::Log { events: Vec::new(), head });
            }
            tokio::select! {
                () = grew => {}
                () = &mut deadline => return Ok(MetaReply::Log { events: Vec::new(), head }),
            }
        }
    }
}
