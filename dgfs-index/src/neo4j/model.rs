//! What a batch for Neo4j says: whole states of vertices, tags, and what is gone.
//!
//! Plain data of this module's own; it knows neither the index that fills it nor the Cypher that it becomes. Always: what
//! passed [`Batch::check`] has numbers that Neo4j can store, and bounded lists.

use thiserror::Error;

/// Vertices of one batch: ten thousand whole states are some ten MiB of parameters.
pub const BATCH_VERTICES_MAX: usize = 10_000;
/// Tags, relations, authors or places that one vertex may carry; the volume itself allows 1,000 tags on a file.
pub const VERTEX_EDGES_MAX: usize = 4_096;

/// What kind of inode a vertex is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file: label `File`.
    File,
    /// A directory: label `Dir`.
    Dir,
    /// A symbolic link, device, pipe or socket: label `Other`.
    Other,
}

/// One name of an inode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The directory's inode.
    pub parent: u64,
    /// The name as text; bytes that are no UTF-8 are replaced by U+FFFD.
    pub name: String,
    /// The exact bytes where `name` is not exact.
    pub raw: Option<Vec<u8>>,
}

/// Who said something about a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A person: stored as `user`.
    User,
    /// A tagger of this name.
    Tagger(String),
}

impl Source {
    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::Tagger(name) => name,
        }
    }
}

/// The value of a tag such as `year=2024`.
#[derive(Clone, Debug, PartialEq)]
pub enum TagValue {
    /// A text.
    Text(String),
    /// A finite number.
    Number(f64),
}

/// A tag on a vertex.
#[derive(Clone, Debug, PartialEq)]
pub struct TagEdge {
    /// The tag's folded key.
    pub key: String,
    /// The tag's name as people spell it.
    pub name: String,
    /// Who put it there.
    pub source: Source,
    /// How sure the source is, 0 to 1.
    pub confidence: f64,
    /// Its value, for `key=value` tags.
    pub value: Option<TagValue>,
}

/// How one inode relates to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationKind {
    /// Its content names the other.
    LinksTo,
    /// It was made from the other.
    DerivedFrom,
    /// It is a version of the other.
    VersionOf,
    /// Their contents are alike; it holds in both directions and is given once.
    SimilarTo,
    /// A person says that they belong together.
    RelatedTo,
}

impl RelationKind {
    /// The relationship type in Neo4j.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LinksTo => "LINKS_TO",
            Self::DerivedFrom => "DERIVED_FROM",
            Self::VersionOf => "VERSION_OF",
            Self::SimilarTo => "SIMILAR_TO",
            Self::RelatedTo => "RELATED_TO",
        }
    }
}

/// A relation from the vertex that lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// Which.
    pub kind: RelationKind,
    /// The other inode.
    pub to: u64,
    /// Who says so.
    pub source: Source,
    /// How strong, 0 to 1.
    pub score: f64,
}

/// The whole state of one inode: it replaces what Neo4j has of it, edges included.
#[derive(Clone, Debug, PartialEq)]
pub struct Vertex {
    /// The inode.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Bytes; not stored of a directory.
    pub size: u64,
    /// Last change of the content, microseconds since 1970.
    pub mtime: i64,
    /// Creation, microseconds since 1970.
    pub btime: i64,
    /// Last change of anything, microseconds since 1970.
    pub ctime: i64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Names, as the file system counts them.
    pub nlink: u32,
    /// Every name that it has.
    pub names: Vec<Name>,
    /// Extension, lower case, without the dot.
    pub ext: Option<String>,
    /// Media type.
    pub mime: Option<String>,
    /// Language of the text or of the source code.
    pub lang: Option<String>,
    /// Coarse type, such as `image`; of what is neither file nor directory what it is, such as `symlink`.
    pub class: Option<String>,
    /// When it was taken or made by its own word, microseconds since 1970.
    pub taken: Option<i64>,
    /// Title by its own word.
    pub title: Option<String>,
    /// BLAKE3 of the content.
    pub hash: Option<[u8; 32]>,
    /// What the fingerprints of that content are told from others by; with another one it is looked up what is alike. None: it has none.
    pub prints: Option<i64>,
    /// Its tags.
    pub tags: Vec<TagEdge>,
    /// Keys of tags that taggers must not bring back.
    pub vetoes: Vec<String>,
    /// Relations to other inodes.
    pub relations: Vec<Relation>,
    /// Names of its authors.
    pub authors: Vec<String>,
    /// Where it came from.
    pub urls: Vec<String>,
    /// Where it was taken.
    pub place: Option<String>,
}

impl Vertex {
    /// A vertex of which nothing but the kind is known.
    #[must_use]
    pub fn new(ino: u64, kind: Kind) -> Self {
        Self {
            ino,
            kind,
            size: 0,
            mtime: 0,
            btime: 0,
            ctime: 0,
            uid: 0,
            gid: 0,
            mode: 0,
            nlink: 1,
            names: Vec::new(),
            ext: None,
            mime: None,
            lang: None,
            class: None,
            taken: None,
            title: None,
            hash: None,
            prints: None,
            tags: Vec::new(),
            vetoes: Vec::new(),
            relations: Vec::new(),
            authors: Vec::new(),
            urls: Vec::new(),
            place: None,
        }
    }
}

/// The whole state of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Folded key, unique: `place:cn:hefei`.
    pub key: String,
    /// Its number in the catalogue; none: it is another name of a tag, a name space, or a tagger's word.
    pub id: Option<u64>,
    /// As people spell it.
    pub name: String,
    /// Keys of the name spaces that it lies in, the nearest first: `place:cn`, `place`. A query for one of them finds it.
    pub parents: Vec<String>,
    /// Keys of the tags that it implies.
    pub implies: Vec<String>,
    /// The key of the tag that it is another name of.
    pub alias_of: Option<String>,
}

/// A part of what brings Neo4j from `prev` to `next`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The stamp that Neo4j has: how many transactions of the index it holds.
    pub prev: u64,
    /// The stamp that it has when all parts are written.
    pub next: u64,
    /// The end of the change log at `next`.
    pub seq: u64,
    /// The writer's epoch: one with an older epoch writes nothing.
    pub epoch: u64,
    /// Vertices that changed, each once.
    pub vertices: Vec<Vertex>,
    /// Inodes that are no more.
    pub gone: Vec<u64>,
    /// Inodes without a name, open somewhere: nothing finds them, but what points to them stays until they are gone.
    pub unnamed: Vec<u64>,
    /// Keys that the catalogue has no more: they lose what it said of them, and their node where nothing points to it.
    pub gone_tags: Vec<String>,
    /// Tags that changed, each once.
    pub tags: Vec<Tag>,
    /// This is the last part: only it makes `next` the stamp that Neo4j has.
    pub last: bool,
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the batch from {prev} to {next} cannot be written: {why}")]
pub struct BatchError {
    /// Its `prev`.
    pub prev: u64,
    /// Its `next`.
    pub next: u64,
    /// What is wrong, where.
    pub why: String,
}

impl Batch {
    /// Can Neo4j store this?
    ///
    /// # Errors
    /// A number beyond 2^63 - 1, a score that is no number, or a list beyond its bound.
    pub fn check(&self) -> Result<(), BatchError> {
        let fail = |why: String| BatchError { prev: self.prev, next: self.next, why };
        for (what, number) in [("prev", self.prev), ("next", self.next), ("seq", self.seq), ("epoch", self.epoch)] {
            fits(what, number).map_err(fail)?;
        }
        if self.next < self.prev {
            return Err(fail("it goes backwards".to_owned()));
        }
        if self.vertices.len() > BATCH_VERTICES_MAX {
            let count = self.vertices.len();
            return Err(fail(format!("it has {count} vertices; at most {BATCH_VERTICES_MAX} are expected")));
        }
        for ino in self.gone.iter().chain(&self.unnamed) {
            fits("an inode that is gone", *ino).map_err(fail)?;
        }
        self.vertices.iter().try_for_each(check_vertex).map_err(fail)
    }
}

fn check_vertex(vertex: &Vertex) -> Result<(), String> {
    let ino = vertex.ino;
    for (what, number) in [("inode", ino), ("size", vertex.size)] {
        fits(what, number).map_err(|why| format!("inode {ino}: {why}"))?;
    }
    let lists = [
        ("tags", vertex.tags.len()),
        ("vetoes", vertex.vetoes.len()),
        ("relations", vertex.relations.len()),
        ("authors", vertex.authors.len()),
        ("addresses", vertex.urls.len()),
    ];
    if let Some((what, count)) = lists.into_iter().find(|(_, count)| *count > VERTEX_EDGES_MAX) {
        return Err(format!("inode {ino} has {count} {what}; at most {VERTEX_EDGES_MAX} are expected"));
    }
    for name in &vertex.names {
        fits("a name's directory", name.parent).map_err(|why| format!("inode {ino}: {why}"))?;
    }
    for relation in &vertex.relations {
        fits("a relation's end", relation.to).map_err(|why| format!("inode {ino}: {why}"))?;
        if !relation.score.is_finite() {
            return Err(format!("inode {ino}: the score of a relation to {} is no number", relation.to));
        }
    }
    for tag in &vertex.tags {
        let finite = match &tag.value {
            Some(TagValue::Number(number)) => number.is_finite(),
            Some(TagValue::Text(_)) | None => true,
        };
        if !finite || !tag.confidence.is_finite() {
            return Err(format!("inode {ino}: the tag `{}` has a value or a confidence that is no number", tag.key));
        }
    }
    Ok(())
}

fn fits(what: &str, number: u64) -> Result<(), String> {
    match i64::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{what} {number} is beyond what Neo4j can store, {}", i64::MAX)),
    }
}

#[cfg(test)]
mod tests;
