//! Reads what is still readable of a damaged engine.
//!
//! Never changes the damaged directory: tables are read from a copy. Always: a batch is taken whole or not at all, batches
//! in their order, and what is not there is named.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::facts;
use super::files::{io_error, remove_leftover};
use super::journal::{journals, read_all};
use super::mark::Mark;
use super::{WRITER_KEY, decode_writer, open_database};
use crate::engine::EngineError;

/// Damaged places of tables that are stepped over before the rest is given up.
const HOLES_MAX: u32 = 4096;
/// The first step over a damaged place; each further one is twice as long. Names in a directory are further apart.
const STEP_FIRST: u128 = 1 << 40;
/// Bytes of a row's key.
const KEY_BYTES: usize = 17;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// Rows as they are stored.
    pub(crate) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What is not there, in sentences.
    pub(crate) lost: Vec<String>,
}

/// Reads the engine in `dir`; `work` is a directory for a copy, removed again.
pub(crate) fn salvage_rows(dir: &Path, work: &Path) -> Result<Salvaged, EngineError> {
    let mut found = Salvaged::default();
    remove_leftover(work)?;
    let read = || copy_tables(dir, work).and_then(|()| read_tables(work, &mut found));
    // Of whole tables: every batch up to this one lies in them.
    let flushed = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(flushed)) => flushed,
        Ok(Err(error @ (EngineError::NoSpace | EngineError::Unavailable(_)))) => return Err(error),
        Ok(Err(error)) => {
            warn!(%error, "the tables cannot be opened");
            found.lost.push("what was moved from the journal to tables: they cannot be opened".to_owned());
            None
        }
        Err(_) => {
            found.lost.push("what was moved from the journal to tables: they make no sense".to_owned());
            None
        }
    };
    remove_leftover(work)?;
    let last = read_journals(dir, flushed, &mut found)?;
    if let Some(mark) = Mark::read(dir)
        && mark.number > last
    {
        found.lost.push(format!(
            "the newest {} batches of changes (numbers {} to {})",
            mark.number - last,
            last + 1,
            mark.number
        ));
    }
    found.rows.remove(&WRITER_KEY[..]);
    for (key, value) in facts::read(dir) {
        found.rows.entry(key).or_insert(value);
    }
    Ok(found)
}

/// An empty engine in `to` that takes over the tables of the damaged one: its own list of keyspaces is whole.
fn copy_tables(from: &Path, to: &Path) -> Result<(), EngineError> {
    drop(open_database(to)?);
    let [from, to] = [from, to].map(|dir| dir.join("keyspaces").join("1"));
    remove_leftover(&to)?;
    let copied = copy_all(&from, &to).and_then(|()| name_newest_list(&to));
    copied.map_err(|error| io_error("copy the damaged metadata to", &to, &error))
}

/// Lets `current` tell of the newest list of tables: what it told may be what is damaged.
fn name_newest_list(folder: &Path) -> io::Result<()> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix('v')).and_then(|id| id.parse::<u64>().ok());
        newest = newest.max(id);
    }
    let Some(newest) = newest else { return Ok(()) };
    let list = fs::read(folder.join(format!("v{newest}")))?;
    let mut current = newest.to_le_bytes().to_vec();
    current.extend(xxhash_rust::xxh3::xxh3_128(&list).to_le_bytes());
    current.push(0);
    fs::write(folder.join("current"), current)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_all(&path, &to)?;
        } else {
            fs::copy(path, to)?;
        }
    }
    Ok(())
}

/// All rows of the tables; the last batch that is in them, when all could be read.
fn read_tables(dir: &Path, found: &mut Salvaged) -> Result<Option<u64>, EngineError> {
    let (_db, rows) = open_database(dir)?;
    let mut from: Vec<u8> = Vec::new();
    let mut named = false;
    let (mut holes, mut step) = (0, STEP_FIRST);
    loop {
        let mut damage = None;
        for entry in rows.range(from.clone()..) {
            match entry.into_inner() {
                Ok((key, value)) => {
                    from = [&key[..], &[0]].concat();
                    step = STEP_FIRST;
                    named = false;
                    found.rows.insert(key.to_vec(), value.to_vec());
                }
                Err(error) => {
                    damage = Some(error.to_string());
                    break;
                }
            }
        }
        let Some(damage) = damage else { break };
        holes += 1;
        let Some(next) = beyond(&from, &mut step).filter(|_| holes < HOLES_MAX) else {
            warn!(%damage, "the tables are read no further");
            found.lost.push("the rest of the tables".to_owned());
            break;
        };
        if !std::mem::replace(&mut named, true) {
            warn!(%damage, "a block of the tables cannot be read");
            found.lost.push("rows in a damaged block of the tables".to_owned());
        }
        from = next;
        step = step.saturating_mul(2);
    }
    let stored = rows.get(WRITER_KEY).ok().flatten();
    let last = decode_writer(dir, stored.as_deref()).map_or(0, |(_, last_batch)| last_batch);
    Ok((holes == 0).then_some(last))
}

/// A key `step` behind `key`, partition and sort taken as one number; the next table begins with the first step again.
fn beyond(key: &[u8], step: &mut u128) -> Option<Vec<u8>> {
    let mut padded = [0; KEY_BYTES];
    let len = key.len().min(KEY_BYTES);
    padded.get_mut(..len)?.copy_from_slice(key.get(..len)?);
    let (table, place) = padded.split_first()?;
    let place = u128::from_be_bytes(place.try_into().ok()?);
    let (table, place) = match place.checked_add(*step) {
        Some(place) => (*table, place),
        None => {
            *step = STEP_FIRST;
            (table.checked_add(1)?, 0)
        }
    };
    let mut next = vec![table];
    next.extend(place.to_be_bytes());
    Some(next)
}

/// Puts the journals' batches onto the rows, those that are in whole tables left out; the last batch there is.
fn read_journals(dir: &Path, flushed: Option<u64>, found: &mut Salvaged) -> Result<u64, EngineError> {
    let unreadable = |error: io::Error| io_error("read the metadata journal in", dir, &error);
    let mut last = flushed;
    let mut first = None;
    let mut missing = Vec::new();
    let mut spans = Vec::new();
    for (_, path) in journals(dir).map_err(unreadable)? {
        let bytes = fs::read(&path).map_err(unreadable)?;
        let damaged = read_all(&bytes, |batch| {
            if flushed.is_some_and(|flushed| batch.number <= flushed) {
                return;
            }
            first.get_or_insert(batch.number);
            if let Some(before) = last.filter(|before| batch.number > before + 1) {
                missing.push((before + 1, batch.number - 1));
            }
            last = Some(last.unwrap_or(0).max(batch.number));
            for (key, value) in batch.rows {
                match value {
                    Some(value) => found.rows.insert(key.to_vec(), value.to_vec()),
                    None => found.rows.remove(key),
                };
            }
        });
        spans.extend(damaged.into_iter().map(|(from, to)| format!("bytes {from} to {to} of {}", path.display())));
    }
    if flushed.is_none() && missing.is_empty() && first.is_some_and(|first| first <= 1) {
        // The journals reach back to the beginning, so the tables are not missed.
        found.lost.clear();
    }
    if !missing.is_empty() {
        // Damage of what lies in tables, too, costs nothing.
        found.lost.extend(spans);
    }
    for (from, to) in missing {
        found.lost.push(format!("{} batches of changes (numbers {from} to {to})", to - from + 1));
    }
    Ok(last.unwrap_or(0))
}

/// A name beside `dir` that nothing has.
pub(crate) fn aside(dir: &Path, word: &str) -> PathBuf {
    let with = |suffix: String| {
        let mut name = dir.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let first = with(format!(".{word}"));
    if !first.exists() {
        return first;
    }
    (2_u32..).map(|number| with(format!(".{word}-{number}"))).find(|path| !path.exists()).unwrap_or(first)
}
