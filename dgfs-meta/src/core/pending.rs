//! Rows on their way to the engine.
//!
//! Never decides when. Always: of several changes of a row the last one goes, and a row counts as new only if the engine
//! surely does not have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::RowKey;
use crate::rows::Row;

/// Rows that go into the next batch, the last change of each.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) rows: BTreeMap<RowKey, Option<Arc<Row>>>,
    /// Those that the engine surely does not have.
    pub(crate) new: BTreeSet<RowKey>,
}

impl Pending {
    /// Changes a row; `absent` says that it was not there before.
    pub(crate) fn change(&mut self, key: RowKey, row: Option<Arc<Row>>, absent: bool) {
        // What this batch has removed before, the engine may have.
        if self.rows.insert(key, row).is_none() && absent {
            self.new.insert(key);
        }
    }
}
