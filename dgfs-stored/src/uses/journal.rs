//! The table of uses on the disk: a file to which changed rows are appended, written anew when it has grown.
//!
//! Never synced when it is appended to: a killed process loses what was counted since the last save, a power cut what the
//! kernel had not written yet. Always: a block is taken as a whole or not at all, by its checksum; behind a damaged one the
//! file counts for nothing, and what was read before it stays.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dgfs_proto::ids::ChunkId;
use dgfs_runtime::disk;

use super::{Use, Uses};
use crate::record::Fields;

const MAGIC: &[u8; 8] = b"DGFSUSE1";
const FILE: &str = "chunk-uses";
const FILE_OLD: &str = "counters";
const FILE_NEW: &str = "chunk-uses.new";
/// Bytes of a row.
const ROW: usize = 52;
/// Count and checksum in front of a block's rows.
const BLOCK_HEAD: usize = 8;
/// Rows of one block.
const BLOCK_ROWS_MAX: usize = 4096;
/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;
/// The file is written anew when it has more than twice the rows of the table, and so many.
const GROWN_ROWS: u64 = 128 << 10;
/// Blocks a file can have: each save may end with a short one, and a file that is longer is none of ours.
const BLOCKS_MAX: usize = 4 << 20;

/// The file.
pub(crate) struct Journal {
    directory: PathBuf,
    /// Where the next block goes; none: the file has to be written anew first.
    end: Option<u64>,
    rows: u64,
    is_failing: bool,
}

impl Journal {
    /// The file in `directory`, and what it says. A missing one is an empty table; so is, with a warning, what is damaged.
    pub(crate) fn open(directory: &Path) -> (Self, Uses) {
        // Of builds that kept 65,536 chunks at most; nobody reads it any more.
        let _ = std::fs::remove_file(directory.join(FILE_OLD));
        let uses = Uses::default();
        let mut journal = Self { directory: directory.to_owned(), end: None, rows: 0, is_failing: false };
        match File::open(directory.join(FILE)) {
            Ok(file) => match load(&uses, file) {
                Ok((end, rows)) => (journal.end, journal.rows) = (Some(end), rows),
                Err(reason) => {
                    tracing::warn!(
                        reason,
                        kept = uses.len(),
                        "the counts by chunk are damaged; what is behind the damage is lost, and counting goes on from the rest"
                    );
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the counts by chunk cannot be read; counting begins anew"),
        }
        // What was read is on the disk already.
        uses.changes().for_each(drop);
        (journal, uses)
    }

    /// Brings the file up to the table. A failure is logged, and the whole table is tried next time. Blocks.
    pub(crate) fn save(&mut self, uses: &Uses) {
        let saved = match self.end {
            Some(end) if self.rows <= GROWN_ROWS.max(uses.len() as u64 * 2) => self.append(uses, end),
            Some(_) | None => self.write_anew(uses),
        };
        match saved {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.end = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "the counts by chunk could not be saved; it is tried again");
                }
            }
        }
    }

    fn append(&mut self, uses: &Uses, end: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.directory.join(FILE))?;
        let (mut rows, mut out, mut end) = (Vec::new(), Vec::new(), end);
        for changes in uses.changes() {
            if changes.is_incomplete {
                return self.write_anew(uses);
            }
            // First what is gone: a chunk may have come back since.
            rows.extend(changes.gone.into_iter().map(Use::new).chain(changes.rows));
            if rows.len() >= BLOCK_ROWS_MAX {
                self.rows += rows.len() as u64;
                encode(&rows, &mut out);
                rows.clear();
            }
            if out.len() >= WRITE_BYTES {
                file.write_all_at(&out, end)?;
                end += out.len() as u64;
                out.clear();
            }
        }
        self.rows += rows.len() as u64;
        encode(&rows, &mut out);
        file.write_all_at(&out, end)?;
        self.end = Some(end + out.len() as u64);
        Ok(())
    }

    fn write_anew(&mut self, uses: &Uses) -> io::Result<()> {
        let (new, path) = (self.directory.join(FILE_NEW), self.directory.join(FILE));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(MAGIC)?;
        let (mut end, mut count) = (MAGIC.len() as u64, 0);
        let mut out = Vec::new();
        for rows in uses.all() {
            out.clear();
            encode(&rows, &mut out);
            file.write_all(&out)?;
            end += out.len() as u64;
            count += rows.len() as u64;
        }
        disk::sync_file(&file)?;
        disk::rename_durably(&new, &path)?;
        (self.end, self.rows) = (Some(end), count);
        Ok(())
    }
}

fn encode(rows: &[Use], out: &mut Vec<u8>) {
    for rows in rows.chunks(BLOCK_ROWS_MAX) {
        let mut block = Vec::with_capacity(rows.len() * ROW);
        for row in rows {
            for field in [row.chunk.get(), row.reads, row.writes, row.read_bytes, row.write_bytes] {
                block.extend_from_slice(&field.to_le_bytes());
            }
            for field in [row.errors, row.last_use, row.bytes] {
                block.extend_from_slice(&field.to_le_bytes());
            }
        }
        out.extend_from_slice(&u32::try_from(rows.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
        out.extend_from_slice(&block);
    }
}

/// Takes the blocks of a file; where the last one ends, and how many rows they have. The error says what is wrong.
fn load(uses: &Uses, file: File) -> Result<(u64, u64), String> {
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
        return Err("it does not begin as such a file does".to_owned());
    }
    let (mut end, mut rows) = (MAGIC.len() as u64, 0);
    for _ in 0..BLOCKS_MAX {
        match block(&mut file).map_err(|reason| format!("at byte {end}: {reason}"))? {
            None => return Ok((end, rows)),
            Some(block) => {
                let mut read = Fields(&block);
                while let Some(row) = decode(&mut read) {
                    rows += 1;
                    take(uses, row);
                }
                end += (BLOCK_HEAD + block.len()) as u64;
            }
        }
    }
    Err(format!("it has more than {BLOCKS_MAX} blocks"))
}

/// The rows of the next block; none at the end.
fn block(file: &mut impl Read) -> Result<Option<Vec<u8>>, String> {
    let mut head = [0; BLOCK_HEAD];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(|error| error.to_string())? {
            0 if filled == 0 => return Ok(None),
            0 => return Err("it ends in the middle of a block".to_owned()),
            count => filled += count,
        }
    }
    let mut read = Fields(&head);
    let count = read.u32().unwrap_or(0) as usize;
    if count == 0 || count > BLOCK_ROWS_MAX {
        return Err(format!("a block cannot have {count} rows"));
    }
    let mut rows = vec![0; count * ROW];
    file.read_exact(&mut rows).map_err(|_| "it ends in the middle of a block".to_owned())?;
    let is_whole = read.u32() == Some(crc32c::crc32c(&rows));
    if is_whole { Ok(Some(rows)) } else { Err("a block does not match its checksum".to_owned()) }
}

fn decode(read: &mut Fields<'_>) -> Option<Use> {
    let mut row = Use::new(ChunkId::new(read.u64()?)?);
    (row.reads, row.writes, row.read_bytes, row.write_bytes) = (read.u64()?, read.u64()?, read.u64()?, read.u64()?);
    (row.errors, row.last_use, row.bytes) = (read.u32()?, read.u32()?, read.u32()?);
    Some(row)
}

/// A row without a use says that the chunk is gone.
fn take(uses: &Uses, row: Use) {
    if row == Use::new(row.chunk) {
        uses.remove(row.chunk);
    } else {
        uses.restore(row);
    }
}
