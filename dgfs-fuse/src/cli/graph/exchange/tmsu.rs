//! Databases of TMSU: `.tmsu/db`, SQLite.
//!
//! Never changes one that is there: it is opened for reading only, and an export makes a new file. The only place of the command
//! that speaks to SQLite.
//!
//! The tables are those of TMSU 0.7 (its documentation, and the schema of its databases): `file(directory, name, …)` with
//! directories seen from the one that holds `.tmsu`, `tag`, `value`, `file_tag` (value 0: none), and `implication`, which had no
//! values before 0.7.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::{FileItem, Item, TagItem, Take};
use crate::cli::Failure;
use crate::cli::graph::refused;

/// What a database of SQLite begins with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// A file and one of its tags in each row, the rows of a file together.
const FILES: &str = "SELECT file.id, file.directory, file.name, tag.name, value.name FROM file_tag \
     JOIN file ON file.id = file_tag.file_id JOIN tag ON tag.id = file_tag.tag_id \
     LEFT JOIN value ON value.id = file_tag.value_id ORDER BY file.id, tag.name, value.name";
const IMPLICATIONS: &str = "SELECT one.name, one_value.name, other.name, other_value.name FROM implication \
     JOIN tag AS one ON one.id = implication.tag_id JOIN tag AS other ON other.id = implication.implied_tag_id \
     LEFT JOIN value AS one_value ON one_value.id = implication.value_id \
     LEFT JOIN value AS other_value ON other_value.id = implication.implied_value_id ORDER BY one.name";
/// Before there were values in implications.
const OLD_IMPLICATIONS: &str = "SELECT one.name, NULL, other.name, NULL FROM implication \
     JOIN tag AS one ON one.id = implication.tag_id JOIN tag AS other ON other.id = implication.implied_tag_id ORDER BY one.name";
/// The tables of a new database.
const SCHEMA: &str = "
    CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE INDEX idx_tag_name ON tag(name);
    CREATE TABLE file (id INTEGER PRIMARY KEY, directory TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL,
        mod_time DATETIME NOT NULL, size INTEGER NOT NULL, is_dir BOOLEAN NOT NULL,
        CONSTRAINT con_file_path UNIQUE (directory, name));
    CREATE INDEX idx_file_fingerprint ON file(fingerprint);
    CREATE TABLE value (id INTEGER PRIMARY KEY, name TEXT NOT NULL, CONSTRAINT con_value_name UNIQUE (name));
    CREATE TABLE file_tag (file_id INTEGER NOT NULL, tag_id INTEGER NOT NULL, value_id INTEGER NOT NULL,
        PRIMARY KEY (file_id, tag_id, value_id), FOREIGN KEY (file_id) REFERENCES file(id),
        FOREIGN KEY (tag_id) REFERENCES tag(id) FOREIGN KEY (value_id) REFERENCES value(id));
    CREATE INDEX idx_file_tag_file_id ON file_tag(file_id);
    CREATE INDEX idx_file_tag_tag_id ON file_tag(tag_id);
    CREATE INDEX idx_file_tag_value_id ON file_tag(value_id);
    CREATE TABLE implication (tag_id INTEGER NOT NULL, value_id INTEGER NOT NULL, implied_tag_id INTEGER NOT NULL,
        implied_value_id INTEGER NOT NULL, PRIMARY KEY (tag_id, value_id, implied_tag_id, implied_value_id));
    CREATE TABLE query (text TEXT PRIMARY KEY);
    CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE version (major NUMBER NOT NULL, minor NUMBER NOT NULL, patch NUMBER NOT NULL, revision NUMBER NOT NULL,
        PRIMARY KEY (major, minor, patch, revision));
    INSERT INTO version VALUES (0, 7, 0, 1);";

/// The directory that the paths of a database are seen from: the one that holds `.tmsu`.
pub(super) fn root(database: &Path) -> Option<PathBuf> {
    let holder = database.parent().filter(|holder| holder.file_name().is_some_and(|name| name == ".tmsu"))?;
    let root = holder.parent().unwrap_or(Path::new("."));
    Some(if root.as_os_str().is_empty() { PathBuf::from(".") } else { root.to_owned() })
}

/// Reads a database.
pub(super) fn read(database: &Path, take: Take<'_>) -> Result<(), Failure> {
    let failed = |error: rusqlite::Error| refused(format!("{}: {error}", database.display()));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    let tables = ["file", "tag", "value", "file_tag"];
    for table in tables {
        if !connection.table_exists(None, table).map_err(failed)? {
            let at = database.display();
            return Err(refused(format!("{at} is no database of TMSU: it has no table \"{table}\"")));
        }
    }
    read_implications(&connection, failed, take)?;
    read_files(&connection, failed, take)?;
    if connection.table_exists(None, "query").map_err(failed)? {
        let count: i64 = connection.query_row("SELECT count(*) FROM query", [], |row| row.get(0)).map_err(failed)?;
        if count > 0 {
            let sentence =
                format!("{count} queries of TMSU are not taken over: they have no names (dgfs save NAME EXPR)");
            take(Item::Problem(sentence))?;
        }
    }
    Ok(())
}

fn read_implications(
    connection: &Connection,
    failed: impl Fn(rusqlite::Error) -> Failure + Copy,
    take: Take<'_>,
) -> Result<(), Failure> {
    if !connection.table_exists(None, "implication").map_err(failed)? {
        return Ok(());
    }
    let has_values = connection.column_exists(None, "implication", "implied_value_id").map_err(failed)?;
    let sql = if has_values { IMPLICATIONS } else { OLD_IMPLICATIONS };
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (one, other) = (tag(row, 0).map_err(failed)?, tag(row, 2).map_err(failed)?);
        take(Item::Tag(TagItem { tag: one, aliases: Vec::new(), implies: vec![other] }))?;
    }
    Ok(())
}

fn read_files(
    connection: &Connection,
    failed: impl Fn(rusqlite::Error) -> Failure + Copy,
    take: Take<'_>,
) -> Result<(), Failure> {
    let mut statement = connection.prepare(FILES).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut open: Option<(i64, FileItem)> = None;
    while let Some(row) = rows.next().map_err(failed)? {
        let id: i64 = row.get(0).map_err(failed)?;
        let tag = tag(row, 3).map_err(failed)?;
        match &mut open {
            Some((of, file)) if *of == id => file.tags.push(tag),
            Some(_) | None => {
                let path = path(bytes(row, 1).map_err(failed)?, bytes(row, 2).map_err(failed)?);
                let next = FileItem { path, tags: vec![tag], ..FileItem::default() };
                if let Some((_, file)) = open.replace((id, next)) {
                    take(Item::File(file))?;
                }
            }
        }
    }
    open.map_or(Ok(()), |(_, file)| take(Item::File(file)))
}

/// The bytes of a text or blob; of anything else none.
fn bytes<'a>(row: &'a Row<'_>, at: usize) -> Result<&'a [u8], rusqlite::Error> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    })
}

/// The tag of two columns: its name, or name and value. What is no text in them makes no tag, which whoever takes it says.
fn tag(row: &Row<'_>, at: usize) -> Result<String, rusqlite::Error> {
    let (name, value) = (bytes(row, at)?, bytes(row, at + 1)?);
    let name = String::from_utf8_lossy(name);
    Ok(if value.is_empty() { name.into_owned() } else { format!("{name}={}", String::from_utf8_lossy(value)) })
}

fn path(directory: &[u8], name: &[u8]) -> PathBuf {
    let directory = PathBuf::from(OsString::from_vec(directory.to_vec()));
    let whole = directory.join(std::ffi::OsStr::from_bytes(name));
    // Directories begin with "./", but for those outside.
    whole.strip_prefix(".").map(Path::to_owned).unwrap_or(whole)
}

/// A new database, filled in one transaction: it is all there, or not at all.
pub(super) struct Database {
    connection: Connection,
    at: PathBuf,
}

/// What TMSU keeps of a file besides its tags.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileFacts {
    /// Seconds since 1970.
    pub(super) mtime_secs: i64,
    pub(super) size: u64,
    pub(super) is_dir: bool,
}

impl Database {
    pub(super) fn create(at: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| refused(format!("make {}: {error}", at.display()));
        // Made here, so that one that is there is refused and not filled up.
        let _ = std::fs::File::create_new(at).map_err(|error| failed(&error))?;
        let connection = Connection::open(at).map_err(|error| failed(&error))?;
        // TMSU means "no value" by the value 0, which is no row: it does not have the keys checked either.
        connection
            .execute_batch("PRAGMA foreign_keys = OFF; BEGIN")
            .and_then(|()| connection.execute_batch(SCHEMA))
            .map_err(|error| failed(&error))?;
        Ok(Self { connection, at: at.to_owned() })
    }

    fn failed(&self, error: &rusqlite::Error) -> Failure {
        refused(format!("write {}: {error}", self.at.display()))
    }

    /// Adds a file.
    pub(super) fn add(&self, file: &FileItem, facts: FileFacts) -> Result<(), Failure> {
        self.add_file(file, facts).map_err(|error| self.failed(&error))
    }

    fn add_file(&self, file: &FileItem, facts: FileFacts) -> Result<(), rusqlite::Error> {
        let name = file.path.file_name().unwrap_or_default();
        let directory = match file.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Path::new(".").join(parent),
            Some(_) | None => PathBuf::from("."),
        };
        // Fingerprints are TMSU's own: `tmsu repair` makes them. Go writes times like this.
        let sql = "INSERT INTO file (directory, name, fingerprint, mod_time, size, is_dir) \
                   VALUES (CAST(?1 AS TEXT), CAST(?2 AS TEXT), '', strftime('%Y-%m-%d %H:%M:%S+00:00', ?3, 'unixepoch'), ?4, ?5)";
        let (directory, name) = (directory.as_os_str().as_bytes(), name.as_bytes());
        let size = i64::try_from(facts.size).unwrap_or(i64::MAX);
        self.connection.prepare_cached(sql)?.execute(params![directory, name, facts.mtime_secs, size, facts.is_dir])?;
        let id = self.connection.last_insert_rowid();
        for tag in &file.tags {
            let (tag, value) = self.ids(tag)?;
            let sql = "INSERT OR IGNORE INTO file_tag VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(sql)?.execute(params![id, tag, value])?;
        }
        Ok(())
    }

    /// Adds what a tag implies.
    pub(super) fn imply(&self, item: &TagItem) -> Result<(), Failure> {
        let imply = |implied: &String| {
            let ((tag, value), (other, other_value)) = (self.ids(&item.tag)?, self.ids(implied)?);
            let sql = "INSERT OR IGNORE INTO implication VALUES (?1, ?2, ?3, ?4)";
            self.connection.prepare_cached(sql)?.execute(params![tag, value, other, other_value])
        };
        item.implies.iter().try_for_each(|implied| imply(implied).map(drop)).map_err(|error| self.failed(&error))
    }

    /// Numbers of a tag and its value; 0 is no value.
    fn ids(&self, tag: &str) -> Result<(i64, i64), rusqlite::Error> {
        match tag.split_once('=') {
            None => Ok((self.id("tag", tag)?, 0)),
            Some((name, value)) => Ok((self.id("tag", name)?, self.id("value", value)?)),
        }
    }

    /// `table` is one of our two words.
    fn id(&self, table: &str, name: &str) -> Result<i64, rusqlite::Error> {
        let mut known = self.connection.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?1"))?;
        if let Some(row) = known.query([name])?.next()? {
            return row.get(0);
        }
        self.connection.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?1)"))?.execute([name])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Makes everything that was added lasting.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.connection.execute_batch("COMMIT").map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests;
