//! What was found in contents that no file has any more: kept for a while, because a change may be undone, then removed.
//!
//! Never removes what was found in a content that a file has. Always: those forsaken last, [`KEPT_MAX`] of them, stay, and a
//! transaction removes at most [`REMOVED_MAX`] of the others, so that the end of a large tree slows no change down.

use rusqlite::{Connection, OptionalExtension};

use crate::store::StoreError;

/// Contents kept without a file. What was found in one takes 300 KiB at most (a text), a few KiB mostly.
const KEPT_MAX: i64 = 512;
/// Removed in one transaction: a millisecond of work, and more than most transactions add.
const REMOVED_MAX: usize = 64;

/// What findings are kept by: hash and hints.
pub(super) type Key = (Vec<u8>, Vec<u8>);

/// What the findings of an inode are kept by.
pub(super) fn key_of(connection: &Connection, ino: i64) -> Result<Option<Key>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT hash, hints FROM content WHERE ino = ?1")?;
    Ok(statement.query_row([ino], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// A file lost this content: it was perhaps the last one.
pub(super) fn forsake(connection: &Connection, (hash, hints): &Key) -> Result<(), StoreError> {
    if !is_had(connection, hash, hints)? {
        // Replaced, it stands behind all others.
        connection
            .prepare_cached("INSERT OR REPLACE INTO forsaken(hash, hints) VALUES(?1, ?2)")?
            .execute((hash, hints))?;
    }
    Ok(())
}

fn is_had(connection: &Connection, hash: &[u8], hints: &[u8]) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM content WHERE hash = ?1 AND hints = ?2")?;
    Ok(statement.exists((hash, hints))?)
}

/// Removes the oldest that are too many.
pub(super) fn remove_oldest(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, hash, hints FROM forsaken WHERE id <= (SELECT max(id) FROM forsaken) - ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query((KEPT_MAX, REMOVED_MAX as i64))?;
    let mut oldest: Vec<(i64, Key)> = Vec::new();
    while let Some(row) = rows.next()? {
        oldest.push((row.get(0)?, (row.get(1)?, row.get(2)?)));
    }
    for (id, (hash, hints)) in oldest {
        // A file may have it again.
        if !is_had(connection, &hash, &hints)? {
            connection
                .prepare_cached("DELETE FROM finding WHERE hash = ?1 AND hints = ?2")?
                .execute((&hash, &hints))?;
        }
        connection.prepare_cached("DELETE FROM forsaken WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

/// Takes those of the database attached as `other` over, and adds what is found to have no file now: to be called once the
/// findings and contents were copied.
pub(super) fn copy(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "INSERT OR IGNORE INTO main.forsaken(hash, hints) SELECT hash, hints FROM other.forsaken ORDER BY id;
         INSERT OR IGNORE INTO main.forsaken(hash, hints)
           SELECT DISTINCT hash, hints FROM main.finding AS finding WHERE NOT EXISTS (
             SELECT 1 FROM main.content AS content WHERE content.hash = finding.hash AND content.hints = finding.hints);",
    )?;
    Ok(())
}
