//! Rows come from the engine and are decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::error;

use dgfs_proto::status::Status;

use crate::core::{Core, LoadedRange, Need};
use crate::engine::{EngineError, EngineFuture, RowKey, RowRange, Table};
use crate::rows::{Row, RowError};
use crate::service::active::Active;

/// What an engine brought.
pub(crate) enum Loaded {
    Rows(Vec<(RowKey, Option<Arc<Row>>)>),
    Range(RowRange, Vec<(RowKey, Arc<Row>)>),
}

impl Loaded {
    /// Puts the rows into memory, where memory does not know better.
    pub(crate) fn install(&self, core: &mut Core) -> Option<LoadedRange> {
        match self {
            Self::Rows(rows) => {
                core.install(rows);
                None
            }
            Self::Range(range, rows) => Some(core.install_range(*range, rows)),
        }
    }
}

fn refused(error: &RowError) -> Option<Status> {
    error!(%error, "a metadata row cannot be read; run `dgfs fsck`");
    Some(Status::Corrupt)
}

/// Rows of one inode partition.
const PARTITION_ROWS_MAX: usize = 64;
/// So many keys at once are a page of a directory: their neighbours will be asked for next.
const DENSE_MIN: usize = 32;

impl Active {
    /// Many keys of an embedded engine: whole partitions are read in order instead of single rows at random. Inodes
    /// made together lie together, so the rest of the directory comes along; not where it would push out what is used,
    /// or a directory that is larger than the memory would be read many times over.
    async fn load_dense(&self, keys: Vec<RowKey>) -> Result<Loaded, Option<Status>> {
        let mut wanted: BTreeMap<(Table, u64), BTreeSet<u64>> = BTreeMap::new();
        for key in &keys {
            wanted.entry((key.table, key.partition)).or_default().insert(key.sort);
        }
        let mut rows = Vec::with_capacity(keys.len());
        for ((table, partition), mut sorts) in wanted {
            let (Some(first), Some(last)) = (sorts.first().copied(), sorts.last().copied()) else { continue };
            let whole = table == Table::Inode;
            let (from, to) = if whole { (0, u64::MAX) } else { (first, last) };
            let limit = if whole { PARTITION_ROWS_MAX } else { sorts.len() };
            let range = RowRange { table, partition, from, to, limit };
            let found = self.reading("list metadata", || self.engine.list(range)).await?;
            let full = found.len() == limit;
            for (key, bytes) in found {
                let row = Row::decode(key, &bytes).map_err(|error| refused(&error))?;
                sorts.remove(&key.sort);
                rows.push((key, Some(Arc::new(row))));
            }
            // Not found: known not to exist, unless the page ended before it.
            let reached = rows.last().map_or(0, |(key, _)| key.sort);
            let absent = sorts.into_iter().filter(|sort| !full || *sort < reached);
            rows.extend(absent.map(|sort| (RowKey { table, partition, sort }, None)));
        }
        Ok(Loaded::Rows(rows))
    }

    fn has_room(&self) -> bool {
        self.core.lock().has_room()
    }

    /// Reads with patience. Damage fails the one operation that meets it: the rest of the volume can be used.
    async fn reading<T>(&self, step: &str, call: impl Fn() -> EngineFuture<T>) -> Result<T, Option<Status>> {
        match call().await {
            Ok(value) => Ok(value),
            Err(EngineError::Damaged(why)) => {
                error!(error = %why, "metadata cannot be read");
                Err(Some(Status::Corrupt))
            }
            Err(_) => self.persistently(step, call).await.map_err(|_| None),
        }
    }

    /// Loads what an attempt needs. `Err(None)`: this writer is dead.
    pub(crate) async fn load(&self, need: Need) -> Result<Loaded, Option<Status>> {
        match need {
            Need::Rows(keys) if self.options.exclusive && keys.len() >= DENSE_MIN && self.has_room() => {
                self.load_dense(keys).await
            }
            Need::Rows(keys) => {
                let bytes = self.reading("load metadata", || self.engine.load(keys.clone())).await?;
                let mut rows = Vec::with_capacity(keys.len());
                for (key, bytes) in keys.into_iter().zip(bytes) {
                    let row = bytes.map(|bytes| Row::decode(key, &bytes)).transpose();
                    rows.push((key, row.map_err(|error| refused(&error))?.map(Arc::new)));
                }
                Ok(Loaded::Rows(rows))
            }
            Need::Range(range) => {
                let found = self.reading("list metadata", || self.engine.list(range)).await?;
                let mut rows = Vec::new();
                for (key, bytes) in found {
                    let row = Row::decode(key, &bytes).map_err(|error| refused(&error))?;
                    rows.push((key, Arc::new(row)));
                }
                Ok(Loaded::Range(range, rows))
            }
        }
    }
}
