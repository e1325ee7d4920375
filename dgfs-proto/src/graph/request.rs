//! What is asked of the graph.
//!
//! Never changes it: tags and relations are changed at the metadata service, from where they come here.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Ino, Seq};
use crate::name::Name;
use crate::query::{Clause, DatePrefix, Key, Query};

/// Who looks. Only what this user can reach is shown or counted: an inode whose directories, up to the root, may be
/// searched, and one of whose names lies in a directory that may be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// File-system user; 0 sees everything.
    pub uid: u32,
    /// Its groups, the first its own; at most [`crate::limits::GROUPS_MAX`].
    pub gids: Vec<u32>,
}

impl Viewer {
    /// Sees everything.
    #[must_use]
    pub const fn root() -> Self {
        Self { uid: 0, gids: Vec::new() }
    }
}

/// A request with what every request carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphCall {
    /// Made at the edge, in every log line on the way.
    pub request_id: u64,
    /// Who looks.
    pub viewer: Viewer,
    /// Answered within this, or `Unavailable`: milliseconds.
    pub deadline_ms: u32,
    /// Every change up to this has been applied when the answer is made; none: everything that the metadata service had
    /// answered before the call.
    pub at_least: Option<Seq>,
    /// What is asked.
    pub request: GraphRequest,
}

/// Where a query looks, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// Only what lies below this directory.
    pub scope: Ino,
    /// What.
    pub query: Query,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphRequest {
    /// Is every tag, key, saved query and inode named in it known? `Done`, or refused with `NotFound`.
    Known {
        /// Names in `@of` are looked up here.
        scope: Ino,
        /// One component of a path.
        clause: Clause,
    },
    /// What fits, by inode number: `Hits`.
    Search {
        /// Where and what.
        sought: Sought,
        /// The last inode seen.
        after: Option<Ino>,
        /// At most [`crate::limits::GRAPH_PAGE_MAX`].
        limit: u32,
    },
    /// The hit that is shown under this name: `Hits` with one, or refused with `NotFound`.
    Entry {
        /// Where and what.
        sought: Sought,
        /// As `Hits` shows it, or with `~id` before the extension.
        name: Name,
    },
    /// How many fit: `Count`.
    Count(Sought),
    /// Tags and values that occur together with it, the most frequent first: `Facets`.
    Facets {
        /// Where and what.
        sought: Sought,
        /// Only those that begin so (folded); empty: all.
        prefix: String,
        /// At most [`crate::limits::FACETS_MAX`].
        limit: u32,
    },
    /// First segments of all tags, and keys, that are in use (or made by hand) below `scope`: `Facets`, by name. Keys end in `=`.
    Top {
        /// Where.
        scope: Ino,
    },
    /// Values of a key, by value: `Facets`.
    Values {
        /// Where.
        scope: Ino,
        /// Which.
        key: Key,
        /// At most [`crate::limits::FACETS_MAX`].
        limit: u32,
    },
    /// How the query is answered, in words: `Text`.
    Explain(Sought),
    /// Where an inode lies, seen from `scope`: `Path`, or refused with `NotFound`.
    Place {
        /// From here.
        scope: Ino,
        /// Which.
        ino: Ino,
    },
    /// What taggers say of an inode, and how far they are: `Marks`.
    Marks(Ino),
    /// Relations of an inode: `Related`.
    Related {
        /// Which.
        ino: Ino,
        /// At most [`crate::limits::GRAPH_PAGE_MAX`].
        limit: u32,
    },
    /// Sets of inodes with the same content, those that take the most room first: `Duplicates`.
    Duplicates {
        /// Where.
        scope: Ino,
        /// At most [`crate::limits::GRAPH_PAGE_MAX`].
        limit: u32,
    },
    /// Tags that people made, with aliases and implications, by name: `Catalogue`.
    Tags {
        /// Behind this one (folded).
        after: String,
        /// At most [`crate::limits::GRAPH_PAGE_MAX`].
        limit: u32,
    },
    /// Saved queries: `Saved`.
    Saved,
    /// How far the index is: `Status`. Waits for nothing.
    Status,
    /// Builds it anew from the metadata, while it goes on answering: `Done` when begun.
    Rebuild,
    /// Compares it with the metadata: `Text`, a line for each difference.
    Check,
    /// Changes behind `after`: `Told`, as soon as there are some.
    Watch {
        /// The last one seen; none: from now on.
        after: Option<Seq>,
        /// Only of what fits.
        sought: Option<Sought>,
    },
    /// A read-only question in Cypher, where Neo4j is configured: `Text`, JSON lines.
    Cypher(String),
    /// Taggers: `Text` (JSON).
    Tagger(TaggerCommand),
    /// What a name in a query's directory leads to: as [`Self::Entry`] where a hit is shown so, else as [`Self::Known`].
    Step {
        /// Where and what.
        sought: Sought,
        /// The name.
        name: Name,
        /// What the grammar makes of the name.
        clause: Clause,
    },
    /// Where inodes lie, seen from `scope`: `Places`, in the order asked.
    Places {
        /// From here.
        scope: Ino,
        /// At most [`crate::limits::PLACES_MAX`].
        inos: Vec<Ino>,
    },
    /// Years, or months of a year, or days of a month (of UTC), in which something that fits was taken, or where that is not known
    /// changed: `Facets`, by date; `2024` or two digits each.
    Dates {
        /// Where and what.
        sought: Sought,
        /// The year or month; none: all years.
        within: Option<DatePrefix>,
    },
}

/// What an operator asks of taggers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaggerCommand {
    /// All of them, with counts and state.
    List,
    /// Runs it (or all) on an inode again.
    Run {
        /// None: all.
        tagger: Option<String>,
        /// On which.
        ino: Ino,
    },
    /// Takes no new jobs until resumed.
    Pause(bool),
}
