//! What the graph answers.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{FileKind, Timestamp};
use crate::graph::{HandRelation, TagFacts};
use crate::ids::{Ino, Seq, TagId};
use crate::log::Event;
use crate::name::Name;
use crate::status::Status;

/// An answer, and what it is true for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphReply {
    /// Everything up to here, and nothing behind, is in the answer.
    pub seq: Seq,
    /// The answer.
    pub answer: GraphAnswer,
}

/// An inode that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Which.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// What it is shown as among the others: its base name, or `stem~id.ext`.
    pub name: Name,
    /// How well it fits, 0 to 1,000, where the query ranks (relations); else 1,000.
    pub permille: u16,
}

/// How often something occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facet {
    /// A tag, `key=value`, or `key=`, as a component of a path would spell it without escapes.
    pub name: String,
    /// Inodes that carry it.
    pub count: u64,
}

/// What a tagger says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// A tag, or `key=value`.
    pub name: String,
    /// Who says so.
    pub tagger: String,
    /// Its version.
    pub version: u32,
    /// How sure it is, 0 to 1,000.
    pub permille: u16,
}

/// How far the taggers are with an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Examined {
    /// Nobody will look: not a file, or `user.xdg.robots.index=false`.
    Never,
    /// Some have not looked at its content yet.
    Pending,
    /// All have.
    Done,
    /// These failed on it.
    Failed(Vec<FailedTagger>),
}

/// A tagger that failed on an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTagger {
    /// Its name.
    pub tagger: String,
    /// Why: a line of at most 1 KiB, of a tagger that a user registered in its own words.
    pub reason: String,
}

/// A relation, seen from the inode that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelatedTo {
    /// As in the path language: `links-to`, `linked-from`, `similar`, `same-content`, `derived`, `sources`, `versions`, `related`.
    pub relation: String,
    /// The other inode.
    pub ino: Ino,
    /// 0 to 1,000.
    pub permille: u16,
    /// `user`, or who found it.
    pub source: String,
}

/// Inodes with the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicateSet {
    /// Bytes of each.
    pub size: u64,
    /// At least two, by number.
    pub inos: Vec<Ino>,
}

/// How far an index is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStatus {
    /// Events up to here are applied.
    pub seq: Seq,
    /// The last event there is.
    pub head: Seq,
    /// It is being built (anew): inodes read so far.
    pub building: Option<u64>,
    /// Inodes in the graph.
    pub inodes: u64,
    /// Tags that people made.
    pub tags: u64,
    /// Pairs of inode and tag, by hand and by taggers.
    pub edges: u64,
    /// Jobs that wait for taggers.
    pub jobs: u64,
    /// Files on which a tagger failed.
    pub failed: u64,
    /// Bytes of memory that columns and bitmaps take.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Neo4j, where configured: up to where it is, and what is wrong with it.
    pub neo4j: Option<(Seq, Option<String>)>,
    /// When the last event was applied.
    pub applied_at: Timestamp,
}

/// Tags that people gave to an inode and took from it, in one change; by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retagged {
    /// Which.
    pub ino: Ino,
    /// It carries these now.
    pub given: Vec<String>,
    /// It carried these before.
    pub taken: Vec<String>,
}

/// A change as those are told of it who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its place among all changes.
    pub seq: Seq,
    /// When it was made.
    pub at: Timestamp,
    /// What happened; none where only what left may be told, or no change of it alone made it leave.
    pub event: Option<Event>,
    /// Whose tags changed.
    pub retagged: Vec<Retagged>,
    /// Inodes that fitted before, and do not fit any more; at most a thousand.
    pub left: Vec<Ino>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphAnswer {
    /// It is so; it was done.
    Done,
    /// What fits, by inode number.
    Hits {
        /// The page.
        hits: Vec<Hit>,
        /// There is nothing behind.
        end: bool,
        /// When anything that decides what is listed changed last.
        changed: Timestamp,
    },
    /// How many.
    Count(u64),
    /// How often what occurs.
    Facets(Vec<Facet>),
    /// Names from the scope (not named) down to the inode.
    Path(Vec<Name>),
    /// What taggers say.
    Marks {
        /// All of it.
        marks: Vec<Mark>,
        /// How far they are.
        examined: Examined,
    },
    /// Relations, the best first.
    Related(Vec<RelatedTo>),
    /// Duplicates.
    Duplicates(Vec<DuplicateSet>),
    /// Tags with the number of inodes that carry each.
    Catalogue(Vec<(TagId, TagFacts, u64)>),
    /// Saved queries, by name.
    Saved(Vec<(String, String)>),
    /// Words.
    Text(String),
    /// How far it is.
    Status(IndexStatus),
    /// Changes, in order. Not answered any more: [`Self::Told`] says more of them.
    Events(Vec<Event>),
    /// Relations made by hand, of [`crate::graph::GraphRequest::Marks`]' inode.
    Hand(Vec<(HandRelation, Ino)>),
    /// Refused.
    Refused(Status),
    /// Refused, with a sentence for a person.
    Denied(String),
    /// Of each inode names from the scope (not named) down to it; none where it has none that may be seen, or more than a symlink
    /// could hold.
    Places(Vec<Option<Vec<Name>>>),
    /// Changes, in order.
    Told(Vec<Told>),
}
