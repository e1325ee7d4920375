//! Writes batches: a fence first, then nodes, edges and deletions, in one transaction for each thousand vertices.
//!
//! Never decides what a vertex is; it stores the state that it is given. Always: data and stamp commit together, a writer
//! with an older epoch or from another stamp changes nothing, and writing a batch twice is writing it once. While a batch
//! of several transactions is under way the node `Applied` says so in `pending`: between them a reader may see a part.

use serde_json::{Value, json};
use thiserror::Error;

use super::link::{Link, LinkError, Statement, Touched, Work};
use super::model::{Batch, BatchError, Kind, Tag, Vertex};
use super::rows;

/// Vertices of one transaction: large enough that the commit's sync is a small part, small enough for a server with
/// 512 MiB of heap.
const CHUNK_VERTICES: usize = 1_000;
/// Tags of one page when those that are there are read.
const TAGS_PAGE: usize = 5_000;
/// Rows of one statement; hard links and tags make more rows than there are vertices.
const STATEMENT_ROWS: usize = 5_000;

/// What the node `Applied` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many transactions of the index it holds; 0: a rebuild has not come to its end.
    pub stamp: u64,
    /// The end of the change log at that stamp.
    pub seq: u64,
    /// The epoch of the last writer.
    pub epoch: u64,
    /// Which index counted the stamps; none: no rebuild began yet.
    pub line: Option<String>,
    /// What is older than this epoch is to be swept when the stamp is above zero: a rebuild began.
    pub sweep: Option<u64>,
}

impl Applied {
    fn read(row: &Value) -> Self {
        let sweep = row.get("sweep").and_then(Value::as_u64);
        let line = row.get("line").and_then(Value::as_str).map(str::to_owned);
        Self { stamp: number(row, "stamp"), seq: number(row, "seq"), epoch: number(row, "epoch"), line, sweep }
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written.
    Written(Touched),
    /// It was written before.
    Known,
}

/// Why nothing was written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The batch itself.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The server.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A later writer took over.
    #[error("another writer with epoch {theirs} writes this graph; this one has epoch {ours} and stops")]
    Fenced {
        /// Our epoch.
        ours: u64,
        /// The epoch that is stored.
        theirs: u64,
    },
    /// The batch does not begin where the graph ends.
    #[error("the graph is at stamp {have}, the batch begins at {prev}")]
    Gap {
        /// Where the graph is.
        have: u64,
        /// Where the batch begins.
        prev: u64,
    },
    /// The database belongs to another volume.
    #[error("this Neo4j database holds the graph of the volume {theirs}, not of {ours}: use a database of its own")]
    Foreign {
        /// Our volume.
        ours: String,
        /// The volume that is stored.
        theirs: String,
    },
}

// The write lock comes before the reading: two writers that read first would both find themselves in order.
const FENCE: &str = "MERGE (a:Applied {id: $volume}) ON CREATE SET a.stamp = 0, a.seq = 0, a.epoch = $epoch \
    SET a.lock = 1 \
    WITH a, a.stamp AS stamp, a.epoch AS epoch \
    WITH a, stamp, epoch, stamp = $prev AND epoch = $epoch AS open \
    FOREACH (_ IN CASE WHEN open THEN [1] ELSE [] END | SET a.stamp = $stamp, a.pending = $pending) \
    FOREACH (_ IN CASE WHEN open AND $seq IS NOT NULL THEN [1] ELSE [] END | SET a.seq = $seq) \
    RETURN {stamp: stamp, epoch: epoch, open: open} AS row";
const CLAIM: &str = "MERGE (a:Applied {id: $volume}) ON CREATE SET a.stamp = 0, a.seq = 0, a.epoch = $epoch \
    SET a.lock = 1 \
    WITH a \
    FOREACH (_ IN CASE WHEN a.epoch < $epoch THEN [1] ELSE [] END | SET a.epoch = $epoch) \
    RETURN {stamp: a.stamp, seq: a.seq, epoch: a.epoch, line: a.line, sweep: a.sweep} AS row";
const LOOK: &str = "MATCH (a:Applied {id: $volume}) \
    RETURN {stamp: a.stamp, seq: a.seq, epoch: a.epoch, line: a.line, sweep: a.sweep} AS row";
const RESTART: &str = "MATCH (a:Applied {id: $volume}) WHERE a.epoch = $epoch \
    SET a.stamp = 0, a.line = $line, a.sweep = $epoch, a.pending = null RETURN {stamp: a.stamp} AS row";
const FOREIGN: &str = "MATCH (a:Applied) WHERE a.id <> $volume RETURN a.id AS row LIMIT 1";
const DROP_NAMES: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r.id})<-[c:CONTAINS]-(d:Inode) \
    WHERE r.keep IS NULL OR NOT [d.id, c.name, coalesce(c.raw, '')] IN r.keep DELETE c";
// What is there is read from the file's side: it has a few names, its directory may have a million entries.
const MAKE_NAMES: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r.id}) \
    WITH r, v, [(x:Inode)-[c:CONTAINS]->(v) | [x.id, c.name, coalesce(c.raw, '')]] AS there \
    WHERE NOT [r.dir, r.name, r.raw] IN there \
    MERGE (d:Inode {id: r.dir}) ON CREATE SET d:Unknown \
    CREATE (d)-[:CONTAINS {name: r.name, raw: CASE r.raw WHEN '' THEN null ELSE r.raw END}]->(v)";
const DROP_EDGES: &str = "UNWIND $rows AS r \
    MATCH (v:Inode {id: r.id})-[x:TAGGED|REJECTED|HAS_CONTENT|AUTHORED_BY|TAKEN_AT|DERIVED_FROM|LINKS_TO|VERSION_OF\
    |SIMILAR_TO|RELATED_TO]->(o) \
    WHERE NOT [type(x), CASE WHEN o:Inode THEN o.id ELSE coalesce(o.key, o.hash) END, coalesce(x.src, ''), \
    coalesce(x.val, '')] IN r.keep \
    FOREACH (_ IN CASE WHEN type(x) = 'HAS_CONTENT' THEN [1] ELSE [] END | SET o.due = true) DELETE x";
const MAKE_TAGGED: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r.id}) \
    MERGE (t:Tag {key: r.key}) ON CREATE SET t.name = r.name, t.ep = $epoch \
    MERGE (v)-[x:TAGGED {src: r.src, val: r.val}]->(t) SET x.conf = r.conf, x.k = r.k, x.num = r.num, x.str = r.str";
const MAKE_RELATIONS: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r.id}) \
    MERGE (o:Inode {id: r.to}) ON CREATE SET o:Unknown \
    FOREACH (_ IN CASE r.type WHEN 'LINKS_TO' THEN [1] ELSE [] END | \
        MERGE (v)-[x:LINKS_TO {src: r.src}]->(o) SET x.score = r.score) \
    FOREACH (_ IN CASE r.type WHEN 'DERIVED_FROM' THEN [1] ELSE [] END | \
        MERGE (v)-[x:DERIVED_FROM {src: r.src}]->(o) SET x.score = r.score) \
    FOREACH (_ IN CASE r.type WHEN 'VERSION_OF' THEN [1] ELSE [] END | \
        MERGE (v)-[x:VERSION_OF {src: r.src}]->(o) SET x.score = r.score) \
    FOREACH (_ IN CASE r.type WHEN 'SIMILAR_TO' THEN [1] ELSE [] END | \
        MERGE (v)-[x:SIMILAR_TO {src: r.src}]->(o) SET x.score = r.score) \
    FOREACH (_ IN CASE r.type WHEN 'RELATED_TO' THEN [1] ELSE [] END | \
        MERGE (v)-[x:RELATED_TO {src: r.src}]->(o) SET x.score = r.score)";
const MAKE_STARS: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r.id}) \
    FOREACH (h IN r.hashes | MERGE (c:Content {hash: h}) \
        SET c.due = CASE WHEN coalesce(c.prints, 0) <> coalesce(r.prints, 0) OR ($anew AND r.prints IS NOT NULL) \
            THEN true ELSE c.due END, c.size = r.size, c.prints = r.prints \
        MERGE (v)-[:HAS_CONTENT]->(c)) \
    FOREACH (k IN r.vetoes | MERGE (t:Tag {key: k}) ON CREATE SET t.ep = $epoch MERGE (v)-[:REJECTED]->(t)) \
    FOREACH (k IN r.authors | MERGE (p:Person {key: k}) ON CREATE SET p.name = k MERGE (v)-[:AUTHORED_BY]->(p)) \
    FOREACH (k IN r.urls | MERGE (s:Source {key: k}) ON CREATE SET s.name = k MERGE (v)-[:DERIVED_FROM]->(s)) \
    FOREACH (k IN r.places | MERGE (p:Place {key: k}) ON CREATE SET p.name = k MERGE (v)-[:TAKEN_AT]->(p))";
// A content that lost a file has perhaps none any more: `liken` looks.
const GONE: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r}) \
    FOREACH (c IN [(v)-[:HAS_CONTENT]->(c) | c] | SET c.due = true) DETACH DELETE v";
const UNNAME: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r}) SET v = {id: r, ep: $epoch}, v:Unknown \
    REMOVE v:File:Dir:Other WITH v MATCH (v)-[x]->(o) \
    FOREACH (_ IN CASE WHEN type(x) = 'HAS_CONTENT' THEN [1] ELSE [] END | SET o.due = true) DELETE x";
const DROP_ALL_NAMES: &str = "UNWIND $rows AS r MATCH (v:Inode {id: r})<-[c:CONTAINS]-() DELETE c";
// What taggers say stays, and with it the node; what the catalogue said of it goes.
const STRIP_TAGS: &str = "UNWIND $rows AS r MATCH (t:Tag {key: r}) SET t.id = null \
    WITH t MATCH (t)-[x:IMPLIES|ALIAS_OF]->() DELETE x";
const GONE_TAGS: &str = "UNWIND $rows AS r MATCH (t:Tag {key: r}) \
    WHERE NOT EXISTS { (t)<-[:TAGGED|REJECTED|WITHIN|IMPLIES|ALIAS_OF]-() } DETACH DELETE t";
const KNOWN_TAGS: &str = "MATCH (t:Tag) WHERE t.key > $after AND (t.id IS NOT NULL OR EXISTS { (t)-[:ALIAS_OF]->() }) \
    WITH t ORDER BY t.key LIMIT $page RETURN [t.key, t.id] AS row";
const MAKE_TAG_NODES: &str = "UNWIND $rows AS r MERGE (t:Tag {key: r.key}) \
    SET t.name = r.name, t.ns = r.ns, t.id = r.id, t.ep = $epoch";
const DROP_TAG_LINKS: &str = "UNWIND $rows AS r MATCH (t:Tag {key: r.key})-[x:WITHIN|IMPLIES|ALIAS_OF]->(o:Tag) \
    WHERE NOT [type(x), o.key] IN r.keep DELETE x";
const MAKE_TAG_LINKS: &str = "UNWIND $rows AS r MATCH (t:Tag {key: r.key}) MERGE (o:Tag {key: r.to}) SET o.ep = $epoch \
    FOREACH (_ IN CASE r.type WHEN 'WITHIN' THEN [1] ELSE [] END | MERGE (t)-[:WITHIN]->(o)) \
    FOREACH (_ IN CASE r.type WHEN 'IMPLIES' THEN [1] ELSE [] END | MERGE (t)-[:IMPLIES]->(o)) \
    FOREACH (_ IN CASE r.type WHEN 'ALIAS_OF' THEN [1] ELSE [] END | MERGE (t)-[:ALIAS_OF]->(o))";

/// Writes the graph of one volume with one epoch.
#[derive(Debug)]
pub struct Writer<'a> {
    link: &'a Link,
    volume: String,
    epoch: u64,
}

impl<'a> Writer<'a> {
    /// Takes the graph of `volume` for `epoch`; a writer with an older epoch is fenced from now on.
    ///
    /// # Errors
    /// [`WriteError::Fenced`]: a later epoch has it. [`WriteError::Foreign`]: another volume has this database.
    pub async fn claim(link: &'a Link, volume: &str, epoch: u64) -> Result<(Self, Applied), WriteError> {
        let foreign = link.column(&Statement::new(FOREIGN).with("volume", volume), 1).await?;
        if let Some(theirs) = foreign.into_iter().next() {
            let theirs = theirs.as_str().unwrap_or("?").to_owned();
            return Err(WriteError::Foreign { ours: volume.to_owned(), theirs });
        }
        let mut work = link.begin().await?;
        let claim = Statement::new(CLAIM).with("volume", volume).with("epoch", epoch);
        let row = work.first(&claim).await?.unwrap_or(Value::Null);
        work.commit().await?;
        let applied = Applied::read(&row);
        if applied.epoch != epoch {
            return Err(WriteError::Fenced { ours: epoch, theirs: applied.epoch });
        }
        Ok((Self { link, volume: volume.to_owned(), epoch }, applied))
    }

    /// Begins a rebuild: the graph is at stamp 0 of `line` (the index that counts) and keeps what it has until
    /// [`super::sweep`] removes what the new states did not mark. Claim a new epoch for it.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub async fn restart(&self, line: &str) -> Result<(), WriteError> {
        let mut work = self.link.begin().await?;
        let restart = Statement::new(RESTART).with("volume", self.volume.as_str()).with("epoch", self.epoch);
        let restart = restart.with("line", line);
        let row = work.first(&restart).await?;
        work.commit().await?;
        match row {
            Some(_) => Ok(()),
            None => self.applied().await.map(drop),
        }
    }

    /// Writes one part. Only the last part moves the stamp.
    ///
    /// # Errors
    /// [`WriteError::Gap`] and [`WriteError::Fenced`]: nothing was written. After [`WriteError::Link`] a part may be
    /// written; writing the same batch again is right.
    pub async fn apply(&self, batch: &Batch) -> Result<Outcome, WriteError> {
        batch.check()?;
        if batch.epoch != self.epoch {
            return Err(WriteError::Fenced { ours: batch.epoch, theirs: self.epoch });
        }
        let mut touched = Touched::default();
        let chunks = batch.vertices.len().div_ceil(CHUNK_VERTICES).max(1);
        for at in 0..chunks {
            let mut vertices = batch.vertices.chunks(CHUNK_VERTICES).skip(at);
            let part = Part {
                vertices: vertices.next().unwrap_or_default(),
                batch,
                opens: at == 0,
                closes: at + 1 == chunks,
                epoch: self.epoch,
            };
            match self.write_part(&part).await? {
                Outcome::Written(more) => touched += more,
                Outcome::Known => return Ok(Outcome::Known),
            }
        }
        Ok(Outcome::Written(touched))
    }

    async fn write_part(&self, part: &Part<'_>) -> Result<Outcome, WriteError> {
        let mut work = self.link.begin().await?;
        if let Some(outcome) = self.pass_fence(&mut work, part).await? {
            work.rollback().await?;
            return Ok(outcome);
        }
        let mut touched = Touched::default();
        for statement in part.statements() {
            touched += work.run(&statement).await?;
        }
        work.commit().await?;
        Ok(Outcome::Written(touched))
    }

    /// None: go on.
    async fn pass_fence(&self, work: &mut Work<'_>, part: &Part<'_>) -> Result<Option<Outcome>, WriteError> {
        let batch = part.batch;
        let moves = part.closes && batch.last;
        let fence = Statement::new(FENCE)
            .with("volume", self.volume.as_str())
            .with("epoch", self.epoch)
            .with("prev", batch.prev)
            .with("stamp", if moves { batch.next } else { batch.prev })
            .with("seq", if moves { json!(batch.seq) } else { Value::Null })
            .with("pending", if moves { Value::Null } else { json!(batch.next) });
        let row = work.first(&fence).await?.unwrap_or(Value::Null);
        if row.get("open").and_then(Value::as_bool) == Some(true) {
            return Ok(None);
        }
        let (have, theirs) = (number(&row, "stamp"), number(&row, "epoch"));
        if theirs != self.epoch {
            return Err(WriteError::Fenced { ours: self.epoch, theirs });
        }
        if have >= batch.next && have > batch.prev {
            return Ok(Some(Outcome::Known));
        }
        Err(WriteError::Gap { have, prev: batch.prev })
    }

    /// What the graph says of itself; nothing is written.
    ///
    /// # Errors
    /// [`WriteError::Fenced`]: a later epoch has it.
    pub async fn applied(&self) -> Result<Applied, WriteError> {
        let applied = look(self.link, &self.volume).await?.unwrap_or_default();
        if applied.epoch == self.epoch {
            return Ok(applied);
        }
        Err(WriteError::Fenced { ours: self.epoch, theirs: applied.epoch })
    }

    /// The link that it writes over.
    #[must_use]
    pub fn link(&self) -> &'a Link {
        self.link
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its volume.
    #[must_use]
    pub fn volume(&self) -> &str {
        &self.volume
    }
}

/// What a graph says of itself; none where no writer claimed it yet.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn look(link: &Link, volume: &str) -> Result<Option<Applied>, LinkError> {
    let rows = link.column(&Statement::new(LOOK).with("volume", volume), 1).await?;
    Ok(rows.first().map(Applied::read))
}

/// A tag of the catalogue, as the graph has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTag {
    /// Its folded key.
    pub key: String,
    /// Its number; none: it is another name of a tag.
    pub id: Option<u64>,
}

/// What the graph has of the catalogue: tags with a number, and other names of tags.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn known_tags(link: &Link) -> Result<Vec<KnownTag>, LinkError> {
    let mut all: Vec<KnownTag> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |tag| tag.key.clone());
        let read = Statement::new(KNOWN_TAGS).with("after", after).with("page", TAGS_PAGE);
        let page = link.column(&read, TAGS_PAGE).await?;
        // Keys grow from page to page, so the loop ends with the tags.
        let known = |row: &Value| {
            Some(KnownTag { key: row.get(0)?.as_str()?.to_owned(), id: row.get(1).and_then(Value::as_u64) })
        };
        all.extend(page.iter().filter_map(known));
        if page.len() < TAGS_PAGE {
            return Ok(all);
        }
    }
}

/// What one transaction writes.
struct Part<'a> {
    batch: &'a Batch,
    vertices: &'a [Vertex],
    /// The first of its batch brings the tags.
    opens: bool,
    /// The last of its batch brings the deletions and, perhaps, the stamp.
    closes: bool,
    epoch: u64,
}

impl Part<'_> {
    fn statements(&self) -> Vec<Statement> {
        let mut all = Vec::new();
        if self.opens {
            self.tag_statements(&mut all);
        }
        for kind in [Kind::File, Kind::Dir, Kind::Other] {
            let (label, others) = rows::labels(kind);
            let text = format!(
                "UNWIND $rows AS r MERGE (v:Inode {{id: r.id}}) SET v = r, v:{label}, v.ep = $epoch REMOVE v:{others}"
            );
            let nodes = self.vertices.iter().filter(|vertex| vertex.kind == kind);
            self.push(&mut all, &text, nodes.map(|vertex| Value::Object(rows::properties(vertex))));
        }
        self.push(&mut all, DROP_NAMES, self.vertices.iter().map(rows::names_kept));
        self.push(&mut all, DROP_EDGES, self.vertices.iter().map(rows::edges_kept));
        self.push(&mut all, MAKE_NAMES, self.vertices.iter().flat_map(rows::names));
        self.push(&mut all, MAKE_TAGGED, self.vertices.iter().flat_map(rows::tags));
        self.push(&mut all, MAKE_RELATIONS, self.vertices.iter().flat_map(rows::relations));
        self.push(&mut all, MAKE_STARS, self.vertices.iter().filter_map(rows::star_row));
        if self.closes {
            self.push(&mut all, DROP_ALL_NAMES, self.batch.unnamed.iter().map(|ino| json!(ino)));
            self.push(&mut all, UNNAME, self.batch.unnamed.iter().map(|ino| json!(ino)));
            self.push(&mut all, GONE, self.batch.gone.iter().map(|ino| json!(ino)));
            self.push(&mut all, GONE_TAGS, self.batch.gone_tags.iter().map(|key| json!(key)));
        }
        all
    }

    fn tag_statements(&self, all: &mut Vec<Statement>) {
        self.push(all, STRIP_TAGS, self.batch.gone_tags.iter().map(|key| json!(key)));
        let tags = &self.batch.tags;
        let node = |tag: &Tag| json!({ "key": tag.key, "id": tag.id, "name": tag.name, "ns": tag.parents.first() });
        self.push(all, MAKE_TAG_NODES, tags.iter().map(node));
        let keep = |tag: &Tag| json!({ "key": tag.key, "keep": rows::tag_links(tag) });
        self.push(all, DROP_TAG_LINKS, tags.iter().map(keep));
        let link = |(tag, kind, to): (&Tag, &str, &str)| json!({ "key": tag.key, "type": kind, "to": to });
        let links = tags.iter().flat_map(|tag| rows::tag_links(tag).into_iter().map(move |(kind, to)| (tag, kind, to)));
        self.push(all, MAKE_TAG_LINKS, links.map(link));
    }

    fn push(&self, all: &mut Vec<Statement>, text: &str, rows: impl Iterator<Item = Value>) {
        let rows: Vec<Value> = rows.collect();
        for chunk in rows.chunks(STATEMENT_ROWS) {
            let anew = self.batch.prev == 0;
            all.push(Statement::new(text).with("rows", chunk).with("epoch", self.epoch).with("anew", anew));
        }
    }
}

fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}
