//! Makes a usable volume of what is readable of a damaged embedded one.
//!
//! Never opens file contents, and never removes the damaged metadata: they are moved aside. Always: what could not be kept
//! is named; numbers that lost changes may have used are not used again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dgfs_proto::ids::Seq;
use dgfs_proto::name::{Name, name_hash};

use crate::engine::fjall::{FjallEngine, aside, salvage_rows};
use crate::engine::{Batch, Durability, Engine, EngineError, RowKey, Table};
use crate::rows::{Counters, Row, key};

mod tree;

use tree::Rows;

/// Rows in one batch of the new engine.
const BATCH_ROWS: usize = 2048;
/// Lost changes may have used numbers behind the last that is known: far fewer than these.
const NUMBERS_SKIPPED: u64 = 1 << 32;

/// What a salvage did.
#[derive(Debug, Default)]
pub struct Report {
    /// Where the damaged metadata are now.
    pub damaged: PathBuf,
    /// Files and directories of the volume as it is now.
    pub inodes: u64,
    /// What is lost, in sentences.
    pub lost: Vec<String>,
}

/// Salvages the metadata in `meta` (the `meta` directory of an embedded volume, which nobody uses).
///
/// # Errors
/// Nothing usable is there, or the disk refuses; then everything is as before.
pub async fn salvage(meta: &Path) -> Result<Report, EngineError> {
    let found = salvage_rows(meta, &aside(meta, "salvaging"))?;
    let mut report = Report { lost: found.lost, ..Report::default() };
    let mut rows = decode(found.rows, &mut report.lost);
    let Some(Row::Volume(volume)) = rows.get(&key::VOLUME).cloned() else {
        return Err(EngineError::Damaged(format!(
            "the row that describes the volume in {} is lost, so nothing can be salvaged: restore it from a backup",
            meta.display()
        )));
    };
    let mut counters = match rows.get(&key::COUNTERS) {
        Some(Row::Counters(counters)) => *counters,
        Some(_) | None => Counters::default(),
    };
    skip_numbers(&mut counters, &rows);
    let hash = |name: &Name| name_hash(volume.uuid, name.as_bytes());
    tree::mend(&mut rows, &mut counters, hash, &mut report.lost);
    report.inodes = counters.inodes;
    rows.insert(key::COUNTERS, Row::Counters(counters));
    let made = aside(meta, "salvaged");
    write(&made, rows).await?;
    report.damaged = aside(meta, "damaged");
    let swap = |from: &Path, to: &Path| {
        dgfs_runtime::disk::rename_durably(from, to).map_err(|error| {
            EngineError::Unavailable(format!("rename {} to {}: {error}", from.display(), to.display()))
        })
    };
    swap(meta, &report.damaged)?;
    swap(&made, meta)?;
    Ok(report)
}

fn decode(stored: BTreeMap<Vec<u8>, Vec<u8>>, lost: &mut Vec<String>) -> Rows {
    let mut rows = Rows::new();
    for (bytes, value) in stored {
        let Some(key) = decode_key(&bytes) else {
            lost.push(format!("a row whose key makes no sense ({} bytes)", bytes.len()));
            continue;
        };
        match key.table {
            // Nobody is mounted, who follows the change log begins anew, and the journal, too.
            Table::Session | Table::Answer | Table::Lock | Table::Log | Table::Consumer | Table::Watch => continue,
            _ => {}
        }
        match Row::decode(key, &value) {
            Ok(row) => drop(rows.insert(key, row)),
            Err(error) => lost.push(error.to_string()),
        }
    }
    rows
}

fn decode_key(bytes: &[u8]) -> Option<RowKey> {
    let (table, rest) = bytes.split_first()?;
    let (partition, sort) = rest.split_first_chunk::<8>()?;
    Some(RowKey {
        table: crate::format::TABLES.into_iter().find(|known| *known as u8 == *table)?,
        partition: u64::from_be_bytes(*partition),
        sort: u64::from_be_bytes(sort.try_into().ok()?),
    })
}

fn skip_numbers(counters: &mut Counters, rows: &Rows) {
    let highest = |table: Table| rows.keys().filter(|key| key.table == table).map(|key| key.sort).max().unwrap_or(0);
    let highest_tag = rows.keys().filter(|key| key.table == Table::Tag && key.partition == 0).map(|key| key.sort).max();
    let used = highest(Table::Inode).max(highest_tag.unwrap_or(0));
    counters.next_ino = counters.next_ino.max(used + 1) + NUMBERS_SKIPPED;
    counters.next_chunk += NUMBERS_SKIPPED;
    counters.next_version += NUMBERS_SKIPPED;
    counters.next_session += NUMBERS_SKIPPED;
    counters.next_garbage = counters.next_garbage.max(highest(Table::Garbage) + 1);
    counters.seq = Seq(counters.seq.0 + NUMBERS_SKIPPED);
    counters.trimmed = counters.seq;
    counters.data_synced = counters.seq;
    counters.shares = rows.keys().filter(|key| key.table == Table::Shared).count() as u64;
}

async fn write(dir: &Path, rows: Rows) -> Result<(), EngineError> {
    let engine = FjallEngine::create(dir)?;
    let lease = engine.acquire("dgfs fsck --salvage".to_owned()).await?;
    let lease = lease.ok_or_else(|| EngineError::Refused(format!("{} is in use", dir.display())))?;
    let mut number = lease.last_batch;
    let mut rows = rows.into_iter().map(|(key, row)| (key, Some(row.encode()))).peekable();
    while rows.peek().is_some() {
        number += 1;
        let rows = rows.by_ref().take(BATCH_ROWS).collect();
        engine.commit(lease.epoch, Batch::of(number, rows), Durability::Handed).await?;
    }
    engine.sync().await?;
    engine.release(lease.epoch).await
}

#[cfg(test)]
mod tests;
