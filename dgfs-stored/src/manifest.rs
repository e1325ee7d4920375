//! Which segment files there are, and how long the finished ones are: the `segments.list` file.
//!
//! Never needed to read a chunk. It is there so that a file that vanished is missed even when the index is rebuilt from
//! the files that are left. Always: it names no file that compaction removed (it is written before), and it is as new
//! as the mark.

use std::collections::BTreeMap;
use std::path::Path;

use dgfs_runtime::disk;

use crate::record::Fields;

const FILE: &str = "segments.list";
const MAGIC: &[u8; 8] = b"DGFSLST1";

/// Segment numbers and the least length of each file.
pub(crate) type Manifest = BTreeMap<u32, u32>;

/// Replaces the list in `directory`. Blocks.
pub(crate) fn write(directory: &Path, salt: u32, list: &Manifest) -> std::io::Result<()> {
    disk::write_atomically_with_mode(&directory.join(FILE), &encode(list, salt), 0o600)
}

/// The list in `directory`; empty when it is missing or damaged.
pub(crate) fn read(directory: &Path, salt: u32) -> Manifest {
    std::fs::read(directory.join(FILE)).ok().and_then(|bytes| decode(&bytes, salt)).unwrap_or_default()
}

pub(crate) fn encode(list: &Manifest, salt: u32) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (segment, len) in list {
        out.extend_from_slice(&segment.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
    }
    out.extend_from_slice(&crc32c::crc32c_append(salt, &out).to_le_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Manifest> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c_append(salt, body).to_le_bytes() != *crc {
        return None;
    }
    let mut read = Fields(body.strip_prefix(MAGIC)?);
    let mut list = Manifest::new();
    while let Some(segment) = read.u32() {
        list.insert(segment, read.u32()?);
    }
    Some(list)
}
