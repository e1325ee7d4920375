//! What keeps sessions and storage daemons, and what tools and log followers ask.
//!
//! Never changes files.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::chunk::{Upkeep, VersionId};
use crate::class::Class;
use crate::ids::{Epoch, Ino, Partition, Seq, ServerId, SessionId, TagId, Uuid};
use crate::map::Labels;
use crate::meta::ClientInfo;

/// Life of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRequest {
    /// Starts one, or takes one up again after a reconnect.
    Open {
        /// Who.
        client: ClientInfo,
        /// A random number by which the client proves later that the session is its own.
        key: u64,
        /// The session to go on with.
        resume: Option<SessionId>,
        /// With `resume`: all opens held, for a meta that has just taken over.
        opens: Vec<(Ino, u32)>,
    },
    /// I live.
    Beat,
    /// Answers when meta has something to say, or nothing after [`crate::limits::POLL_MS`].
    Poll {
        /// The number of the last notice carried out; meta waits for it.
        done: u64,
        /// The number of the last batch of recalls that arrived.
        received: u64,
        /// Recalls carried out, by their numbers; at most [`crate::limits::LIST_MAX`].
        recalled: Vec<u64>,
    },
    /// Ends it: locks and opens are given up.
    Close,
    /// These recalls were carried out, at most [`crate::limits::LIST_MAX`].
    Recalled(Vec<u64>),
}

/// What meta says through a poll. Numbered; the client carries it out, then polls with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Other sessions exist from now on: send what is unsent and drop everything cached, in the kernel too. What is
    /// answered later is leased, until it is recalled.
    Shared,
    /// No other session exists: what is cached stays true until `Shared`.
    Sole,
}

/// Requests of storage daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRequest {
    /// Joins (or comes back) under an identity that lies on its disk.
    Join {
        /// Written on the disk when it was first used.
        identity: Uuid,
        /// The number it had; none the first time.
        id: Option<ServerId>,
        /// `HOST:PORT`, empty in process.
        address: String,
        /// Its name, for people.
        label: String,
        /// Where it stands; empty words leave what is known.
        labels: Labels,
        /// Names the file system it lies on, the same for all servers on that one; 0: not known.
        disk: u64,
        /// Bytes of its file system.
        capacity_bytes: u64,
        /// Bytes it takes.
        used_bytes: u64,
        /// Bytes it can still take.
        free_bytes: u64,
    },
    /// I live; and what garbage I removed.
    Beat {
        /// Its number.
        id: ServerId,
        /// As at the join.
        disk: u64,
        /// Bytes of its file system.
        capacity_bytes: u64,
        /// Bytes it takes.
        used_bytes: u64,
        /// Bytes it can still take.
        free_bytes: u64,
        /// Garbage entries carried out, by their numbers.
        collected: Vec<u64>,
        /// Partitions of which it holds everything now; at most [`crate::limits::LIST_MAX`].
        filled: Vec<Filled>,
        /// Repair and scrub.
        upkeep: Upkeep,
        /// The version of the list of living sessions that it has.
        sessions: u64,
    },
    /// Which of these versions does anything refer to, or may a live session still commit?
    CheckLive(Vec<LiveQuery>),
    /// Which of these versions should be stored in another class, by the policy of today? At most
    /// [`crate::limits::LIST_MAX`].
    CheckMoves(Vec<LiveQuery>),
    /// What are these versions to be compressed with, where old data are to follow the policy of today? At most
    /// [`crate::limits::LIST_MAX`].
    CheckCompression(Vec<LiveQuery>),
    /// Numbers for chunks and versions that this server makes in the course of such moves.
    Numbers {
        /// How many of each, at most 4,096.
        count: u32,
    },
    /// The same bytes are stored under another name now: the file is to refer to that one. Refused with `Conflict` when the
    /// slot does not hold `from` any more.
    Move {
        /// The file.
        owner: Ino,
        /// Which chunk of it.
        index: u64,
        /// What the slot holds.
        from: VersionId,
        /// What it is to hold.
        to: VersionId,
        /// Bytes of data in it.
        allocated: u32,
    },
}

/// Which sessions live; a session up to `newest` that is not among them is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivingSessions {
    /// Grows with each change, also across writers.
    pub version: u64,
    /// The newest session there was.
    pub newest: u64,
    /// At most [`crate::limits::SESSIONS_MAX`].
    pub living: Vec<SessionId>,
}

/// A member has fetched all that it lacked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// The class.
    pub class: Class,
    /// The partition.
    pub partition: Partition,
    /// The member's `since` in the map it went by.
    pub since: Epoch,
}

/// What an operator asks of a storage server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerCommand {
    /// Give everything away.
    Drain,
    /// Take part again.
    Undrain,
    /// Forget it: it must hold nothing any more, unless `force` (what only it had is lost).
    Remove {
        /// Also when it holds something.
        force: bool,
    },
    /// Name it and say where it stands; `None` leaves a word as it is.
    Label {
        /// Its name.
        label: Option<String>,
        /// A room, a site.
        zone: Option<String>,
        /// A machine.
        host: Option<String>,
        /// A disk of that machine.
        disk: Option<String>,
    },
    /// Its share relative to the others'; `None`: by its capacity.
    Weight(Option<u32>),
}

/// A held version whose use is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveQuery {
    /// Which.
    pub id: VersionId,
    /// The inode it was written for.
    pub owner: Ino,
    /// Which chunk of that inode.
    pub index: u64,
}

/// A version that nothing refers to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageItem {
    /// Its number, to report it collected.
    pub number: u64,
    /// What to drop.
    pub id: VersionId,
}

/// Requests of tools and followers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// Numbers and sessions.
    Status,
    /// A page of files with their chunks, for `dgfs fsck` and `dgfs info`.
    Inodes {
        /// The last inode seen, none at first.
        after: Option<Ino>,
        /// At most [`crate::limits::LIST_MAX`].
        limit: u32,
    },
    /// Changes a storage server's part in the cluster.
    Server {
        /// Which.
        id: ServerId,
        /// What.
        command: ServerCommand,
    },
    /// Storage servers with their history.
    Servers,
    /// Events after `after`; waits for one when there is none and `wait` is set.
    Log {
        /// A name; meta trims the log only behind every registered consumer.
        consumer: String,
        /// The last seq carried out.
        after: Seq,
        /// At most [`crate::limits::LOG_PAGE_MAX`].
        limit: u32,
        /// Long poll.
        wait: bool,
    },
    /// A page of inodes with all that the graph keeps of them, by number. What is changed meanwhile may be in it or not: the
    /// log behind the seq from before the first page tells.
    Graph {
        /// The last inode seen, none at first.
        after: Option<Ino>,
        /// At most [`crate::limits::LIST_MAX`].
        limit: u32,
    },
    /// A page of tags, by number; the same holds.
    Catalogue {
        /// The last tag seen, none at first.
        after: Option<TagId>,
        /// At most [`crate::limits::LIST_MAX`].
        limit: u32,
    },
    /// Who follows the change log, and how far: index services are reached at the address behind `@` in their name.
    Consumers,
}
