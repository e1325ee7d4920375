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
use crate::store::{Finding, Findings, FoundEdges, StoreError, forsaken, likeness};

/// Inodes that were freed are remembered for those who follow the graph, so many at most; older ones are forgotten by halves.
pub(super) const GONE_MAX: i64 = 1_000_000;
/// Likewise changes of vertices: whoever is further behind is told that all vertices changed.
const CHANGED_MAX: i64 = 1_000_000;
/// How many transactions pass between two looks at how much is remembered.
const STAMPS_PER_LOOK: i64 = 1024;

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

/// Every vertex counts as changed at `stamp`; what changed before is not told apart any more.
pub(super) fn all_changed(connection: &Connection, stamp: i64) -> Result<(), StoreError> {
    connection.execute("DELETE FROM changed WHERE stamp <= ?1", [stamp])?;
    connection.execute("INSERT OR REPLACE INTO all_changed(id, stamp) VALUES(0, ?1)", [stamp])?;
    Ok(())
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
        forsaken::remove_oldest(self.connection)?;
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
             ctime_nanos, btime_secs, btime_nanos, data_version)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
            ),
        )?;
        self.touched.insert(facts.ino);
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
        let new: BTreeSet<i64> = tags.iter().map(|tag| tag.get().cast_signed()).collect();
        let mut old = BTreeSet::new();
        let mut known = self.sql("SELECT tag FROM file_tag WHERE ino = ?1")?;
        let mut rows = known.query([id(ino)])?;
        while let Some(row) = rows.next()? {
            old.insert(row.get::<_, i64>(0)?);
        }
        for tag in old.difference(&new) {
            self.run_sql("DELETE FROM file_tag WHERE ino = ?1 AND tag = ?2", (id(ino), tag))?;
        }
        for tag in new.difference(&old) {
            self.run_sql("INSERT OR IGNORE INTO file_tag(ino, tag) VALUES(?1, ?2)", (id(ino), tag))?;
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
        let had = forsaken::key_of(self.connection, id(ino))?;
        for table in ["node", "name", "xattr", "file_tag", "veto", "content"] {
            self.run_sql(&format!("DELETE FROM {table} WHERE ino = ?1"), [id(ino)])?;
        }
        self.lost(had)?;
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
        forsaken::remove_oldest(self.connection)?;
        self.finish()
    }

    fn findings(&mut self, findings: &Findings) -> Result<(), StoreError> {
        let ino = findings.ino;
        if !self.sql("SELECT 1 FROM node WHERE ino = ?1")?.exists([id(ino)])? {
            return Ok(());
        }
        let content = (findings.content.as_slice(), findings.hints.key());
        let had = forsaken::key_of(self.connection, id(ino))?;
        self.run_sql(
            "INSERT OR REPLACE INTO content(ino, data_version, hash, hints, hints_seen) VALUES(?1, ?2, ?3, ?4, ?5)",
            (id(ino), findings.data_version.cast_signed(), content.0, content.1, findings.hints.digest.as_slice()),
        )?;
        self.lost(had)?;
        let mut is_new = false;
        for found in &findings.found {
            is_new |= self.finding(content, found)?;
        }
        for edges in &findings.edges {
            self.edges(ino, edges)?;
        }
        self.found_in(ino);
        if is_new {
            // Of what was known before, only this file's share is new: of a million empty files, each is put together once.
            let mut same = self.sql("SELECT ino FROM content WHERE hash = ?1 AND hints = ?2")?;
            let inos = same.query_map(content, |row| row.get::<_, i64>(0))?;
            for found in inos {
                Ino::new(found?.cast_unsigned()).into_iter().for_each(|ino| self.found_in(ino));
            }
        }
        Ok(())
    }

    /// What was found by the hash that stood for the content is found by its own from now on.
    pub(super) fn run_whole_hash(mut self, ino: Ino, data_version: u64, hash: &[u8]) -> Result<Vec<Step>, StoreError> {
        let is_current = self
            .sql("SELECT 1 FROM content WHERE ino = ?1 AND data_version = ?2")?
            .exists((id(ino), data_version.cast_signed()))?;
        if let Some(had) = forsaken::key_of(self.connection, id(ino))?.filter(|_| is_current) {
            self.run_sql(
                "INSERT OR IGNORE INTO finding(hash, hints, tagger, version, marks, text, failed)
                   SELECT ?3, hints, tagger, version, marks, text, failed FROM finding WHERE hash = ?1 AND hints = ?2",
                (&had.0, &had.1, hash),
            )?;
            self.run_sql("UPDATE content SET hash = ?2 WHERE ino = ?1", (id(ino), hash))?;
            self.lost(Some(had))?;
            self.found_in(ino);
        }
        self.finish()
    }

    /// A file does not have this content any more, or still has it.
    fn lost(&self, had: Option<forsaken::Key>) -> Result<(), StoreError> {
        had.map_or(Ok(()), |had| forsaken::forsake(self.connection, &had))
    }

    fn found_in(&mut self, ino: Ino) {
        self.said.insert(ino);
        self.reworded.insert(ino);
        self.touched.insert(ino);
    }

    /// Keeps a finding; false where that changes nothing.
    fn finding(&self, (hash, hints): (&[u8], &[u8]), found: &Finding) -> Result<bool, StoreError> {
        let marks = postcard::to_allocvec(&found.marks).map_err(|_| StoreError::Damaged("marks cannot be encoded"))?;
        let changed = self.run_sql(
            "INSERT INTO finding(hash, hints, tagger, version, marks, text, failed) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT(hash, hints, tagger) DO UPDATE SET version = excluded.version, marks = excluded.marks,
             text = excluded.text, failed = excluded.failed WHERE excluded.version <> finding.version
             OR excluded.marks <> finding.marks OR excluded.text IS NOT finding.text OR excluded.failed IS NOT finding.failed",
            (hash, hints, &found.tagger, found.version, marks, &found.text, &found.failed),
        )?;
        likeness::put(self.connection, hash, found)?;
        Ok(changed > 0)
    }

    /// From the database attached as `other`.
    pub(super) fn copy_findings(mut self) -> Result<Vec<Step>, StoreError> {
        self.connection.execute_batch(
            "INSERT OR IGNORE INTO main.finding(hash, hints, tagger, version, marks, text, failed)
               SELECT hash, hints, tagger, version, marks, text, failed FROM other.finding;
             INSERT OR IGNORE INTO main.content(ino, data_version, hash, hints, hints_seen)
               SELECT ino, data_version, hash, hints, hints_seen FROM other.content
               WHERE ino IN (SELECT ino FROM main.node);
             INSERT OR IGNORE INTO main.edge(src, kind, dst, source, permille)
               SELECT src, kind, dst, source, permille FROM other.edge WHERE source <> 'user'
               AND src IN (SELECT ino FROM main.node) AND dst IN (SELECT ino FROM main.node);",
        )?;
        likeness::copy(self.connection)?;
        forsaken::copy(self.connection)?;
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
            // At the end of its table: a stamp in the row of the vertex would cost a page here and there for each.
            self.run_sql("INSERT OR IGNORE INTO changed(stamp, ino) VALUES(?1, ?2)", (self.stamp, id(ino)))?;
        }
        if self.stamp % STAMPS_PER_LOOK == 0 {
            self.forget_changed()?;
            if self.gone {
                self.forget_gone()?;
            }
        }
        Ok(self.steps)
    }

    fn forget_changed(&self) -> Result<(), StoreError> {
        let count: i64 = self.sql("SELECT count(*) FROM changed")?.query_row([], |row| row.get(0))?;
        if count > CHANGED_MAX {
            let until = self
                .sql("SELECT stamp FROM changed ORDER BY stamp LIMIT 1 OFFSET ?1")?
                .query_row([CHANGED_MAX / 2], |row| row.get(0))?;
            all_changed(self.connection, until)?;
        }
        Ok(())
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
