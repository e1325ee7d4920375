//! Reads fjall's journals before fjall does: it ends a journal at the first entry that makes no sense, and cuts off what
//! comes after, whatever that was.
//!
//! Never writes. Always: a journal that does not hold all that was synced is named and refused, so that nothing is cut off
//! that a salvage could bring back; only the torn end of what was never synced passes.

use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::WRITER_KEY;
use super::mark::Mark;
use crate::engine::EngineError;

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";
/// The keyspace of the rows; fjall numbers them from 1.
const ROWS_KEYSPACE: u64 = 1;
/// Value types of fjall: a value, and the two kinds of a removal.
const VALUE: u8 = 0;
const REMOVALS: [u8; 2] = [1, 2];
/// Bytes of an item besides its key and value.
const ITEM_BYTES: usize = 21;
/// Greater steps of the sequence number are damage, which no checksum covers.
const SEQNO_STEP_MAX: u64 = 1 << 32;

/// One batch of a journal.
pub(super) struct JournalBatch<'a> {
    pub(super) seqno: u64,
    /// The batch number that its writer row tells.
    pub(super) number: u64,
    /// Keys with their values, or that they are gone.
    pub(super) rows: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// Where the next batch begins.
    end: usize,
}

/// What a journal holds from its beginning on.
#[derive(Debug, Default)]
struct Prefix {
    /// Bytes that are whole batches.
    end: usize,
    /// Numbers of the first and the last batch.
    numbers: Option<(u64, u64)>,
    /// What follows is nothing but zeros.
    clean: bool,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.get_mut(..N)?.copy_from_slice(self.take(N)?);
        Some(u64::from_le_bytes(bytes))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
}

/// The batch at `at`, if there is a whole one.
pub(super) fn batch_at(bytes: &[u8], at: usize) -> Option<JournalBatch<'_>> {
    let mut reader = Reader { rest: bytes.get(at..)? };
    if reader.byte()? != TAG_START {
        return None;
    }
    let count = usize::try_from(reader.number::<4>()?).ok()?;
    let seqno = reader.number::<8>()?;
    if count.checked_mul(ITEM_BYTES)? > reader.rest.len() {
        return None;
    }
    let items = reader.rest;
    let mut rows = Vec::with_capacity(count);
    let mut number = None;
    for _ in 0..count {
        if reader.byte()? != TAG_ITEM {
            return None;
        }
        let kind = reader.byte()?;
        let compression = reader.byte()?;
        let keyspace = reader.number::<8>()?;
        let key_len = usize::try_from(reader.number::<2>()?).ok()?;
        let value_len = usize::try_from(reader.number::<4>()?).ok()?;
        let stored_len = usize::try_from(reader.number::<4>()?).ok()?;
        let (key, value) = (reader.take(key_len)?, reader.take(value_len)?);
        if compression != 0 || stored_len != value_len || keyspace != ROWS_KEYSPACE {
            return None;
        }
        match kind {
            VALUE if key == WRITER_KEY => number = value.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)),
            VALUE => rows.push((key, Some(value))),
            kind if REMOVALS.contains(&kind) => rows.push((key, None)),
            _ => return None,
        }
    }
    let len = items.len() - reader.rest.len();
    if reader.byte()? != TAG_END {
        return None;
    }
    let checksum = reader.number::<8>()?;
    if reader.take(TRAILER.len())? != TRAILER || xxhash_rust::xxh3::xxh3_64(items.get(..len)?) != checksum {
        return None;
    }
    Some(JournalBatch { seqno, number: number?, rows, end: bytes.len() - reader.rest.len() })
}

/// Calls `each` for every whole batch, also behind damage; the spans that are none, zeros at the end left out.
pub(super) fn read_all<'a>(bytes: &'a [u8], mut each: impl FnMut(JournalBatch<'a>)) -> Vec<(usize, usize)> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut damaged = Vec::new();
    let mut at = 0;
    while at < used {
        if let Some(batch) = batch_at(bytes, at) {
            at = batch.end;
            each(batch);
            continue;
        }
        let next = (at + 1..used).find(|next| batch_at(bytes, *next).is_some()).unwrap_or(used);
        damaged.push((at, next));
        at = next;
    }
    damaged
}

fn prefix(bytes: &[u8]) -> Prefix {
    let mut prefix = Prefix::default();
    let mut seqno = None;
    while let Some(batch) = batch_at(bytes, prefix.end) {
        let follows = seqno.is_none_or(|last| batch.seqno > last && batch.seqno - last < SEQNO_STEP_MAX);
        let counts = prefix.numbers.is_none_or(|(_, last)| batch.number == last || batch.number == last + 1);
        if !follows || !counts {
            return prefix;
        }
        seqno = Some(batch.seqno);
        prefix.numbers = Some((prefix.numbers.map_or(batch.number, |(first, _)| first), batch.number));
        prefix.end = batch.end;
    }
    prefix.clean = bytes.get(prefix.end..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0));
    prefix
}

/// The journals of `dir` with their numbers, in order.
pub(super) fn journals(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (Some(number), true) = (number, path.extension().is_some_and(|extension| extension == "jnl")) {
            all.push((number, path));
        }
    }
    all.sort();
    Ok(all)
}

/// Refuses a directory whose journals do not hold what they must.
///
/// # Errors
/// `Damaged`, with the file and the remedy; `Unavailable` when they cannot be read.
pub(super) fn check(dir: &Path) -> Result<(), EngineError> {
    let unreadable = |error: io::Error| super::files::io_error("read the metadata journal in", dir, &error);
    for keyspace in ["0", "1"] {
        let folder = dir.join("keyspaces").join(keyspace);
        if !has_whole_list(&folder) {
            return Err(damaged(dir, &format!("the list of tables in {} makes no sense", folder.display())));
        }
    }
    let mark = Mark::read(dir);
    let all = journals(dir).map_err(unreadable)?;
    let newest = all.last().map(|(id, _)| *id);
    if let Some(mark) = mark
        && newest.is_none_or(|newest| newest < mark.journal)
    {
        return Err(damaged(dir, &format!("its journal {}.jnl is missing", mark.journal)));
    }
    let mut last_number = None;
    for (id, path) in &all {
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let found = prefix(&bytes);
        let at = path.display();
        if let (Some(before), Some((first, _))) = (last_number, found.numbers)
            && first > before + 1
        {
            return Err(damaged(dir, &format!("changes {} to {} are missing before {at}", before + 1, first - 1)));
        }
        last_number = found.numbers.map(|(_, last)| last).or(last_number);
        let is_newest = newest == Some(*id);
        let is_short = mark.is_some_and(|mark| mark.journal == *id && last_number.unwrap_or(0) < mark.number);
        if is_short || !found.clean && !is_newest {
            return Err(damaged(dir, &format!("its journal {at} makes no sense from byte {} on", found.end)));
        }
        if !found.clean {
            warn!(
                journal = %at,
                from = found.end,
                "the end of the metadata journal is torn, as after a power cut or a kill; what it held was never synced and is forgotten"
            );
        }
    }
    Ok(())
}

/// Is the list of a keyspace's tables the one that `current` tells of? fjall does not look, and removes tables that are not
/// in the list, and a keyspace that has none, as leftovers.
fn has_whole_list(folder: &Path) -> bool {
    let whole = || {
        let current = std::fs::read(folder.join("current")).ok()?;
        let (id, rest) = current.split_first_chunk::<8>()?;
        let checksum = u128::from_le_bytes(*rest.first_chunk::<16>()?);
        let list = std::fs::read(folder.join(format!("v{}", u64::from_le_bytes(*id)))).ok()?;
        Some(xxhash_rust::xxh3::xxh3_128(&list) == checksum)
    };
    whole().unwrap_or(false)
}

/// The sentence for a directory that only a salvage can open.
pub(super) fn damaged(dir: &Path, what: &str) -> EngineError {
    let volume = dir.parent().unwrap_or(dir).display();
    EngineError::Damaged(format!(
        "{}: {what}; it is not opened, so that nothing is lost silently. Restore it from a backup, or let `dgfs fsck --salvage --data-dir {volume}` \
         bring back what is readable and name what is lost",
        dir.display()
    ))
}
