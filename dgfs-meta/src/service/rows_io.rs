//! Rows come from the engine and are decoded.

use std::sync::Arc;

use tracing::error;

use dgfs_proto::status::Status;

use crate::core::{Core, LoadedRange, Need};
use crate::engine::{RowKey, RowRange};
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

impl Active {
    /// Loads what an attempt needs. `Err(None)`: this writer is dead.
    pub(crate) async fn load(&self, need: Need) -> Result<Loaded, Option<Status>> {
        match need {
            Need::Rows(keys) => {
                let bytes = self.persistently("load metadata", || self.engine.load(keys.clone())).await;
                let bytes = bytes.map_err(|_| None)?;
                let mut rows = Vec::with_capacity(keys.len());
                for (key, bytes) in keys.into_iter().zip(bytes) {
                    let row = bytes.map(|bytes| Row::decode(key, &bytes)).transpose();
                    rows.push((key, row.map_err(|error| refused(&error))?.map(Arc::new)));
                }
                Ok(Loaded::Rows(rows))
            }
            Need::Range(range) => {
                let found = self.persistently("list metadata", || self.engine.list(range)).await;
                let mut rows = Vec::new();
                for (key, bytes) in found.map_err(|_| None)? {
                    let row = Row::decode(key, &bytes).map_err(|error| refused(&error))?;
                    rows.push((key, Arc::new(row)));
                }
                Ok(Loaded::Range(range, rows))
            }
        }
    }
}
