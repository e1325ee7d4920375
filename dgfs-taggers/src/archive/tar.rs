//! Lists tar archives (POSIX.1-1988 ustar with GNU and pax long names).
//!
//! Never keeps a member's content. A header whose checksum is wrong ends the listing.

use std::io::{self, Read};

use super::{Listing, Member};
use crate::tagger::TaggerError;

const BLOCK: usize = 512;
/// Members that are counted: a bound on the work, far above what is listed.
const MEMBERS_MAX: u64 = 1_000_000;
/// Bytes of a long name's record at most.
const LONG_NAME_BYTES_MAX: u64 = 64 << 10;

/// Whether a block is a header.
pub(crate) fn is_tar(block: &[u8; BLOCK]) -> bool {
    block.get(257..262) == Some(b"ustar") && checksum_fits(block)
}

/// Lists an unpacked archive.
pub(crate) fn list(bytes: &[u8]) -> Result<Listing, TaggerError> {
    list_stream(bytes, bytes.len() as u64)
}

/// Lists an archive as it is read, at most `bytes_max` bytes of it.
pub(crate) fn list_stream(input: impl Read, bytes_max: u64) -> Result<Listing, TaggerError> {
    let mut input = input.take(bytes_max);
    let mut listing = Listing::default();
    let mut long_name: Option<String> = None;
    while listing.count < MEMBERS_MAX {
        let mut block = [0; BLOCK];
        if input.read_exact(&mut block).is_err() {
            return Ok(listing);
        }
        if block.iter().all(|byte| *byte == 0) {
            listing.is_whole = true;
            return Ok(listing);
        }
        if !checksum_fits(&block) {
            if listing.count == 0 {
                return Err(TaggerError::malformed("tar", "the first header's checksum is wrong"));
            }
            return Ok(listing);
        }
        let size = number(block.get(124..136).unwrap_or_default());
        let kind = block.get(156).copied().unwrap_or_default();
        match kind {
            b'L' | b'x' if size <= LONG_NAME_BYTES_MAX => {
                let mut record = Vec::new();
                if input.by_ref().take(padded(size)).read_to_end(&mut record).is_err() {
                    return Ok(listing);
                }
                record.truncate(usize::try_from(size).unwrap_or(0));
                long_name = if kind == b'L' { Some(text(&record)) } else { pax_path(&record).or(long_name) };
                continue;
            }
            b'g' | b'K' | b'L' | b'x' => {}
            _ => {
                let name = long_name.take().unwrap_or_else(|| name_of(&block));
                listing.add(Member { name, size, is_encrypted: false });
            }
        }
        // Hard and symbolic links, devices and directories have no content, whatever their size field says.
        let content = if matches!(kind, b'1'..=b'6') { 0 } else { padded(size) };
        if skip(&mut input, content).is_err() {
            return Ok(listing);
        }
    }
    Ok(listing)
}

fn skip(input: &mut impl Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

/// The sum of all bytes with the field itself as spaces.
fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let said = number(block.get(148..156).unwrap_or_default());
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum();
    said == sum
}

/// Octal digits, or GNU's binary form for large sizes.
fn number(field: &[u8]) -> u64 {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        let tail = field.get(field.len().saturating_sub(8)..).unwrap_or_default();
        return tail.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(*byte)).take(21);
    digits.fold(0, |value, byte| value << 3 | u64::from(byte - b'0'))
}

fn name_of(block: &[u8; BLOCK]) -> String {
    let name = text(block.get(..100).unwrap_or_default());
    let prefix = text(block.get(345..500).unwrap_or_default());
    let has_prefix = block.get(257..263) == Some(b"ustar\0") && !prefix.is_empty();
    if has_prefix { format!("{prefix}/{name}") } else { name }
}

fn text(field: &[u8]) -> String {
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(field).into_owned()
}

/// The `path` of a pax header: records `LENGTH KEY=VALUE\n`.
fn pax_path(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?;
    text.lines().find_map(|line| line.split_once(' ')?.1.strip_prefix("path=")).map(str::to_owned)
}
