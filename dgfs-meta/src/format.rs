//! Makes a volume in an engine, and reads what volume an engine holds.
//!
//! Never knows a row other than those of the volume itself. Always true: the volume row is
//! written only by the one writer that holds the lease; an engine of a newer format is
//! refused before anything else of it is read.

use dgfs_proto::class::Class;
use dgfs_proto::meta::VolumeInfo;

use crate::engine::{Batch, Durability, Engine, EngineError, RowKey, RowRange, Table, WriterLease};
use crate::rows::{Row, SettingsRow, key};

/// The version of rows and events that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Version of the volume row itself: its first byte.
const ROW_VERSION: u8 = 1;
const VOLUME_ROW: RowKey = RowKey { table: Table::Volume, partition: 0, sort: 0 };
/// Rows removed by one batch of [`erase_volume`].
const ERASE_ROWS: usize = 1024;

pub(crate) const TABLES: [Table; 17] = [
    Table::Volume,
    Table::Inode,
    Table::Inline,
    Table::Xattr,
    Table::Dentry,
    Table::Chunks,
    Table::Lock,
    Table::Log,
    Table::Session,
    Table::Answer,
    Table::Garbage,
    Table::Shared,
    Table::Orphan,
    Table::Server,
    Table::Consumer,
    Table::Tag,
    Table::Watch,
];

/// Writes the volume row, and `class` as the class of its data, synced.
///
/// # Errors
/// `Refused` when a volume is there already or a metadata service runs on the engine; whatever the engine answers.
pub async fn format_volume(engine: &dyn Engine, volume: &VolumeInfo, class: Class) -> Result<(), EngineError> {
    let lease = take(engine, "dgfs format").await?;
    let outcome = write_volume(engine, lease, volume, class).await;
    let released = engine.release(lease.epoch).await;
    outcome.and(released)
}

/// What volume the engine holds.
///
/// # Errors
/// `Refused` when there is none or it is of a newer format; `Damaged` when its row makes no sense.
pub async fn read_volume(engine: &dyn Engine) -> Result<VolumeInfo, EngineError> {
    let row = engine.load(vec![VOLUME_ROW]).await?.pop().flatten();
    match row {
        Some(row) => decode_volume(&row),
        None => Err(EngineError::Refused(format!(
            "{} holds no volume: check its address and name, or make one with dgfs format",
            engine.describe()
        ))),
    }
}

/// Removes every row, for `dgfs format --force`. The volume row goes last, so a removal that was
/// cut off still shows as a volume.
///
/// # Errors
/// `Refused` when a metadata service runs on the engine; whatever the engine answers.
pub async fn erase_volume(engine: &dyn Engine) -> Result<(), EngineError> {
    let lease = take(engine, "dgfs format --force").await?;
    let outcome = erase_rows(engine, lease).await;
    let released = engine.release(lease.epoch).await;
    outcome.and(released)
}

async fn take(engine: &dyn Engine, holder: &str) -> Result<WriterLease, EngineError> {
    engine.acquire(holder.to_owned()).await?.ok_or_else(|| {
        EngineError::Refused(format!(
            "a metadata service is running on {}: stop it, wait a few seconds and try again",
            engine.describe()
        ))
    })
}

async fn write_volume(
    engine: &dyn Engine,
    lease: WriterLease,
    volume: &VolumeInfo,
    class: Class,
) -> Result<(), EngineError> {
    if let Some(row) = engine.load(vec![VOLUME_ROW]).await?.pop().flatten() {
        let what = match decode_volume(&row) {
            Ok(old) => format!("the volume {:?} is already there", old.name),
            Err(error) => format!("a volume is already there that this dgfs cannot read ({error})"),
        };
        return Err(EngineError::Refused(format!("{what}: use a new name, or --force to destroy it")));
    }
    let settings = Row::Settings(SettingsRow { class, ..SettingsRow::default() });
    let rows = vec![(VOLUME_ROW, Some(encode_volume(volume)?)), (key::SETTINGS, Some(settings.encode()))];
    engine.commit(lease.epoch, Batch::of(lease.last_batch + 1, rows), Durability::Synced).await
}

async fn erase_rows(engine: &dyn Engine, lease: WriterLease) -> Result<(), EngineError> {
    let mut number = lease.last_batch;
    for table in TABLES.into_iter().rev() {
        while let Some(partition) = engine.partitions(table, 0, 1).await?.pop() {
            // The row with sort 0 goes last: of the first table it is the volume row.
            let range = RowRange { table, partition, from: 1, to: u64::MAX, limit: ERASE_ROWS };
            let mut rows: Vec<_> = engine.list(range).await?.into_iter().map(|(key, _)| (key, None)).collect();
            if rows.is_empty() {
                rows.push((RowKey { table, partition, sort: 0 }, None));
            }
            number += 1;
            engine.commit(lease.epoch, Batch::of(number, rows), Durability::Handed).await?;
            engine.renew(lease.epoch).await?;
        }
    }
    engine.sync().await
}

fn encode_volume(volume: &VolumeInfo) -> Result<Vec<u8>, EngineError> {
    postcard::to_extend(volume, vec![ROW_VERSION])
        .map_err(|error| EngineError::Refused(format!("cannot write the facts of the volume: {error}")))
}

fn decode_volume(row: &[u8]) -> Result<VolumeInfo, EngineError> {
    let damaged =
        || EngineError::Damaged("the volume row makes no sense: restore the metadata from a backup".to_owned());
    let (version, rest) = row.split_first().ok_or_else(damaged)?;
    if *version > ROW_VERSION {
        return Err(newer(u32::from(*version), u32::from(ROW_VERSION)));
    }
    let volume: VolumeInfo = postcard::from_bytes(rest).map_err(|_| damaged())?;
    if volume.format > FORMAT {
        return Err(newer(volume.format, FORMAT));
    }
    Ok(volume)
}

fn newer(found: u32, known: u32) -> EngineError {
    EngineError::Refused(format!("this volume has format {found}; this dgfs knows {known}: use a newer dgfs"))
}

#[cfg(test)]
mod tests;
