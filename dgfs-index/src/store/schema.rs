//! Tables of the index database. Whoever opens the file with another tool finds the graph in them.
//!
//! Never migrates: what is derived is built anew when its format changes.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::store::StoreError;

/// Grows with every change of the tables, and of what is derived from attributes.
const FORMAT: i64 = 3;

const TABLES: &str = "
CREATE TABLE applied(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, at_secs INTEGER NOT NULL, at_nanos INTEGER NOT NULL,
  stamp INTEGER NOT NULL, digest INTEGER NOT NULL);
CREATE TABLE node(ino INTEGER PRIMARY KEY, kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
  gid INTEGER NOT NULL, nlink INTEGER NOT NULL, size INTEGER NOT NULL, mtime_secs INTEGER NOT NULL,
  mtime_nanos INTEGER NOT NULL, ctime_secs INTEGER NOT NULL, ctime_nanos INTEGER NOT NULL, btime_secs INTEGER NOT NULL,
  btime_nanos INTEGER NOT NULL, data_version INTEGER NOT NULL);
CREATE TABLE changed(stamp INTEGER NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY(stamp, ino)) WITHOUT ROWID;
CREATE TABLE all_changed(id INTEGER PRIMARY KEY, stamp INTEGER NOT NULL);
CREATE INDEX node_large ON node(size) WHERE size > 67108864;
CREATE TABLE gone(ino INTEGER PRIMARY KEY, stamp INTEGER NOT NULL);
CREATE INDEX gone_stamp ON gone(stamp);
CREATE TABLE name(parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY(parent, name)) WITHOUT ROWID;
CREATE INDEX name_ino ON name(ino);
CREATE TABLE xattr(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY(ino, name)) WITHOUT ROWID;
CREATE TABLE tag(id INTEGER PRIMARY KEY, name TEXT NOT NULL, facts BLOB NOT NULL, stamp INTEGER NOT NULL);
CREATE TABLE file_tag(ino INTEGER NOT NULL, tag INTEGER NOT NULL, PRIMARY KEY(ino, tag)) WITHOUT ROWID;
CREATE TABLE veto(ino INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY(ino, tag)) WITHOUT ROWID;
CREATE TABLE saved(name TEXT PRIMARY KEY, expression TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE edge(src INTEGER NOT NULL, kind TEXT NOT NULL, dst INTEGER NOT NULL, source TEXT NOT NULL,
  permille INTEGER NOT NULL, PRIMARY KEY(src, kind, dst, source)) WITHOUT ROWID;
CREATE INDEX edge_dst ON edge(dst, kind);
CREATE TABLE content(ino INTEGER PRIMARY KEY, data_version INTEGER NOT NULL, hash BLOB NOT NULL, hints BLOB NOT NULL,
  hints_seen BLOB NOT NULL);
CREATE INDEX content_hash ON content(hash, hints);
CREATE TABLE finding(id INTEGER PRIMARY KEY, hash BLOB NOT NULL, hints BLOB NOT NULL, tagger TEXT NOT NULL,
  version INTEGER NOT NULL, marks BLOB NOT NULL, text TEXT, failed TEXT, UNIQUE(hash, hints, tagger));
CREATE TABLE forsaken(id INTEGER PRIMARY KEY, hash BLOB NOT NULL, hints BLOB NOT NULL, UNIQUE(hash, hints));
CREATE TABLE print(id INTEGER PRIMARY KEY, hash BLOB NOT NULL, tagger TEXT NOT NULL, version INTEGER NOT NULL,
  kind INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE(hash, tagger, kind));
CREATE INDEX print_vector ON print(tagger, version) WHERE kind = 3;
CREATE TABLE print_key(key INTEGER NOT NULL, print INTEGER NOT NULL, PRIMARY KEY(key, print)) WITHOUT ROWID;
CREATE INDEX print_key_print ON print_key(print);
CREATE TABLE pointer(hash BLOB NOT NULL, tagger TEXT NOT NULL, target TEXT NOT NULL, import INTEGER NOT NULL,
  key TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(hash, tagger, target, import, key)) WITHOUT ROWID;
CREATE INDEX pointer_key ON pointer(key);
CREATE TRIGGER print_gone AFTER DELETE ON print BEGIN DELETE FROM print_key WHERE print = OLD.id; END;
CREATE TRIGGER finding_gone AFTER DELETE ON finding
  WHEN NOT EXISTS (SELECT 1 FROM finding WHERE hash = OLD.hash AND tagger = OLD.tagger) BEGIN
  DELETE FROM print WHERE hash = OLD.hash AND tagger = OLD.tagger;
  DELETE FROM pointer WHERE hash = OLD.hash AND tagger = OLD.tagger; END;
CREATE VIRTUAL TABLE fts USING fts5(text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2');
";

/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 96;

/// Lets statements be prepared once for a connection, and not again for each new value they are given: the engine would else plan
/// anew for the value (<https://sqlite.org/queryplanner-ng.html>, "query planner stability guarantee"), which took two fifths of a mount's
/// instructions where small files are made.
pub(super) fn keep_statements(connection: &Connection) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Makes the tables where there are none, and sets what every writing connection wants.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    // A checkpoint for each 32 MiB: pages that many batches touch are written back once.
    // NORMAL: a power cut may take the last transactions, never a part of one; the log then goes on from an earlier seq.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768;
         PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 8192;",
    )?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == FORMAT {
        return Ok(());
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if found != 0 || tables != 0 {
        return Err(StoreError::Format { found, wanted: FORMAT });
    }
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, StatementStatus};

    use super::keep_statements;

    /// How often a statement is prepared again when it runs with ten values.
    fn prepared_again(connection: &Connection) -> i32 {
        connection
            .execute_batch(
                "CREATE TABLE node(ino INTEGER PRIMARY KEY, size INTEGER); CREATE INDEX sizes ON node(size);",
            )
            .unwrap();
        let mut statement = connection.prepare("SELECT ino FROM node WHERE size > ?1 ORDER BY ino LIMIT ?2").unwrap();
        for value in 1..=10_i64 {
            assert!(!statement.exists([value, value]).unwrap());
        }
        statement.get_status(StatementStatus::RePrepare)
    }

    #[test]
    fn a_statement_is_prepared_once_whatever_values_it_runs_with() {
        let kept = Connection::open_in_memory().unwrap();
        keep_statements(&kept).unwrap();
        assert_eq!(prepared_again(&kept), 0);
        // What the engine does where it is not told: else this test would show nothing.
        assert!(prepared_again(&Connection::open_in_memory().unwrap()) > 0);
    }
}
