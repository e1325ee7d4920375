//! What contents are alike and point at, in the tables: kept by content, so that names and moves change nothing of it.
//!
//! Never asks who looks and never names an inode that is not in the tables. Always: the same rows whatever the order in
//! which findings of one version of a tagger arrive (all that was said counts; another version's word takes its place), and the
//! same after a rebuild, which takes them over.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};

use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use xxhash_rust::xxh3::xxh3_64;

use crate::likeness::{Likeness, Print, PrintKind};
use crate::pointer::Pointer;
use crate::step::ContentHash;
use crate::store::load::{ino, name};
use crate::store::write::id;
use crate::store::{Finding, Readers, StoreError};

/// Pointers of one tagger's finding that are kept: as many as taggers find at most.
const POINTERS_MAX: usize = 1000;
/// Rows that one key leads to are looked at up to here: some thousand copies of a form are like enough to each other.
const ROWS_PER_KEY_MAX: i64 = 2000;
/// Fingerprints that are compared whole, those of most common keys first.
const CANDIDATES_MAX: usize = 10_000;
/// Vectors that are compared: all of them are looked at, about 1 ms for a thousand.
const VECTORS_MAX: i64 = 100_000;
/// Inodes of one content that are named.
const INOS_MAX: i64 = 100_000;
/// Pointers that one name may be meant by that are followed, to see whether it is.
const POINTING_MAX: i64 = 10_000;

/// Keeps what a tagger said, in place of what another version of it did.
pub(super) fn put(connection: &Connection, hash: &[u8], found: &Finding) -> Result<(), StoreError> {
    for table in ["print", "pointer"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE hash = ?1 AND tagger = ?2 AND version <> ?3"))?
            .execute((hash, &found.tagger, found.version))?;
    }
    for print in &found.prints {
        put_print(connection, hash, found, print)?;
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO pointer(hash, tagger, target, import, key, version) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for pointer in found.pointers.iter().take(POINTERS_MAX) {
        for key in pointer.keys() {
            insert.execute((hash, &found.tagger, &pointer.target, pointer.import, key, found.version))?;
        }
    }
    Ok(())
}

fn put_print(connection: &Connection, hash: &[u8], found: &Finding, print: &Print) -> Result<(), StoreError> {
    let kind = print.kind().code();
    let known: Option<Vec<u8>> = connection
        .prepare_cached("SELECT value FROM print WHERE hash = ?1 AND tagger = ?2 AND kind = ?3")?
        .query_row((hash, &found.tagger, kind), |row| row.get(0))
        .optional()?;
    // One content may be read in two ways (by two names): the greater value stays, whichever comes first.
    if known.is_some_and(|known| known.as_slice() >= print.value()) {
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM print WHERE hash = ?1 AND tagger = ?2 AND kind = ?3")?.execute((
        hash,
        &found.tagger,
        kind,
    ))?;
    let number = print_number(hash, &found.tagger, kind);
    // Two that have one number by chance (once in 2⁶⁴): the first is found by, the second only compared with nobody.
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO print(id, hash, tagger, version, kind, value) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((number, hash, &found.tagger, found.version, kind, print.value()))?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO print_key(key, print) VALUES(?1, ?2)")?;
    for key in print.keys() {
        insert.execute((key, number))?;
    }
    Ok(())
}

/// Follows from what it numbers, so that the order of rows, by which long lists are cut, does not follow from who came first.
fn print_number(hash: &[u8], tagger: &str, kind: u8) -> i64 {
    let mut text = vec![kind];
    text.extend(hash);
    text.extend(tagger.as_bytes());
    xxh3_64(&text).cast_signed()
}

/// From the database attached as `other`.
pub(super) fn copy(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "INSERT OR IGNORE INTO main.print(id, hash, tagger, version, kind, value)
           SELECT id, hash, tagger, version, kind, value FROM other.print;
         INSERT OR IGNORE INTO main.print_key(key, print) SELECT key, print FROM other.print_key;
         INSERT OR IGNORE INTO main.pointer(hash, tagger, target, import, key, version)
           SELECT hash, tagger, target, import, key, version FROM other.pointer;",
    )?;
    Ok(())
}

/// A stored fingerprint, and whose.
struct Owned {
    print: Print,
    content: ContentHash,
    tagger: String,
    version: u32,
}

fn prints_where<P: rusqlite::Params>(
    connection: &Connection,
    condition: &str,
    params: P,
) -> Result<Vec<Owned>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT kind, value, hash, tagger, version FROM print WHERE {condition}"))?;
    let mut rows = statement.query(params)?;
    let mut prints = Vec::new();
    while let Some(row) = rows.next()? {
        let print = PrintKind::from_code(row.get(0)?).and_then(|kind| Print::stored(kind, row.get(1).ok()?));
        let content = row.get::<_, Vec<u8>>(2)?.try_into();
        // What cannot be read is made again by its tagger's next version.
        if let (Some(print), Ok(content)) = (print, content) {
            prints.push(Owned { print, content, tagger: row.get(3)?, version: row.get(4)? });
        }
    }
    Ok(prints)
}

/// Numbers of fingerprints that have keys in common with this one, those with most first.
fn candidates(connection: &Connection, print: &Print) -> Result<Vec<i64>, StoreError> {
    let mut common: BTreeMap<i64, u32> = BTreeMap::new();
    let mut statement =
        connection.prepare_cached("SELECT print FROM print_key WHERE key = ?1 ORDER BY print LIMIT ?2")?;
    for key in print.keys_alike() {
        let mut rows = statement.query((key, ROWS_PER_KEY_MAX))?;
        while let Some(row) = rows.next()? {
            *common.entry(row.get(0)?).or_default() += 1;
        }
    }
    let mut candidates: Vec<(i64, u32)> = common.into_iter().collect();
    candidates.sort_by_key(|(number, count)| (std::cmp::Reverse(*count), *number));
    candidates.truncate(CANDIDATES_MAX);
    Ok(candidates.into_iter().map(|(number, _)| number).collect())
}

fn alike(connection: &Connection, own: &Owned) -> Result<Vec<Owned>, StoreError> {
    if own.print.kind() == PrintKind::Vector {
        let condition = "kind = 3 AND tagger = ?1 AND version = ?2 ORDER BY id LIMIT ?3";
        return prints_where(connection, condition, (&own.tagger, own.version, VECTORS_MAX));
    }
    let mut found = Vec::new();
    for number in candidates(connection, &own.print)? {
        found.extend(prints_where(connection, "id = ?1", [number])?);
    }
    Ok(found)
}

impl Readers {
    /// Contents that are alike, by each kind of fingerprint, in no order that means something. The same from both sides, and
    /// for two given contents the same for ever, until a tagger comes in another version.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn likenesses_of(&self, content: &ContentHash) -> Result<Vec<Likeness>, StoreError> {
        self.with(|connection| {
            let mut best: BTreeMap<(ContentHash, PrintKind), u16> = BTreeMap::new();
            for own in prints_where(connection, "hash = ?1 ORDER BY tagger, kind", [content.as_slice()])? {
                for other in alike(connection, &own)? {
                    if other.content != *content
                        && let Some(permille) = own.print.permille(&other.print)
                    {
                        let known = best.entry((other.content, own.print.kind())).or_default();
                        *known = permille.max(*known);
                    }
                }
            }
            let likeness = |((content, kind), permille)| Likeness { content, kind, permille };
            Ok(best.into_iter().map(likeness).collect())
        })
    }

    /// How alike two contents are, by each kind of fingerprint: what [`Self::likenesses_of`] says of one of them, were its lists
    /// without bounds.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn likeness_between(
        &self,
        one: &ContentHash,
        other: &ContentHash,
    ) -> Result<Vec<(PrintKind, u16)>, StoreError> {
        self.with(|connection| {
            let mut best: BTreeMap<PrintKind, u16> = BTreeMap::new();
            let others = prints_where(connection, "hash = ?1 ORDER BY tagger, kind", [other.as_slice()])?;
            for own in prints_where(connection, "hash = ?1 ORDER BY tagger, kind", [one.as_slice()])? {
                for other in &others {
                    let one_space = (&own.tagger, own.version) == (&other.tagger, other.version);
                    let comparable = own.print.kind() != PrintKind::Vector || one_space;
                    if let Some(permille) = own.print.permille(&other.print).filter(|_| comparable) {
                        let known = best.entry(own.print.kind()).or_default();
                        *known = permille.max(*known);
                    }
                }
            }
            Ok(best.into_iter().collect())
        })
    }

    /// Has a file this content?
    pub(crate) fn is_content(&self, content: &ContentHash) -> Result<bool, StoreError> {
        self.with(|connection| {
            Ok(connection.prepare_cached("SELECT 1 FROM content WHERE hash = ?1")?.exists([content.as_slice()])?)
        })
    }

    /// What tells the fingerprints of a content from those that it had before, and will have; none: it has no fingerprint.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn prints_stamp(&self, content: &ContentHash) -> Result<Option<i64>, StoreError> {
        self.with(|connection| {
            let mut text = Vec::new();
            for own in prints_where(connection, "hash = ?1 ORDER BY tagger, kind", [content.as_slice()])? {
                text.extend(own.tagger.as_bytes());
                text.extend(own.version.to_le_bytes());
                text.push(own.print.kind().code());
                text.extend(own.print.value());
            }
            Ok((!text.is_empty()).then(|| xxh3_64(&text).cast_signed()))
        })
    }

    /// Inodes of a content.
    pub(crate) fn inos_of_content(&self, content: &ContentHash) -> Result<Vec<Ino>, StoreError> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT ino FROM content WHERE hash = ?1 ORDER BY ino LIMIT ?2")?;
            let mut rows = statement.query((content.as_slice(), INOS_MAX))?;
            let mut inos = Vec::new();
            while let Some(row) = rows.next()? {
                inos.push(ino(row.get(0)?)?);
            }
            Ok(inos)
        })
    }

    /// What a content points at.
    pub(crate) fn pointers_of(&self, content: &ContentHash) -> Result<Vec<Pointer>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT import, target FROM pointer WHERE hash = ?1 ORDER BY import, target",
            )?;
            let mut rows = statement.query([content.as_slice()])?;
            let mut pointers = Vec::new();
            while let Some(row) = rows.next()? {
                pointers.push(Pointer { import: row.get(0)?, target: row.get(1)? });
            }
            Ok(pointers)
        })
    }

    /// Contents whose pointers may mean something of these names.
    pub(crate) fn pointing_at(&self, keys: &BTreeSet<String>) -> Result<Vec<(ContentHash, Pointer)>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT hash, import, target FROM pointer WHERE key = ?1 ORDER BY hash, import, target LIMIT ?2",
            )?;
            let mut found = BTreeSet::new();
            for key in keys {
                let mut rows = statement.query((key, POINTING_MAX))?;
                while let Some(row) = rows.next()? {
                    if let Ok(content) = row.get::<_, Vec<u8>>(0)?.try_into() {
                        found.insert((content, Pointer { import: row.get(1)?, target: row.get(2)? }));
                    }
                }
            }
            Ok(found.into_iter().collect())
        })
    }

    /// The first `limit` names in a directory.
    pub(crate) fn names_in(&self, directory: Ino, limit: usize) -> Result<Vec<(Name, Ino)>, StoreError> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT name, ino FROM name WHERE parent = ?1 ORDER BY name LIMIT ?2")?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query((id(directory), limit))?;
            let mut names = Vec::new();
            while let Some(row) = rows.next()? {
                names.push((name(row, 0)?, ino(row.get(1)?)?));
            }
            Ok(names)
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::put;
    use crate::likeness::Print;
    use crate::pointer::Pointer;
    use crate::store::{Finding, schema};

    fn said(version: u32, bits: u64, target: &str) -> Finding {
        Finding {
            tagger: "t".to_owned(),
            version,
            prints: Print::picture(bits).into_iter().collect(),
            pointers: Pointer::path(target).into_iter().collect(),
            ..Finding::default()
        }
    }

    fn arrive(connection: &Connection, found: &Finding) {
        let row = "INSERT INTO finding(hash, hints, tagger, version, marks) VALUES(x'01', x'', 't', ?1, x'')
                   ON CONFLICT DO UPDATE SET version = excluded.version";
        connection.execute(row, [found.version]).unwrap();
        put(connection, &[1], found).unwrap();
    }

    fn rows(connection: &Connection) -> Vec<String> {
        let sql = "SELECT 'print ' || version || hex(value) FROM print UNION ALL SELECT 'key ' || key FROM print_key
                   UNION ALL SELECT 'pointer ' || version || target FROM pointer ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn the_order_of_arrival_does_not_show_and_what_a_finding_brought_goes_with_it() {
        let all = [said(2, u64::MAX >> 4, "a"), said(2, u64::MAX >> 3, "b"), said(2, u64::MAX >> 2, "c")];
        let mut states = Vec::new();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let connection = Connection::open_in_memory().unwrap();
            schema::prepare(&connection).unwrap();
            // A version is a number without an order: that of a model follows from its file.
            arrive(&connection, &said(9, 1, "of another version"));
            for at in order {
                arrive(&connection, &all[at]);
            }
            states.push(rows(&connection));
            connection.execute("DELETE FROM finding", []).unwrap();
            assert_eq!(rows(&connection), Vec::<String>::new());
        }
        assert_eq!(states[0].len(), 8, "four keys, one fingerprint, three pointers: {:?}", states[0]);
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    }
}
