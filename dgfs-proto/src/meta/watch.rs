//! Who is there, and what happened: announcements of processes, and the journal of the cluster.
//!
//! Never touches files. Always bounded: names and sentences by [`crate::limits`], so that a page fits a message.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::Timestamp;
use crate::ids::ServerId;
use crate::limits::{ANNOUNCED_NAME_BYTES_MAX, LABEL_BYTES_MAX};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProcessKind {
    /// A metadata service, active or standby.
    Meta,
    /// A storage daemon.
    Stored,
    /// An index service.
    Index,
    /// A mount.
    Mount,
}

impl ProcessKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Stored, Self::Index, Self::Mount];

    /// The word for it in metrics and lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Stored => "stored",
            Self::Index => "index",
            Self::Mount => "mount",
        }
    }
}

/// What a process says of itself, every [`crate::limits::ANNOUNCE_MS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Drawn at random when it started: tells it from the one that had its place before.
    pub instance: u64,
    /// What it is.
    pub kind: ProcessKind,
    /// Its machine; at most [`LABEL_BYTES_MAX`] bytes.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// A storage server's label, a mount's point, the address of a service; at most [`ANNOUNCED_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Its version; at most [`LABEL_BYTES_MAX`] bytes.
    pub version: String,
    /// `HOST:PORT` of its metrics, empty: none; at most [`LABEL_BYTES_MAX`] bytes. A host that is "any address" means the one
    /// that the receiver sees.
    pub metrics: String,
    /// Since when it runs, by its own clock.
    pub started: Timestamp,
    /// A storage daemon's number.
    pub server: Option<ServerId>,
}

impl Announce {
    /// Are its words short enough?
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let labels = [&self.host, &self.version, &self.metrics];
        labels.iter().all(|word| word.len() <= LABEL_BYTES_MAX) && self.name.len() <= ANNOUNCED_NAME_BYTES_MAX
    }
}

/// Requests about the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchRequest {
    /// I am here.
    Announce(Announce),
    /// The process of this number ends in order.
    Leave {
        /// As it was announced.
        instance: u64,
    },
    /// A page of those who are there, by number.
    Members {
        /// The last one seen, none at first.
        after: Option<u64>,
        /// At most [`crate::limits::MEMBERS_PAGE_MAX`].
        limit: u32,
    },
    /// A page of the journal.
    Events {
        /// The number of the last event seen; 0: from the oldest.
        after: u64,
        /// At most [`crate::limits::EVENTS_PAGE_MAX`].
        limit: u32,
        /// Long poll: wait for one when there is none.
        wait: bool,
    },
}

/// A process that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// What it said, with an address of its metrics that others can reach.
    pub who: Announce,
    /// Milliseconds since it last said so.
    pub silent_ms: u64,
}

/// Answers about the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchReply {
    /// To an announcement.
    Heard {
        /// Meta's clock when it answered.
        time: Timestamp,
    },
    /// A page of those who are there; empty means the end.
    Members(Vec<MemberStatus>),
    /// A page of the journal, in order.
    Events {
        /// The page.
        events: Vec<ClusterEvent>,
        /// The number of the oldest event that is kept, 0 when there is none.
        first: u64,
        /// The number of the newest.
        head: u64,
    },
}

/// What kind of thing happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// A storage server became a member.
    ServerJoined,
    /// It does not answer.
    ServerDown,
    /// It answers again.
    ServerUp,
    /// It was down for the grace time: its data are rebuilt on others.
    ServerOut,
    /// An operator asked that it gives everything away.
    ServerDraining,
    /// It holds nothing any more.
    ServerDrained,
    /// It takes part again, by an operator.
    ServerUndrained,
    /// It was forgotten.
    ServerRemoved,
    /// Members of partitions fetch what they lack.
    RepairBegun,
    /// Nobody lacks anything.
    RepairEnded,
    /// Partitions are less redundant than before.
    PartitionsWorse,
    /// Partitions are more redundant than before.
    PartitionsBetter,
    /// A metadata service became the active one.
    MetaActive,
    /// A mount began.
    SessionOpened,
    /// A mount ended.
    SessionEnded,
    /// A mount gave no sign of life and was fenced.
    SessionExpired,
    /// The cluster map changed.
    MapChanged,
    /// Somebody new follows the change log.
    ConsumerAppeared,
    /// Somebody who follows it fell behind, or is silent.
    ConsumerBehind,
    /// And has caught up.
    ConsumerCaughtUp,
    /// Who followed it is forgotten.
    ConsumerGone,
    /// The metadata engine does not answer.
    EngineLost,
    /// It answers again.
    EngineBack,
    /// Its settings do not fit the durability level.
    EngineNotDurable,
    /// They fit again.
    EngineDurable,
    /// A storage server found damaged data.
    DamageFound,
    /// Damaged data were replaced by good copies.
    DamageHealed,
    /// An alert fires.
    AlertRaised,
    /// It fires no more.
    AlertResolved,
    /// Events came faster than they could be written.
    EventsDropped,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 30] = [
        Self::ServerJoined,
        Self::ServerDown,
        Self::ServerUp,
        Self::ServerOut,
        Self::ServerDraining,
        Self::ServerDrained,
        Self::ServerUndrained,
        Self::ServerRemoved,
        Self::RepairBegun,
        Self::RepairEnded,
        Self::PartitionsWorse,
        Self::PartitionsBetter,
        Self::MetaActive,
        Self::SessionOpened,
        Self::SessionEnded,
        Self::SessionExpired,
        Self::MapChanged,
        Self::ConsumerAppeared,
        Self::ConsumerBehind,
        Self::ConsumerCaughtUp,
        Self::ConsumerGone,
        Self::EngineLost,
        Self::EngineBack,
        Self::EngineNotDurable,
        Self::EngineDurable,
        Self::DamageFound,
        Self::DamageHealed,
        Self::AlertRaised,
        Self::AlertResolved,
        Self::EventsDropped,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerJoined => "server-joined",
            Self::ServerDown => "server-down",
            Self::ServerUp => "server-up",
            Self::ServerOut => "server-out",
            Self::ServerDraining => "server-draining",
            Self::ServerDrained => "server-drained",
            Self::ServerUndrained => "server-undrained",
            Self::ServerRemoved => "server-removed",
            Self::RepairBegun => "repair-begun",
            Self::RepairEnded => "repair-ended",
            Self::PartitionsWorse => "partitions-worse",
            Self::PartitionsBetter => "partitions-better",
            Self::MetaActive => "meta-active",
            Self::SessionOpened => "session-opened",
            Self::SessionEnded => "session-ended",
            Self::SessionExpired => "session-expired",
            Self::MapChanged => "map-changed",
            Self::ConsumerAppeared => "consumer-appeared",
            Self::ConsumerBehind => "consumer-behind",
            Self::ConsumerCaughtUp => "consumer-caught-up",
            Self::ConsumerGone => "consumer-gone",
            Self::EngineLost => "engine-lost",
            Self::EngineBack => "engine-back",
            Self::EngineNotDurable => "engine-not-durable",
            Self::EngineDurable => "engine-durable",
            Self::DamageFound => "damage-found",
            Self::DamageHealed => "damage-healed",
            Self::AlertRaised => "alert-raised",
            Self::AlertResolved => "alert-resolved",
            Self::EventsDropped => "events-dropped",
        }
    }
}

/// Something that happened to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// Its number: 1 for the first of a volume, then without gaps.
    pub number: u64,
    /// When, by meta's clock.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// To whom; at most [`crate::limits::EVENT_SUBJECT_BYTES_MAX`] bytes.
    pub subject: String,
    /// A sentence for a person; at most [`crate::limits::EVENT_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}
