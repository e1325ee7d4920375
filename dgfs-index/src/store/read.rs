//! What is asked of the tables: text, relations, what taggers found, and what changed since.
//!
//! Never changes them. A reader sees the last commit; whoever holds the graph's read lock sees both at the same seq.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::{GraphNode, HandRelation, NodeFacts, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::name::Name;
use dgfs_proto::tag::{Tag, fold};

use crate::step::{ContentHash, Derived};
use crate::store::derive::{derived, vetoes};
use crate::store::load::{NODE_COLUMNS, ino, name, node, tag};
use crate::store::write::{GONE_MAX, id, relation_word};
use crate::store::{Finding, Hints, Readers, StoreError};

/// Files longer than this are in the index `node_large`, and taggers do not read them to their end.
pub(crate) const LARGE_BYTES: u64 = 64 << 20;
/// Files of one size that are looked at: each of more asks for itself.
const ALIKE_MAX: usize = 1024;
/// Relations of one inode that are looked at.
const EDGES_MAX: usize = 100_000;

/// A relation between two inodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRow {
    /// From this one.
    pub from: Ino,
    /// `links-to`, `derived-from`, `version-of`, `related-to` (people and taggers), `similar` (taggers).
    pub kind: String,
    /// To that one.
    pub to: Ino,
    /// `user`, or the tagger.
    pub source: String,
    /// 0 to 1,000.
    pub permille: u16,
}

/// A vertex with all that is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Vertex {
    /// Attributes, names, attributes by name, people's tags, vetoes and relations.
    pub node: GraphNode,
    /// What attributes and taggers say.
    pub derived: Derived,
    /// All relations from it, those made by people included.
    pub edges: Vec<EdgeRow>,
}

/// A vertex that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// When, as [`crate::graph::Applied::stamp`] counts.
    pub stamp: u64,
    /// Which.
    pub ino: Ino,
    /// It is no more (or has no name any more).
    pub gone: bool,
}

/// What was read of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The version of its data.
    pub data_version: u64,
    /// Their hash.
    pub content: ContentHash,
    /// [`crate::store::Hints::digest`] then.
    pub hints_seen: [u8; 8],
}

/// A file of a size that others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alike {
    pub(crate) ino: Ino,
    pub(crate) data_version: u64,
    /// The hash that it is known by.
    pub(crate) content: ContentHash,
}

/// What the taggers said of one inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// What was read; none: it was not read yet.
    pub read: Option<Read>,
    /// By tagger, its text left out.
    pub findings: Vec<Finding>,
    /// What they are not to say, folded.
    pub vetoes: Vec<String>,
}

fn edge_rows(connection: &Connection, sql: &str, of: Ino) -> Result<Vec<EdgeRow>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id(of)])?;
    let mut edges = Vec::new();
    while let Some(row) = rows.next()? {
        edges.push(EdgeRow {
            from: ino(row.get(0)?)?,
            kind: row.get(1)?,
            to: ino(row.get(2)?)?,
            source: row.get(3)?,
            permille: row.get(4)?,
        });
        if edges.len() >= EDGES_MAX {
            break;
        }
    }
    Ok(edges)
}

/// The metadata keep a relation when the inode that it leads to is freed, and so does a graph that was built from them: such a
/// one is no edge.
fn edges_from(connection: &Connection, of: Ino) -> Result<Vec<EdgeRow>, StoreError> {
    const SQL: &str =
        "SELECT src, kind, dst, source, permille FROM edge WHERE src = ?1 AND dst IN (SELECT ino FROM node)";
    edge_rows(connection, SQL, of)
}

fn facts(connection: &Connection, of: Ino) -> Result<Option<NodeFacts>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {NODE_COLUMNS} FROM node WHERE ino = ?1"))?;
    let mut rows = statement.query([id(of)])?;
    rows.next()?.map(node).transpose()
}

/// Of several changes of one inode the last.
fn each_once(mut page: Vec<Changed>) -> Vec<Changed> {
    let mut seen = HashSet::with_capacity(page.len());
    page.reverse();
    page.retain(|changed| seen.insert(changed.ino));
    page.reverse();
    page
}

impl Readers {
    /// Hands inodes whose text fits an expression of [`crate::graph::text`] to `found`, until it answers false.
    ///
    /// # Errors
    /// Those of the engine, as in all functions here.
    pub(crate) fn text(&self, expression: &str, mut found: impl FnMut(Ino) -> bool) -> Result<(), StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT rowid FROM fts WHERE fts MATCH ?1")?;
            let mut rows = statement.query([expression])?;
            while let Some(row) = rows.next()? {
                if !found(ino(row.get(0)?)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Where a name leads.
    pub(crate) fn child(&self, parent: Ino, name: &Name) -> Result<Option<Ino>, StoreError> {
        self.with(|connection| {
            let found: Option<i64> = connection
                .prepare_cached("SELECT ino FROM name WHERE parent = ?1 AND name = ?2")?
                .query_row((id(parent), name.as_bytes()), |row| row.get(0))
                .optional()?;
            found.map(ino).transpose()
        })
    }

    /// Relations from and to an inode.
    pub(crate) fn edges(&self, of: Ino) -> Result<(Vec<EdgeRow>, Vec<EdgeRow>), StoreError> {
        self.with(|connection| {
            let to = edge_rows(connection, "SELECT src, kind, dst, source, permille FROM edge WHERE dst = ?1", of)?;
            Ok((edges_from(connection, of)?, to))
        })
    }

    /// Is there such an inode?
    pub(crate) fn knows(&self, of: Ino) -> Result<bool, StoreError> {
        self.with(|connection| Ok(facts(connection, of)?.is_some()))
    }

    /// What taggers said of an inode.
    pub(crate) fn examination(&self, of: Ino) -> Result<Examination, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT data_version, hash, hints_seen FROM content WHERE ino = ?1")?;
            let read = statement
                .query_row([id(of)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?)))
                .optional()?
                .and_then(|(version, hash, hints)| {
                    let (content, hints_seen) = (hash.try_into().ok()?, hints.try_into().ok()?);
                    Some(Read { data_version: version.cast_unsigned(), content, hints_seen })
                });
            let mut examination = Examination { read, findings: Vec::new(), vetoes: vetoes(connection, of)? };
            let mut statement = connection.prepare_cached(
                "SELECT tagger, version, marks, failed FROM finding JOIN content
                 ON content.hash = finding.hash AND content.hints = finding.hints WHERE content.ino = ?1 ORDER BY tagger",
            )?;
            let mut rows = statement.query([id(of)])?;
            while let Some(row) = rows.next()? {
                let marks = row.get_ref(2)?.as_bytes().ok().and_then(|bytes| postcard::from_bytes(bytes).ok());
                examination.findings.push(Finding {
                    tagger: row.get(0)?,
                    version: row.get(1)?,
                    marks: marks.unwrap_or_default(),
                    failed: row.get(3)?,
                    ..Finding::default()
                });
            }
            Ok(examination)
        })
    }

    /// Inodes behind `after`, up to `last` (none: all behind), in order.
    pub(crate) fn inos_between(&self, after: Option<Ino>, last: Option<Ino>) -> Result<Vec<Ino>, StoreError> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT ino FROM node WHERE ino > ?1 AND ino <= ?2 ORDER BY ino")?;
            let mut rows = statement.query((after.map_or(0, id), last.map_or(i64::MAX, id)))?;
            let mut inos = Vec::new();
            while let Some(row) = rows.next()? {
                inos.push(ino(row.get(0)?)?);
            }
            Ok(inos)
        })
    }

    /// The version of a file's data now.
    pub(crate) fn data_version(&self, of: Ino) -> Result<Option<u64>, StoreError> {
        self.with(|connection| Ok(facts(connection, of)?.map(|facts| facts.data_version)))
    }

    /// Of a file longer than [`LARGE_BYTES`] whose size others have: it and those others, as far as their data as they are now were
    /// looked at; at most [`ALIKE_MAX`] of them, itself among them.
    pub(crate) fn large_alike(&self, of: Ino) -> Result<Vec<Alike>, StoreError> {
        self.with(|connection| {
            let large = facts(connection, of)?.filter(|facts| facts.kind == FileKind::File && facts.size > LARGE_BYTES);
            let Some(size) = large.map(|facts| facts.size.cast_signed()) else { return Ok(Vec::new()) };
            let mut statement = connection.prepare_cached(
                "SELECT node.ino, node.data_version, content.hash FROM node LEFT JOIN content
                 ON content.ino = node.ino AND content.data_version = node.data_version
                 WHERE node.size = ?1 AND node.size > 67108864 AND node.kind = 0
                 ORDER BY node.ino = ?2 DESC, node.ino LIMIT ?3",
            )?;
            let mut rows = statement.query((size, id(of), ALIKE_MAX as i64))?;
            let (mut alike, mut files) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                files += 1;
                let hash: Option<ContentHash> = row.get::<_, Option<Vec<u8>>>(2)?.and_then(|hash| hash.try_into().ok());
                let (ino, data_version) = (ino(row.get(0)?)?, row.get::<_, i64>(1)?.cast_unsigned());
                alike.extend(hash.map(|content| Alike { ino, data_version, content }));
            }
            Ok(if files > 1 { alike } else { Vec::new() })
        })
    }

    /// Has this tagger, in this very version, looked at this content with these hints (with or without success)?
    pub fn is_examined(
        &self,
        (content, hints): (&ContentHash, &Hints),
        tagger: &str,
        version: u32,
    ) -> Result<bool, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM finding WHERE hash = ?1 AND hints = ?2 AND tagger = ?3 AND version = ?4",
            )?;
            Ok(statement.exists((content.as_slice(), hints.key(), tagger, version))?)
        })
    }

    /// Files on which a tagger failed.
    pub(crate) fn failed(&self) -> Result<u64, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT count(DISTINCT content.ino) FROM finding JOIN content
                 ON content.hash = finding.hash AND content.hints = finding.hints WHERE finding.failed IS NOT NULL",
            )?;
            let count: i64 = statement.query_row([], |row| row.get(0))?;
            Ok(count.cast_unsigned())
        })
    }

    /// Vertices whose state changed behind `stamp`, by stamp: about `limit` of them, always whole stamps (one transaction has
    /// one), so that the next page goes on from the last stamp answered. Empty: there are no more. One that changed several
    /// times is told once in a page, with its last stamp there; who is further behind than changes are remembered is told every
    /// vertex.
    pub fn changes_after(&self, stamp: u64, limit: usize) -> Result<Vec<Changed>, StoreError> {
        let mut limit = limit.max(1);
        loop {
            let mut page = self.changes_page(stamp, limit)?;
            let Some(last) = page.last().map(|changed| changed.stamp).filter(|_| page.len() >= limit) else {
                return Ok(each_once(page));
            };
            // The last stamp may go on behind the page.
            page.retain(|changed| changed.stamp < last);
            if !page.is_empty() {
                return Ok(each_once(page));
            }
            limit = limit.saturating_mul(2);
        }
    }

    fn changes_page(&self, stamp: u64, limit: usize) -> Result<Vec<Changed>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT stamp, ino, gone FROM (
                   SELECT stamp, ino, NOT EXISTS (SELECT 1 FROM name WHERE name.ino = node.ino) AND ino <> 1 AS gone
                     FROM changed JOIN node USING (ino) WHERE stamp > ?1
                   UNION ALL
                   SELECT stamp, ino, NOT EXISTS (SELECT 1 FROM name WHERE name.ino = node.ino) AND ino <> 1
                     FROM all_changed CROSS JOIN node WHERE stamp > ?1
                   UNION ALL SELECT stamp, ino, 1 FROM gone WHERE stamp > ?1)
                 ORDER BY stamp, ino LIMIT ?2",
            )?;
            let mut rows = statement.query((stamp.cast_signed(), i64::try_from(limit).unwrap_or(i64::MAX)))?;
            let mut changes = Vec::new();
            while let Some(row) = rows.next()? {
                changes.push(Changed {
                    stamp: row.get::<_, i64>(0)?.cast_unsigned(),
                    ino: ino(row.get(1)?)?,
                    gone: row.get(2)?,
                });
            }
            Ok(changes)
        })
    }

    /// Tags changed behind `stamp`. A deleted tag is not among them: [`Self::tags_now`] shows that it is missing.
    pub fn tags_after(&self, stamp: u64) -> Result<Vec<(TagId, TagFacts)>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, facts FROM tag WHERE stamp > ?1 ORDER BY id")?;
            let mut rows = statement.query([stamp.cast_signed()])?;
            let mut tags = Vec::new();
            while let Some(row) = rows.next()? {
                tags.push(tag(row)?);
            }
            Ok(tags)
        })
    }

    /// Numbers of all tags.
    pub fn tags_now(&self) -> Result<Vec<TagId>, StoreError> {
        Ok(self.tags_after(0)?.into_iter().map(|(id, _)| id).collect())
    }

    /// How many tags there are.
    pub fn tag_count(&self) -> Result<u64, StoreError> {
        self.with(|connection| {
            let count: i64 = connection.prepare_cached("SELECT count(*) FROM tag")?.query_row([], |row| row.get(0))?;
            Ok(count.cast_unsigned())
        })
    }

    /// Inodes that were given a tag, those from before its end included when it was deleted.
    pub fn carriers(&self, tag: TagId) -> Result<Vec<Ino>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT ino FROM file_tag WHERE tag = ?1 ORDER BY ino")?;
            let mut rows = statement.query([tag.get().cast_signed()])?;
            let mut inos = Vec::new();
            while let Some(row) = rows.next()? {
                inos.push(ino(row.get(0)?)?);
            }
            Ok(inos)
        })
    }

    /// The first `limit` inodes behind `after`, ascending; those without a name are among them.
    pub fn inos_after(&self, after: Option<Ino>, limit: usize) -> Result<Vec<Ino>, StoreError> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT ino FROM node WHERE ino > ?1 ORDER BY ino LIMIT ?2")?;
            let mut rows = statement.query((after.map_or(0, id), i64::try_from(limit).unwrap_or(i64::MAX)))?;
            let mut inos = Vec::new();
            while let Some(row) = rows.next()? {
                inos.push(ino(row.get(0)?)?);
            }
            Ok(inos)
        })
    }

    /// Is every inode that was freed behind `stamp` still told by [`Self::changes_after`]? The oldest are forgotten once there
    /// are more than a million.
    pub fn remembers_gone_after(&self, stamp: u64) -> Result<bool, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT count(*), coalesce(min(stamp), 0) FROM gone")?;
            let (count, first): (i64, i64) = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // Nothing is forgotten below half of the bound: forgetting leaves so many.
            Ok(count < GONE_MAX / 2 || first.cast_unsigned() <= stamp)
        })
    }

    /// A vertex with all that is kept of it; none when it is no more.
    pub fn vertex(&self, of: Ino) -> Result<Option<Vertex>, StoreError> {
        self.with(|connection| {
            let Some(facts) = facts(connection, of)? else { return Ok(None) };
            let mut node = GraphNode {
                facts,
                names: Vec::new(),
                xattrs: Vec::new(),
                tags: Vec::new(),
                vetoes: Vec::new(),
                related: Vec::new(),
            };
            let mut statement = connection.prepare_cached("SELECT parent, name FROM name WHERE ino = ?1")?;
            let mut rows = statement.query([id(of)])?;
            while let Some(row) = rows.next()? {
                node.names.push((ino(row.get(0)?)?, name(row, 1)?));
            }
            let mut statement = connection.prepare_cached("SELECT name, value FROM xattr WHERE ino = ?1")?;
            let mut rows = statement.query([id(of)])?;
            while let Some(row) = rows.next()? {
                node.xattrs.push((row.get(0)?, row.get(1)?));
            }
            let mut statement = connection.prepare_cached(
                "SELECT tag FROM file_tag WHERE ino = ?1 AND tag IN (SELECT id FROM tag) ORDER BY tag",
            )?;
            let mut rows = statement.query([id(of)])?;
            while let Some(row) = rows.next()? {
                node.tags.extend(TagId::new(row.get::<_, i64>(0)?.cast_unsigned()));
            }
            let mut statement = connection.prepare_cached("SELECT tag FROM veto WHERE ino = ?1")?;
            let mut rows = statement.query([id(of)])?;
            while let Some(row) = rows.next()? {
                node.vetoes.extend(Tag::parse(&row.get::<_, String>(0)?).ok());
            }
            node.vetoes.sort_by_key(|veto| fold(veto.as_str()));
            let edges = edges_from(connection, of)?;
            node.related = by_hand(&edges);
            node.names.sort();
            Ok(Some(Vertex { node, derived: derived(connection, of)?, edges }))
        })
    }
}

/// Those that people made.
pub(crate) fn by_hand(edges: &[EdgeRow]) -> Vec<(HandRelation, Ino)> {
    const ALL: [HandRelation; 4] =
        [HandRelation::LinksTo, HandRelation::DerivedFrom, HandRelation::VersionOf, HandRelation::RelatedTo];
    let relation = |kind: &str| ALL.into_iter().find(|relation| relation_word(*relation) == kind);
    let made = edges.iter().filter(|edge| edge.source == "user");
    let mut related: Vec<_> = made.filter_map(|edge| Some((relation(&edge.kind)?, edge.to))).collect();
    related.sort_unstable();
    related
}
