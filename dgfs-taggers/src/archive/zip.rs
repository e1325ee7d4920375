//! Reads ZIP archives: their listing, and single members for the document formats that are ZIPs.
//!
//! Never unpacks more than its caller allows, whatever the archive says about sizes, and believes no offset that it has
//! not checked. Where the end of the file is not at hand, the headers before each member are listed instead. After
//! PKWARE's APPNOTE 6.3; stored and deflated members are read.

use std::io::Read;

use flate2::read::DeflateDecoder;

use super::{Listing, Member};
use crate::job::Job;
use crate::tagger::TaggerError;

/// Entries that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Bytes from the end within which the directory's end must lie: the longest comment and the record itself.
const END_BYTES_MAX: usize = 65_535 + 22;
/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 4096;
const ENCRYPTED: u16 = 1;
const SIZE_FOLLOWS: u16 = 8;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Where a member lies.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    flags: u16,
    method: u16,
    packed: u64,
    unpacked: u64,
    /// Of its own header.
    offset: u64,
}

/// An archive whose directory is read.
pub(crate) struct Zip<'a> {
    bytes: &'a [u8],
    entries: Vec<Entry>,
    /// Whether the directory was at hand and all of it was read.
    is_whole: bool,
}

/// Lists an archive.
pub(crate) fn list(job: &Job<'_>) -> Result<Listing, TaggerError> {
    let zip = Zip::open(job.bytes)?;
    let mut listing = Listing { is_whole: zip.is_whole && job.is_whole(), ..Listing::default() };
    for entry in &zip.entries {
        let is_encrypted = entry.flags & ENCRYPTED != 0;
        listing.add(Member { name: entry.name.clone(), size: entry.unpacked, is_encrypted });
    }
    Ok(listing)
}

impl<'a> Zip<'a> {
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, TaggerError> {
        if let Some(entries) = central(bytes) {
            return Ok(Self { bytes, is_whole: entries.len() < ENTRIES_MAX, entries });
        }
        let entries = local(bytes);
        if entries.is_empty() {
            return Err(TaggerError::malformed("ZIP", "neither a directory at its end nor a member at its beginning"));
        }
        Ok(Self { bytes, entries, is_whole: false })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// The member's content, at most `bytes_max` bytes of it; `None` if there is no such member or it cannot be read.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        if entry.flags & ENCRYPTED != 0 {
            return None;
        }
        let start = usize::try_from(entry.offset).ok()?;
        let header = self.bytes.get(start..)?.get(..30).filter(|header| header.starts_with(b"PK\x03\x04"))?;
        let data = start + 30 + usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
        let rest = self.bytes.get(data..)?;
        let packed = usize::try_from(entry.packed).ok().and_then(|len| rest.get(..len)).unwrap_or(rest);
        let mut content = Vec::new();
        match entry.method {
            STORED => packed.take(bytes_max).read_to_end(&mut content).ok()?,
            // A broken end leaves what came before it.
            DEFLATED => DeflateDecoder::new(packed).take(bytes_max).read_to_end(&mut content).unwrap_or(content.len()),
            _ => return None,
        };
        Some(content)
    }
}

/// The directory at the archive's end.
fn central(bytes: &[u8]) -> Option<Vec<Entry>> {
    let from = bytes.len().saturating_sub(END_BYTES_MAX);
    let tail = bytes.get(from..)?;
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let record = tail.get(end..)?.get(..22)?;
    let mut offset = u64::from(u32_at(record, 16)?);
    let size = u64::from(u32_at(record, 12)?);
    if offset == u64::from(u32::MAX) {
        offset = zip64_offset(tail, end, bytes)?;
    } else {
        // Something may stand before the archive (a program that unpacks itself): offsets count from its beginning.
        let expected = (from + end) as u64;
        let shift = expected.checked_sub(size)?.checked_sub(offset)?;
        if shift != 0 {
            offset = offset.checked_add(shift)?;
        }
    }
    let mut at = usize::try_from(offset).ok()?;
    let mut entries = Vec::new();
    while entries.len() < ENTRIES_MAX {
        let Some(header) = bytes.get(at..).filter(|header| header.starts_with(b"PK\x01\x02")) else { break };
        let (entry, len) = central_entry(header)?;
        entries.push(entry);
        at += len;
    }
    (!entries.is_empty() || size == 0).then_some(entries)
}

fn zip64_offset(tail: &[u8], end: usize, bytes: &[u8]) -> Option<u64> {
    let locator = tail.get(end.checked_sub(20)?..end)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return None;
    }
    let record = usize::try_from(u64_at(locator, 8)?).ok()?;
    let record = bytes.get(record..)?.get(..56)?;
    if record.starts_with(b"PK\x06\x06") { u64_at(record, 48) } else { None }
}

fn central_entry(header: &[u8]) -> Option<(Entry, usize)> {
    let name_len = usize::from(u16_at(header, 28)?);
    let extra_len = usize::from(u16_at(header, 30)?);
    let len = 46 + name_len + extra_len + usize::from(u16_at(header, 32)?);
    let flags = u16_at(header, 8)?;
    let name = name(header.get(46..46 + name_len)?, flags);
    let mut entry = Entry {
        name,
        flags,
        method: u16_at(header, 10)?,
        packed: u64::from(u32_at(header, 20)?),
        unpacked: u64::from(u32_at(header, 24)?),
        offset: u64::from(u32_at(header, 42)?),
    };
    large_sizes(&mut entry, header.get(46 + name_len..46 + name_len + extra_len).unwrap_or_default());
    Some((entry, len))
}

/// Sizes of more than 4 GiB stand in the extra field 1, in this order, each only where its own field is full.
fn large_sizes(entry: &mut Entry, mut extra: &[u8]) {
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = 4 + usize::from(len);
        if id == 1 {
            let mut at = 4;
            for field in [&mut entry.unpacked, &mut entry.packed, &mut entry.offset] {
                if *field == u64::from(u32::MAX)
                    && let Some(value) = u64_at(extra, at)
                {
                    *field = value;
                    at += 8;
                }
            }
            return;
        }
        extra = extra.get(end..).unwrap_or_default();
    }
}

/// The members' own headers, as far as each tells where the next is.
fn local(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at: usize = 0;
    while entries.len() < ENTRIES_MAX {
        let Some(entry) = bytes.get(at..).and_then(|header| local_entry(header, at)) else { break };
        let (entry, len) = entry;
        let is_last = entry.flags & SIZE_FOLLOWS != 0 && entry.packed == 0;
        let next = usize::try_from(entry.packed).ok().and_then(|packed| at.checked_add(len)?.checked_add(packed));
        entries.push(entry);
        match next.filter(|_| !is_last) {
            Some(next) => at = next,
            None => break,
        }
    }
    entries
}

fn local_entry(header: &[u8], at: usize) -> Option<(Entry, usize)> {
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let name_len = usize::from(u16_at(header, 26)?);
    let flags = u16_at(header, 6)?;
    let entry = Entry {
        name: name(header.get(30..30 + name_len)?, flags),
        flags,
        method: u16_at(header, 8)?,
        packed: u64::from(u32_at(header, 18)?),
        unpacked: u64::from(u32_at(header, 22)?),
        offset: at as u64,
    };
    Some((entry, 30 + name_len + usize::from(u16_at(header, 28)?)))
}

/// Old archives spell names in the maker's charset without saying which: Chinese ones in GBK, others in code page 437,
/// whose ASCII part is all that is common.
fn name(bytes: &[u8], flags: u16) -> String {
    const UTF8: u16 = 1 << 11;
    let bytes = bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) if flags & UTF8 != 0 => String::from_utf8_lossy(bytes).into_owned(),
        Err(_) => crate::text::decode::decode(bytes, None, NAME_BYTES_MAX).text,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
