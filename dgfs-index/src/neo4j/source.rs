//! The embedded index as what the follower follows.
//!
//! Never holds up the index: it reads the tables as any reader does, a page at a time, in a thread that may block. Always: what
//! changed is found by stamps; a graph of another index, of an earlier generation of this one, or of a future that a power cut
//! took is written anew. Which tags were renamed or deleted is seen by comparing the catalogue with what the graph has of it;
//! who carries one is then written again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dgfs_proto::ids::Ino;
use dgfs_proto::tag;
use dgfs_runtime::{disk, random};

use super::alike::{Alike, CONSIDERED_MAX, sort};
use super::catalogue::{Catalogue, Sent, above, node_of};
use super::convert;
use super::follow::Source;
use super::liken::Asked;
use super::model::{Batch, Tag, Vertex};
use super::rows;
use super::write::{Applied, KnownTag};
use crate::graph::Applied as IndexApplied;
use crate::index::Index;
use crate::store::{Readers, StoreError};

/// Vertices of one part: one transaction's worth, a few MiB.
const PART_VERTICES: usize = 1_000;
/// Tags of one part.
const PART_TAGS: usize = 5_000;
/// Name spaces of taggers' words that are remembered as written; all are forgotten when there are more.
const WORDS_MAX: usize = 100_000;
/// Grows when one state of the index is written otherwise than before: a graph of another format is written anew.
const FORMAT: u32 = 2;
/// What is remembered beside the index, in this file.
const FILE: &str = "neo4j";
/// The index forgets inodes that were freed only at stamps that are multiples of this.
const FORGETS_EVERY: u64 = 1024;

/// What tells this index from others, and the last epoch that it took.
struct Identity {
    file: PathBuf,
    index: u64,
    epoch: u64,
}

impl Identity {
    /// Reads it, or makes one. A file that says nothing is replaced: the graph is then written anew.
    fn open(dir: &Path) -> io::Result<Self> {
        let file = dir.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut words = text.split_whitespace();
        let index = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let epoch = words.next().and_then(|word| word.parse().ok());
        match (index, epoch) {
            (Some(index), Some(epoch)) => Ok(Self { file, index, epoch }),
            _ => Ok(Self { file, index: random::number()?, epoch: 0 }),
        }
    }

    fn keep(&mut self, epoch: u64) -> io::Result<()> {
        self.epoch = epoch;
        disk::write_atomically(&self.file, format!("{:016x} {epoch}\n", self.index).as_bytes())
    }
}

/// See the module.
pub struct IndexSource {
    index: Arc<Index>,
    identity: Identity,
    /// The stamp that the index had when this process began.
    opened: u64,
    /// What the graph has of the catalogue.
    sent: Arc<Sent>,
    /// Name spaces of taggers' words that were written by this link.
    words: BTreeSet<String>,
    round: Option<Round>,
    /// Inodes that were freed since what the graph has are forgotten.
    forgot: bool,
}

impl IndexSource {
    /// Follows `index`; `opened` is the stamp that it had when it was opened, before anything was applied.
    ///
    /// # Errors
    /// What is remembered beside the index cannot be read.
    pub fn open(index: Arc<Index>, opened: u64) -> io::Result<Self> {
        let identity = Identity::open(index.dir())?;
        let (sent, words) = (Arc::default(), BTreeSet::new());
        Ok(Self { index, identity, opened, sent, words, round: None, forgot: false })
    }
}

impl Source for IndexSource {
    fn applied(&mut self) -> u64 {
        self.index.applied().stamp
    }

    fn line(&mut self) -> String {
        format!("{:016x}-{}-{FORMAT}", self.identity.index, self.index.generation())
    }

    fn continues(&mut self, graph: &Applied, ours: bool) -> bool {
        // What another process wrote behind the stamp that was found here was lost here with a power cut: these stamps are
        // given once more, for other changes.
        let led = ours || graph.stamp <= self.opened;
        let told = graph.stamp == 0 || self.index.readers().remembers_gone_after(graph.stamp).unwrap_or(false);
        led && told && !std::mem::take(&mut self.forgot)
    }

    fn epoch_above(&mut self, epoch: u64) -> Result<u64, String> {
        // The clock, so that an index that was removed and built anew does not begin below its own past.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let next = epoch.max(self.identity.epoch).saturating_add(1).max(now);
        let file = self.identity.file.display().to_string();
        self.identity.keep(next).map_err(|error| format!("write {file}: {error}"))?;
        Ok(next)
    }

    fn begin(&mut self, tags: Vec<KnownTag>) {
        self.sent = Arc::new(Sent::of_graph(tags));
        self.words.clear();
        self.round = None;
    }

    async fn past(&mut self, stamp: u64) {
        let mut applied = self.index.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|applied| applied.stamp > stamp).await;
    }

    async fn part(&mut self, after: u64, part: u32, epoch: u64) -> Result<Batch, String> {
        let words = std::mem::take(&mut self.words);
        let begun = self.round.take().filter(|round| part > 0 && round.part == part && round.after == after);
        let (index, sent) = (Arc::clone(&self.index), Arc::clone(&self.sent));
        if begun.is_none() && part > 0 {
            return Err(format!("part {part} was asked for out of turn"));
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut round = match begun {
                Some(round) => round,
                None => Round::begin(&index, after, &sent)?,
            };
            let mut words = words;
            let batch = round.batch(epoch, &mut words)?;
            Ok::<_, RoundError>((round, words, batch))
        });
        let read = read.await.map_err(|_| "reading the index ended early; see the log".to_owned())?;
        let (round, words, batch) = read.map_err(|error| {
            self.forgot |= matches!(error, RoundError::Forgotten);
            error.to_string()
        })?;
        self.words = words;
        if batch.last {
            if let Some(catalogue) = round.changed {
                self.sent = Arc::new(Sent::of_catalogue(catalogue));
            }
        } else {
            self.round = Some(round);
        }
        Ok(batch)
    }

    async fn alike(&mut self, contents: Vec<Asked>) -> Result<Vec<Vec<Alike>>, String> {
        let readers = self.index.readers();
        let looked = tokio::task::spawn_blocking(move || {
            contents.iter().map(|asked| alike(&readers, asked)).collect::<Result<Vec<_>, StoreError>>()
        });
        let looked = looked.await.map_err(|_| "looking for like contents ended early; see the log".to_owned())?;
        looked.map_err(|error| error.to_string())
    }
}

/// What the index says is alike to a content, the closest first: of each kind [`CONSIDERED_MAX`] that a file has, and those that
/// it is tied to.
pub(super) fn alike(readers: &Readers, asked: &Asked) -> Result<Vec<Alike>, StoreError> {
    // What is no hash was not written by us.
    let Some(hash) = rows::unhex(&asked.content) else { return Ok(Vec::new()) };
    let mut all: Vec<Alike> = Vec::new();
    for found in readers.likenesses_of(&hash)? {
        let (other, source) = (rows::hex(&found.content), found.kind.as_str().to_owned());
        all.push(Alike { other, source, permille: found.permille });
    }
    let known: BTreeSet<String> = all.iter().map(|one| one.other.clone()).collect();
    // Lists of a crowd are cut, and perhaps only the other one has this one in his.
    for other in asked.linked.difference(&known) {
        let Some(other_hash) = rows::unhex(other) else { continue };
        for (kind, permille) in readers.likeness_between(&hash, &other_hash)? {
            all.push(Alike { other: other.clone(), source: kind.as_str().to_owned(), permille });
        }
    }
    sort(&asked.content, &mut all);
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut closest = Vec::new();
    for one in all {
        let count = taken.entry(one.source.clone()).or_default();
        let free = *count < CONSIDERED_MAX;
        // Fingerprints of what no file has any more are kept for a while: the versions of a file that was saved a hundred times.
        let fits = free && rows::unhex(&one.other).map_or(Ok(false), |hash| readers.is_content(&hash))?;
        *count += usize::from(fits);
        if fits || asked.linked.contains(&one.other) {
            closest.push(one);
        }
    }
    Ok(closest)
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the index has forgotten which inodes were freed since: the graph is written anew")]
    Forgotten,
}

/// What is left to be written of one catching up.
struct Round {
    after: u64,
    until: IndexApplied,
    /// The part that comes next.
    part: u32,
    readers: Readers,
    catalogue: Catalogue,
    /// The same where the graph has another one.
    changed: Option<Catalogue>,
    tags: VecDeque<Tag>,
    gone_tags: Vec<String>,
    /// Inodes that are written whether or not they changed, and those that changed.
    inos: VecDeque<Ino>,
    walk: Walk,
}

/// How far the inodes were gathered.
enum Walk {
    /// Every inode, behind this one.
    All(Option<Ino>),
    /// Those that changed behind this stamp.
    Changed(u64),
    /// All that there were.
    Done,
}

impl Round {
    fn begin(index: &Index, after: u64, sent: &Sent) -> Result<Self, RoundError> {
        let until = index.applied();
        let readers = index.readers();
        if after > 0 && until.stamp / FORGETS_EVERY != after / FORGETS_EVERY && !readers.remembers_gone_after(after)? {
            return Err(RoundError::Forgotten);
        }
        let mut round = Self {
            after,
            until,
            part: 0,
            readers,
            catalogue: Catalogue::default(),
            changed: None,
            tags: VecDeque::new(),
            gone_tags: Vec::new(),
            inos: VecDeque::new(),
            walk: if after == 0 { Walk::All(None) } else { Walk::Changed(after) },
        };
        round.compare_tags(sent)?;
        Ok(round)
    }

    /// Finds what changed in the catalogue since the graph was told.
    fn compare_tags(&mut self, sent: &Sent) -> Result<(), StoreError> {
        let same = self.after > 0
            && sent.count() == self.readers.tag_count()?
            && self.readers.tags_after(self.after)?.is_empty();
        if let (true, Some(written)) = (same, sent.written()) {
            self.catalogue = written.clone();
            return Ok(());
        }
        self.catalogue = Catalogue::read(&self.readers)?;
        if !same {
            let difference = sent.difference(&self.catalogue);
            self.tags = difference.tags.into();
            self.gone_tags = difference.gone;
            for tag in difference.moved {
                self.inos.extend(self.readers.carriers(tag)?);
            }
        }
        self.changed = Some(self.catalogue.clone());
        Ok(())
    }

    fn batch(&mut self, epoch: u64, words: &mut BTreeSet<String>) -> Result<Batch, StoreError> {
        let (next, seq) = (self.until.stamp, self.until.seq.0);
        let mut batch = Batch { prev: self.after, next, seq, epoch, ..Batch::default() };
        self.part = self.part.saturating_add(1);
        batch.gone_tags.clone_from(&self.gone_tags);
        if !self.tags.is_empty() {
            batch.tags = self.tags.drain(..self.tags.len().min(PART_TAGS)).collect();
            batch.last = false;
            return Ok(batch);
        }
        self.gather()?;
        for ino in self.inos.drain(..self.inos.len().min(PART_VERTICES)).collect::<BTreeSet<_>>() {
            match read_vertex(&self.readers, ino, &self.catalogue)? {
                State::Named(vertex) => batch.vertices.push(*vertex),
                State::Unnamed => batch.unnamed.push(ino.get()),
                State::Gone => batch.gone.push(ino.get()),
            }
        }
        batch.tags = self.spaces(&batch.vertices, words);
        batch.last = self.inos.is_empty() && matches!(self.walk, Walk::Done);
        Ok(batch)
    }

    /// Reads on until a part is full or there are no more. An inode that is listed twice is written twice: no harm.
    fn gather(&mut self) -> Result<(), StoreError> {
        while self.inos.len() < PART_VERTICES {
            self.walk = match self.walk {
                Walk::All(after) => {
                    let page = self.readers.inos_after(after, PART_VERTICES)?;
                    self.inos.extend(&page);
                    page.last().map_or(Walk::Done, |last| Walk::All(Some(*last)))
                }
                // What comes behind is for the next catching up.
                Walk::Changed(stamp) if stamp >= self.until.stamp => Walk::Done,
                Walk::Changed(stamp) => {
                    let page = self.readers.changes_after(stamp, PART_VERTICES)?;
                    self.inos.extend(page.iter().map(|changed| changed.ino));
                    page.last().map_or(Walk::Done, |last| Walk::Changed(last.stamp))
                }
                Walk::Done => return Ok(()),
            };
        }
        Ok(())
    }

    /// Nodes of taggers' words that lie in name spaces, and of those, unless the catalogue has them or they were written.
    fn spaces(&self, vertices: &[Vertex], words: &mut BTreeSet<String>) -> Vec<Tag> {
        if words.len() > WORDS_MAX {
            words.clear();
        }
        let mut nodes = Vec::new();
        for edge in vertices.iter().flat_map(|vertex| &vertex.tags).filter(|edge| edge.key.contains(':')) {
            if words.contains(&edge.key) || self.catalogue.has(&edge.key) {
                continue;
            }
            // A word that is no tag has no name space.
            let Ok(word) = tag::Tag::parse(&edge.name) else { continue };
            for node in above(&word).into_iter().chain([node_of(&word)]) {
                if !self.catalogue.has(&node.key) && words.insert(node.key.clone()) {
                    nodes.push(node);
                }
            }
        }
        nodes
    }
}

/// What an inode is to be in the graph.
enum State {
    Named(Box<Vertex>),
    /// It is open somewhere; nothing finds it.
    Unnamed,
    Gone,
}

fn read_vertex(readers: &Readers, ino: Ino, catalogue: &Catalogue) -> Result<State, StoreError> {
    let Some(row) = readers.vertex(ino)? else { return Ok(State::Gone) };
    if row.node.names.is_empty() && ino != Ino::ROOT {
        return Ok(State::Unnamed);
    }
    let mut vertex = convert::vertex(&row, &readers.examination(ino)?, catalogue);
    if let Some(content) = &vertex.hash {
        vertex.prints = readers.prints_stamp(content)?;
    }
    Ok(State::Named(Box::new(vertex)))
}

/// The vertices of `inos` (all: none given) as the graph is to have them, ascending; what cannot be read ends them and is told in
/// `failed`.
pub(super) struct Expected<'a> {
    readers: Readers,
    catalogue: Catalogue,
    page: VecDeque<Ino>,
    after: Option<Ino>,
    whole: bool,
    failed: &'a mut Option<StoreError>,
}

impl<'a> Expected<'a> {
    pub(super) fn of(
        readers: Readers,
        inos: Option<&BTreeSet<u64>>,
        failed: &'a mut Option<StoreError>,
    ) -> Result<Self, StoreError> {
        let catalogue = Catalogue::read(&readers)?;
        let page = inos.into_iter().flatten().filter_map(|ino| Ino::new(*ino)).collect();
        Ok(Self { readers, catalogue, page, after: None, whole: inos.is_none(), failed })
    }

    fn step(&mut self) -> Result<Option<Vertex>, StoreError> {
        loop {
            if self.page.is_empty() && self.whole {
                self.page = self.readers.inos_after(self.after, PART_VERTICES)?.into();
            }
            let Some(ino) = self.page.pop_front() else { return Ok(None) };
            self.after = Some(ino);
            if let State::Named(vertex) = read_vertex(&self.readers, ino, &self.catalogue)? {
                return Ok(Some(*vertex));
            }
        }
    }
}

impl Iterator for Expected<'_> {
    type Item = Vertex;

    fn next(&mut self) -> Option<Vertex> {
        self.step().unwrap_or_else(|error| {
            *self.failed = Some(error);
            None
        })
    }
}
