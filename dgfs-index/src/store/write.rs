//! A batch of steps inside a transaction.
//!
//! Never commits. Always: the steps it answers, taken in order, bring memory to what the tables say.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params};

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::{HandRelation, NodeFacts, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::name::Name;
use dgfs_proto::tag::Tag;

use crate::graph::ACL_XATTR;
use crate::step::Step;
use crate::store::derive::{derived, full_text};
use crate::store::{Finding, Findings, FoundEdges, StoreError};

/// Inodes that were freed are remembered for those who follow the graph, so many at most; older ones are forgotten by halves.
pub(super) const GONE_MAX: i64 = 1_000_000;

pub(super) struct Batch<'a> {
    connection: &'a Connection,
    stamp: i64,
    steps: Vec<Step>,
    /// Something of the vertex changed.
    touched: BTreeSet<Ino>,
    /// What is said of it may have changed.
    said: BTreeSet<Ino>,
    /// Its text may have changed.
    reworded: BTreeSet<Ino>,
    gone: bool,
}

/// As tables have it.
pub(super) const fn id(ino: Ino) -> i64 {
    ino.get().cast_signed()
}

pub(super) const fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Fifo => 3,
        FileKind::Socket => 4,
        FileKind::CharDevice => 5,
        FileKind::BlockDevice => 6,
    }
}

/// As [`crate::store::EdgeRow::kind`] spells it.
pub(super) const fn relation_word(relation: HandRelation) -> &'static str {
    match relation {
        HandRelation::LinksTo => "links-to",
        HandRelation::DerivedFrom => "derived-from",
        HandRelation::VersionOf => "version-of",
        HandRelation::RelatedTo => "related-to",
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection, stamp: u64) -> Self {
        Self {
            connection,
            stamp: stamp.cast_signed(),
            steps: Vec::new(),
            touched: BTreeSet::new(),
            said: BTreeSet::new(),
            reworded: BTreeSet::new(),
            gone: false,
        }
    }

    fn sql(&self, text: &str) -> Result<CachedStatement<'a>, StoreError> {
        Ok(self.connection.prepare_cached(text)?)
    }

    fn run_sql<P: Params>(&self, text: &str, params: P) -> Result<usize, StoreError> {
        Ok(self.sql(text)?.execute(params)?)
    }

    pub(super) fn run(mut self, steps: Vec<Step>) -> Result<Vec<Step>, StoreError> {
        for step in steps {
            self.step(step)?;
        }
        self.finish()
    }

    fn step(&mut self, step: Step) -> Result<(), StoreError> {
        match &step {
            Step::Node(facts) => self.node(facts)?,
            Step::Gone(ino) => self.remove(*ino)?,
            Step::Name { parent, name, ino } => return self.name(*parent, name, *ino),
            Step::NoName { parent, name, ino } => {
                let params = (id(*parent), name.as_bytes(), id(*ino));
                if self.run_sql("DELETE FROM name WHERE parent = ?1 AND name = ?2 AND ino = ?3", params)? == 0 {
                    return Ok(());
                }
                self.touched.insert(*ino);
            }
            Step::Xattr { ino, name, value } => self.xattr(*ino, name, value.as_deref())?,
            Step::Tag(id, facts) => self.tag(*id, facts.as_ref())?,
            Step::Tagged(ino, tags) => self.tagged(*ino, tags)?,
            Step::Vetoes(ino, vetoes) => self.vetoes(*ino, vetoes)?,
            Step::Related(ino, to) => self.related(*ino, to)?,
            Step::Saved(name, Some(expression)) => {
                self.run_sql("INSERT OR REPLACE INTO saved(name, expression) VALUES(?1, ?2)", (name, expression))?;
            }
            Step::Saved(name, None) => {
                self.run_sql("DELETE FROM saved WHERE name = ?1", [name])?;
            }
            // Made at the end of a batch only.
            Step::Derived(..) => return Ok(()),
        }
        self.steps.push(step);
        Ok(())
    }

    fn node(&mut self, facts: &NodeFacts) -> Result<(), StoreError> {
        self.run_sql(
            "INSERT OR REPLACE INTO node(ino, kind, mode, uid, gid, nlink, size, mtime_secs, mtime_nanos, ctime_secs,
             ctime_nanos, btime_secs, btime_nanos, data_version, stamp)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            (
                id(facts.ino),
                kind_code(facts.kind),
                facts.mode,
                facts.uid,
                facts.gid,
                facts.nlink,
                facts.size.cast_signed(),
                facts.mtime.secs,
                facts.mtime.nanos,
                facts.ctime.secs,
                facts.ctime.nanos,
                facts.btime.secs,
                facts.btime.nanos,
                facts.data_version.cast_signed(),
                self.stamp,
            ),
        )?;
        Ok(())
    }

    fn name(&mut self, parent: Ino, name: &Name, ino: Ino) -> Result<(), StoreError> {
        let holder: Option<i64> = self
            .sql("SELECT ino FROM name WHERE parent = ?1 AND name = ?2")?
            .query_row((id(parent), name.as_bytes()), |row| row.get(0))
            .optional()?;
        match holder.map(i64::cast_unsigned).and_then(Ino::new) {
            Some(holder) if holder == ino => return Ok(()),
            Some(holder) => {
                self.steps.push(Step::NoName { parent, name: name.clone(), ino: holder });
                self.touched.insert(holder);
            }
            None => {}
        }
        self.run_sql(
            "INSERT OR REPLACE INTO name(parent, name, ino) VALUES(?1, ?2, ?3)",
            (id(parent), name.as_bytes(), id(ino)),
        )?;
        self.touched.insert(ino);
        self.steps.push(Step::Name { parent, name: name.clone(), ino });
        Ok(())
    }

    fn xattr(&mut self, ino: Ino, name: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        match value {
            Some(value) => self
                .run_sql("INSERT OR REPLACE INTO xattr(ino, name, value) VALUES(?1, ?2, ?3)", (id(ino), name, value))?,
            None => self.run_sql("DELETE FROM xattr WHERE ino = ?1 AND name = ?2", (id(ino), name))?,
        };
        self.touched.insert(ino);
        if name != ACL_XATTR {
            self.said.insert(ino);
            self.reworded.insert(ino);
        }
        Ok(())
    }

    /// Rows of a deleted tag stay with the inodes: numbers of tags are never reused, and whoever reads them looks the tag up.
    fn tag(&mut self, tag: TagId, facts: Option<&TagFacts>) -> Result<(), StoreError> {
        let number = tag.get().cast_signed();
        let Some(facts) = facts else {
            self.run_sql("DELETE FROM tag WHERE id = ?1", [number])?;
            return Ok(());
        };
        let bytes = postcard::to_allocvec(facts).map_err(|_| StoreError::Damaged("a tag cannot be encoded"))?;
        self.run_sql(
            "INSERT OR REPLACE INTO tag(id, name, facts, stamp) VALUES(?1, ?2, ?3, ?4)",
            (number, facts.name.as_str(), bytes, self.stamp),
        )?;
        Ok(())
    }

    fn tagged(&mut self, ino: Ino, tags: &[TagId]) -> Result<(), StoreError> {
        self.run_sql("DELETE FROM file_tag WHERE ino = ?1", [id(ino)])?;
        for tag in tags {
            let row = (id(ino), tag.get().cast_signed());
            self.run_sql("INSERT OR IGNORE INTO file_tag(ino, tag) VALUES(?1, ?2)", row)?;
        }
        self.touched.insert(ino);
        Ok(())
    }

    fn vetoes(&mut self, ino: Ino, vetoes: &[Tag]) -> Result<(), StoreError> {
        self.run_sql("DELETE FROM veto WHERE ino = ?1", [id(ino)])?;
        for tag in vetoes {
            self.run_sql("INSERT OR IGNORE INTO veto(ino, tag) VALUES(?1, ?2)", (id(ino), tag.as_str()))?;
        }
        self.touched.insert(ino);
        self.said.insert(ino);
        Ok(())
    }

    fn related(&mut self, ino: Ino, to: &[(HandRelation, Ino)]) -> Result<(), StoreError> {
        let edges = to.iter().map(|(relation, to)| (relation_word(*relation).to_owned(), *to, 1000)).collect();
        self.edges(ino, &FoundEdges { tagger: "user".to_owned(), edges })
    }

    fn edges(&mut self, ino: Ino, found: &FoundEdges) -> Result<(), StoreError> {
        self.run_sql("DELETE FROM edge WHERE src = ?1 AND source = ?2", (id(ino), &found.tagger))?;
        for (kind, to, permille) in &found.edges {
            self.run_sql(
                "INSERT OR REPLACE INTO edge(src, kind, dst, source, permille) VALUES(?1, ?2, ?3, ?4, ?5)",
                (id(ino), kind, id(*to), &found.tagger, (*permille).min(1000)),
            )?;
        }
        self.touched.insert(ino);
        Ok(())
    }

    fn remove(&mut self, ino: Ino) -> Result<(), StoreError> {
        for table in ["node", "name", "xattr", "file_tag", "veto", "content"] {
            self.run_sql(&format!("DELETE FROM {table} WHERE ino = ?1"), [id(ino)])?;
        }
        self.run_sql("DELETE FROM edge WHERE src = ?1", [id(ino)])?;
        self.run_sql("DELETE FROM edge WHERE dst = ?1", [id(ino)])?;
        self.run_sql("DELETE FROM fts WHERE rowid = ?1", [id(ino)])?;
        self.run_sql("INSERT OR REPLACE INTO gone(ino, stamp) VALUES(?1, ?2)", (id(ino), self.stamp))?;
        for set in [&mut self.touched, &mut self.said, &mut self.reworded] {
            set.remove(&ino);
        }
        self.gone = true;
        Ok(())
    }

    pub(super) fn run_findings(mut self, findings: &[Findings]) -> Result<Vec<Step>, StoreError> {
        for finding in findings {
            self.findings(finding)?;
        }
        self.finish()
    }

    fn findings(&mut self, findings: &Findings) -> Result<(), StoreError> {
        let ino = findings.ino;
        if !self.sql("SELECT 1 FROM node WHERE ino = ?1")?.exists([id(ino)])? {
            return Ok(());
        }
        self.run_sql(
            "INSERT OR REPLACE INTO content(ino, data_version, hash) VALUES(?1, ?2, ?3)",
            (id(ino), findings.data_version.cast_signed(), findings.content.as_slice()),
        )?;
        for found in &findings.found {
            self.finding(findings.content.as_slice(), found)?;
        }
        for edges in &findings.edges {
            self.edges(ino, edges)?;
        }
        let mut same = self.sql("SELECT ino FROM content WHERE hash = ?1")?;
        let inos = same.query_map([findings.content.as_slice()], |row| row.get::<_, i64>(0))?;
        for found in inos {
            if let Some(ino) = Ino::new(found?.cast_unsigned()) {
                self.said.insert(ino);
                self.reworded.insert(ino);
                self.touched.insert(ino);
            }
        }
        Ok(())
    }

    fn finding(&self, hash: &[u8], found: &Finding) -> Result<(), StoreError> {
        let marks = postcard::to_allocvec(&found.marks).map_err(|_| StoreError::Damaged("marks cannot be encoded"))?;
        self.run_sql(
            "INSERT INTO finding(hash, tagger, version, marks, text, failed) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT(hash, tagger) DO UPDATE SET version = excluded.version, marks = excluded.marks,
             text = excluded.text, failed = excluded.failed WHERE excluded.version >= finding.version",
            (hash, &found.tagger, found.version, marks, &found.text, &found.failed),
        )?;
        Ok(())
    }

    /// From the database attached as `other`.
    pub(super) fn copy_findings(mut self) -> Result<Vec<Step>, StoreError> {
        self.connection.execute_batch(
            "INSERT OR IGNORE INTO main.finding(hash, tagger, version, marks, text, failed)
               SELECT hash, tagger, version, marks, text, failed FROM other.finding;
             INSERT OR IGNORE INTO main.content(ino, data_version, hash)
               SELECT ino, data_version, hash FROM other.content WHERE ino IN (SELECT ino FROM main.node);
             INSERT OR IGNORE INTO main.edge(src, kind, dst, source, permille)
               SELECT src, kind, dst, source, permille FROM other.edge WHERE source <> 'user'
               AND src IN (SELECT ino FROM main.node) AND dst IN (SELECT ino FROM main.node);",
        )?;
        let mut examined = self.sql("SELECT ino FROM content")?;
        let inos = examined.query_map([], |row| row.get::<_, i64>(0))?;
        for found in inos {
            if let Some(ino) = Ino::new(found?.cast_unsigned()) {
                self.said.insert(ino);
                self.reworded.insert(ino);
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Vec<Step>, StoreError> {
        for ino in std::mem::take(&mut self.said) {
            self.steps.push(Step::Derived(ino, derived(self.connection, ino)?));
        }
        for ino in std::mem::take(&mut self.reworded) {
            self.run_sql("DELETE FROM fts WHERE rowid = ?1", [id(ino)])?;
            let text = full_text(self.connection, ino)?;
            if !text.is_empty() {
                self.run_sql("INSERT INTO fts(rowid, text) VALUES(?1, ?2)", (id(ino), text))?;
            }
        }
        for ino in std::mem::take(&mut self.touched) {
            self.run_sql("UPDATE node SET stamp = ?2 WHERE ino = ?1 AND stamp <> ?2", (id(ino), self.stamp))?;
        }
        if self.gone && self.stamp % 1024 == 0 {
            self.forget_gone()?;
        }
        Ok(self.steps)
    }

    fn forget_gone(&self) -> Result<(), StoreError> {
        let count: i64 = self.sql("SELECT count(*) FROM gone")?.query_row([], |row| row.get(0))?;
        if count > GONE_MAX {
            self.run_sql(
                "DELETE FROM gone WHERE stamp <= (SELECT stamp FROM gone ORDER BY stamp LIMIT 1 OFFSET ?1)",
                [GONE_MAX / 2],
            )?;
        }
        Ok(())
    }
}
