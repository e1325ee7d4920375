//! A second copy of the few rows without which nothing else of a volume is of use, for a salvage.
//!
//! Never read but by a salvage, and never newer than the rows themselves. Always whole, or it counts as missing.

use std::path::Path;

use fjall::Keyspace;

use dgfs_runtime::disk::write_atomically_with_mode;

use crate::engine::Table;

const NAME: &str = "facts";
/// What describes the volume and its storage; the counters change with each batch and are left out.
const TABLES: [Table; 2] = [Table::Volume, Table::Server];
const COUNTERS_SORT: [u8; 8] = 1_u64.to_be_bytes();
/// Rows at most: servers of a cluster are never so many.
const ROWS_MAX: usize = 4096;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Renews the copy where it differs. A failure is none of the volume's: the copy is only the second one.
pub(super) fn keep(dir: &Path, rows: &Keyspace) {
    let mut facts = Rows::new();
    for table in TABLES {
        for entry in rows.range([table as u8]..[table as u8 + 1]).take(ROWS_MAX) {
            let Ok((key, value)) = entry.into_inner() else { return };
            if !(table == Table::Volume && key.ends_with(&COUNTERS_SORT)) {
                facts.push((key.to_vec(), value.to_vec()));
            }
        }
    }
    let Ok(mut bytes) = postcard::to_extend(&facts, Vec::new()) else { return };
    bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
    let path = dir.join(NAME);
    if std::fs::read(&path).is_ok_and(|known| known == bytes) {
        return;
    }
    if let Err(error) = write_atomically_with_mode(&path, &bytes, 0o600) {
        tracing::debug!(%error, path = %path.display(), "no second copy of the volume's facts");
    }
}

/// The copy.
pub(super) fn read(dir: &Path) -> Rows {
    let whole = || {
        let bytes = std::fs::read(dir.join(NAME)).ok()?;
        let (words, checksum) = bytes.split_last_chunk::<8>()?;
        let whole = xxhash_rust::xxh3::xxh3_64(words).to_le_bytes() == *checksum;
        postcard::from_bytes(words).ok().filter(|_| whole)
    };
    whole().unwrap_or_default()
}
