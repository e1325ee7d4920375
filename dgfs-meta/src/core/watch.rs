//! The journal of the cluster and what storage servers announced, as rows; and what there is to be seen.
//!
//! Never decides what is worth an event: the shell observes. Always: numbers of events have no gaps, and at most
//! [`EVENTS_KEPT`] are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{ServerId, SessionId};
use dgfs_proto::limits::EVENTS_KEPT;
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{Announce, ClassHealth, ClusterEvent};

use crate::core::Core;
use crate::rows::{Row, key};

/// Events dropped at once when more than are kept are found.
const DROPPED_MAX: u64 = 2_000;

/// A storage server, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSeen {
    pub(crate) id: ServerId,
    pub(crate) label: String,
    pub(crate) up: bool,
    pub(crate) standing: Standing,
    /// It was told to give everything away, and has. Said only when the map has changed.
    pub(crate) empty: bool,
    pub(crate) silent_ms: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) free_bytes: u64,
    /// How often it came upon damaged data since its start, by its scrub or by reads.
    pub(crate) damaged: u64,
    /// Of them (and others) those that were replaced.
    pub(crate) healed: u64,
}

/// A mount, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionSeen {
    pub(crate) host: String,
    pub(crate) mount: String,
    pub(crate) calls: u64,
    pub(crate) silent_ms: u64,
    /// Inodes on which it may hold locks.
    pub(crate) locked: u64,
}

/// A follower of the change log, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerSeen {
    pub(crate) name: String,
    pub(crate) lag: u64,
    pub(crate) silent_ms: u64,
}

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) epoch: u64,
    pub(crate) servers: Vec<ServerSeen>,
    /// None: as before.
    pub(crate) health: Option<Vec<ClassHealth>>,
    pub(crate) sessions: BTreeMap<SessionId, SessionSeen>,
    pub(crate) consumers: Vec<ConsumerSeen>,
    /// Events kept in the change log.
    pub(crate) log_events: u64,
    pub(crate) oldest_lock_wait_ms: u64,
}

impl Core {
    /// Appends events, whose numbers are given here. The ticket to wait for.
    pub(crate) fn append_journal(&mut self, events: &[ClusterEvent]) -> u64 {
        for event in events {
            self.journal.head += 1;
            let event = ClusterEvent { number: self.journal.head, ..event.clone() };
            self.pending.change(key::happened(event.number), Some(Arc::new(Row::Happened(event))), true);
        }
        let first = self.journal.head.saturating_sub(EVENTS_KEPT - 1).max(1);
        let from = self.journal.first.max(1);
        let to = first.min(from + DROPPED_MAX);
        for number in from..to {
            self.pending.rows.insert(key::happened(number), None);
        }
        self.journal.first = to;
        self.pending.rows.insert(key::JOURNAL, Some(Arc::new(Row::Journal(self.journal))));
        self.ticket
    }

    /// A storage server said where it is; kept for the time when it does not answer.
    pub(crate) fn note_announced(&mut self, id: ServerId, who: &Announce) {
        let known = self.cluster.member(id).is_some();
        if known && self.announced.get(&id) != Some(who) {
            self.announced.insert(id, who.clone());
            self.pending.rows.insert(key::announced(id), Some(Arc::new(Row::Announced(who.clone()))));
        }
    }

    /// Servers that were removed are not known any more.
    pub(crate) fn forget_removed(&mut self) {
        let gone: Vec<ServerId> =
            self.announced.keys().filter(|id| self.cluster.member(**id).is_none()).copied().collect();
        for id in gone {
            self.announced.remove(&id);
            self.pending.rows.insert(key::announced(id), None);
        }
    }

    /// What there is to be seen now. `health_of` is the epoch of the map whose redundancy is known already.
    pub(crate) fn seen(&self, now: Timestamp, health_of: Option<u64>) -> Seen {
        let epoch = self.cluster.epoch().0;
        let changed = health_of != Some(epoch);
        let server = |member: &crate::cluster::Member| ServerSeen {
            id: member.row.id,
            label: member.row.label.clone(),
            up: member.state.up,
            standing: member.state.standing,
            empty: member.state.standing == Standing::Draining
                && changed
                && !self.cluster.holds_anything(member.row.id),
            silent_ms: now.as_ms().saturating_sub(member.seen_ms),
            capacity_bytes: member.space.capacity_bytes,
            free_bytes: member.space.free_bytes,
            damaged: member.upkeep.scrub_errors.saturating_add(member.upkeep.damaged_reads),
            healed: member.upkeep.healed,
        };
        let head = self.counters.seq.0;
        let consumer = |row: &crate::rows::ConsumerRow| ConsumerSeen {
            name: row.name.clone(),
            lag: head.saturating_sub(row.seq.0),
            silent_ms: now.as_ms().saturating_sub(row.seen.as_ms()),
        };
        Seen {
            epoch,
            servers: self.cluster.members().map(server).collect(),
            health: changed.then(|| self.cluster.health()),
            sessions: self.sessions_seen(now),
            consumers: self.consumers.values().map(consumer).collect(),
            log_events: head.saturating_sub(self.counters.trimmed.0),
            oldest_lock_wait_ms: self.oldest_lock_wait().map_or(0, |since| now.as_ms().saturating_sub(since)),
        }
    }

    fn sessions_seen(&self, now: Timestamp) -> BTreeMap<SessionId, SessionSeen> {
        let seen = |session: &crate::core::Session| SessionSeen {
            host: session.row.client.host.clone(),
            mount: session.row.client.mount_point.clone(),
            calls: session.calls,
            silent_ms: now.as_ms().saturating_sub(session.seen.as_ms()),
            locked: session.locked.len() as u64,
        };
        self.sessions.iter().map(|(id, session)| (*id, seen(session))).collect()
    }
}
