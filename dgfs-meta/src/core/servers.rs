//! Storage servers and the cluster map.

use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Epoch, ServerId, Uuid};
use dgfs_proto::limits::{HEARTBEAT_MS, LIST_MAX, PARTITIONS};
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{LiveQuery, MetaReply, ServerRequest};
use dgfs_proto::status::Status;

use crate::core::tx::{Step, Stop, Tx};
use crate::core::{Core, Outcome};
use crate::rows::{Row, ServerRow, key};

/// A server without a heartbeat for this long counts as down.
const DOWN_AFTER_MS: u64 = HEARTBEAT_MS * 3;
/// Servers of one cluster.
const SERVERS_MAX: usize = 1024;
/// Bytes of an address or a label.
const TEXT_BYTES_MAX: usize = 256;

/// A server in memory.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) row: ServerRow,
    pub(crate) seen: Timestamp,
    /// Names the file system it lies on; 0: not known.
    pub(crate) disk: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
}

impl Server {
    pub(crate) fn new(row: ServerRow) -> Self {
        Self { row, seen: Timestamp::default(), disk: 0, capacity_bytes: 0, used_bytes: 0, free_bytes: 0 }
    }

    pub(crate) fn is_up(&self, now: Timestamp) -> bool {
        now.as_ms().saturating_sub(self.seen.as_ms()) <= DOWN_AFTER_MS
    }
}

/// Which server holds which partition, one replica each: by the highest mixed weight of (partition, server),
/// so that every server gets its share and the result depends on nothing else.
pub(crate) fn assign(servers: &[ServerId]) -> Vec<Vec<ServerId>> {
    let weight = |partition: u16, server: ServerId| {
        let mut x = u64::from(partition) << 32 | u64::from(server.0);
        // SplitMix64's finaliser (Steele, Lea, Flood 2014).
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (0..PARTITIONS)
        .map(|partition| servers.iter().copied().max_by_key(|server| weight(partition, *server)).into_iter().collect())
        .collect()
}

impl Core {
    /// The map as clients see it.
    pub(crate) fn map(&self, now: Timestamp) -> ClusterMap {
        let info = |server: &Server| ServerInfo {
            id: server.row.id,
            address: server.row.address.clone(),
            label: server.row.label.clone(),
            up: server.is_up(now),
            capacity_bytes: server.capacity_bytes,
            used_bytes: server.used_bytes,
            free_bytes: server.free_bytes,
        };
        ClusterMap {
            epoch: self.counters.map_epoch,
            servers: self.servers.values().map(info).collect(),
            assignment: self.assignment.clone(),
        }
    }

    /// Answers a storage daemon; `durable` is the newest batch whose garbage may be dropped.
    pub(crate) fn server_request(&mut self, now: Timestamp, request: &ServerRequest, durable: u64) -> Outcome {
        match request {
            ServerRequest::Join { .. } => self.join(now, request),
            ServerRequest::Beat { id, disk, capacity_bytes, used_bytes, free_bytes, collected } => {
                if collected.len() > LIST_MAX || !self.servers.contains_key(id) {
                    return Outcome::Answer { reply: MetaReply::Refused(Status::Stale), ticket: 0 };
                }
                if let Some(server) = self.servers.get_mut(id) {
                    server.seen = now;
                    server.disk = *disk;
                    server.capacity_bytes = *capacity_bytes;
                    server.used_bytes = *used_bytes;
                    server.free_bytes = *free_bytes;
                }
                self.garbage_collected(collected);
                let garbage = self.hand_out_garbage(*id, durable);
                Outcome::Answer { reply: MetaReply::Beat { epoch: self.counters.map_epoch, garbage }, ticket: 0 }
            }
            ServerRequest::CheckLive(questions) => self.check_live(now, questions),
        }
    }

    fn join(&mut self, now: Timestamp, request: &ServerRequest) -> Outcome {
        let ServerRequest::Join { identity, id, address, label, disk, capacity_bytes, used_bytes, free_bytes } =
            request
        else {
            return Outcome::Answer { reply: MetaReply::Refused(Status::Malformed), ticket: 0 };
        };
        if address.len() > TEXT_BYTES_MAX || label.len() > TEXT_BYTES_MAX {
            return Outcome::Answer { reply: MetaReply::Refused(Status::Malformed), ticket: 0 };
        }
        let id = match self.identify(*identity, *id) {
            Ok(id) => id,
            Err(status) => return Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 },
        };
        let row = ServerRow { id, identity: *identity, address: address.clone(), label: label.clone() };
        if self.servers.get(&id).is_none_or(|known| known.row != row) {
            self.write(key::server(id), Some(Arc::new(Row::Server(row.clone()))));
            self.counters.map_epoch = Epoch(self.counters.map_epoch.0 + 1);
            self.counters_dirty = true;
        }
        let server = Server {
            row,
            seen: now,
            disk: *disk,
            capacity_bytes: *capacity_bytes,
            used_bytes: *used_bytes,
            free_bytes: *free_bytes,
        };
        self.servers.insert(id, server);
        self.assign_when_ready();
        let reply = MetaReply::Joined { id, chunk_bytes: self.volume.chunk_bytes, epoch: self.counters.map_epoch };
        Outcome::Answer { reply, ticket: self.ticket }
    }

    /// A disk keeps its number; a number whose disk is another one is refused.
    fn identify(&mut self, identity: Uuid, id: Option<ServerId>) -> Result<ServerId, Status> {
        if let Some(known) = self.servers.values().find(|server| server.row.identity == identity) {
            return Ok(known.row.id);
        }
        if id.is_some() {
            return Err(Status::Forbidden);
        }
        if self.servers.len() >= SERVERS_MAX {
            return Err(Status::Busy);
        }
        let id = ServerId(self.counters.next_server);
        self.counters.next_server += 1;
        self.counters_dirty = true;
        Ok(id)
    }

    fn assign_when_ready(&mut self) {
        if !self.assignment.is_empty() || self.servers.len() < self.volume.initial_servers.max(1) as usize {
            return;
        }
        let servers: Vec<ServerId> = self.servers.keys().copied().collect();
        self.assignment = assign(&servers);
        self.counters.map_epoch = Epoch(self.counters.map_epoch.0 + 1);
        self.counters_dirty = true;
        self.write(key::ASSIGNMENT, Some(Arc::new(Row::Assignment(self.assignment.clone()))));
    }

    fn check_live(&mut self, now: Timestamp, questions: &[LiveQuery]) -> Outcome {
        if questions.len() > LIST_MAX {
            return Outcome::Answer { reply: MetaReply::Refused(Status::Malformed), ticket: 0 };
        }
        let granted: Vec<bool> =
            questions.iter().map(|question| self.is_granted_to_living(question.id.version.get())).collect();
        let asked = self.run(now, None, |tx| {
            let keys: Vec<_> = questions.iter().map(|question| key::slots(question.owner, question.index)).collect();
            tx.want(&keys)?;
            let mut live = Vec::with_capacity(questions.len());
            for (question, granted) in questions.iter().zip(granted) {
                live.push(granted || is_referred(tx, question)?);
            }
            Ok(live)
        });
        match asked {
            Ok((live, ticket, _)) => Outcome::Answer { reply: MetaReply::Live(live), ticket },
            Err(Stop::Need(need)) => Outcome::Need(need),
            Err(Stop::Refused(status)) => Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 },
        }
    }
}

fn is_referred(tx: &mut Tx<'_>, question: &LiveQuery) -> Step<bool> {
    let slot = tx.slot(question.owner, question.index)?;
    let own = slot.is_some_and(|slot| slot.chunk == question.id.chunk && slot.version == question.id.version);
    Ok(own || tx.shared_count(question.id.version)?.is_some())
}
