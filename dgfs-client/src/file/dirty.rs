//! Unsent bytes of one chunk, as extents that do not overlap.
//!
//! Never sends. Always: a byte written later hides one written before; a sequential writer fills one growing
//! buffer, so that a full chunk is sealed without a copy.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use dgfs_proto::limits::PATCHES_MAX;

/// What an extent costs beside its bytes.
const EXTENT_OVERHEAD_BYTES: u64 = 128;
/// Runs sealed at once: one patch is left for the inline bytes that the first chunk may have to carry.
pub(crate) const RUNS_MAX: usize = PATCHES_MAX - 1;

/// Unsent bytes of one chunk.
#[derive(Debug)]
pub(crate) struct DirtyChunk {
    extents: BTreeMap<u32, Vec<u8>>,
    /// Sum of the extents' lengths.
    bytes: u32,
    /// Sum of the extents' capacities and their overhead.
    held: u64,
    /// The number of the write that made it dirty.
    pub(crate) born: u64,
    /// When that was.
    pub(crate) since: Instant,
}

/// Bytes taken out to be sent. Patches are sorted, do not overlap, and are slices of `body` in order.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) patches: Vec<(u32, Bytes)>,
    pub(crate) body: Bytes,
    /// Bytes counted against the budget.
    pub(crate) held: u64,
    pub(crate) born: u64,
    pub(crate) since: Instant,
}

impl Sealed {
    /// The first byte behind the last one written.
    pub(crate) fn end(&self) -> u32 {
        self.patches.last().map_or(0, |(offset, bytes)| offset + bytes.len() as u32)
    }

    /// Copies what it has of `offset..offset + target.len()` into `target`.
    pub(crate) fn overlay(&self, offset: u32, target: &mut [u8]) {
        for (start, bytes) in &self.patches {
            paste(offset, target, *start, bytes);
        }
    }

    /// One patch covers all of `offset..offset + len`.
    pub(crate) fn covers(&self, offset: u32, len: u32) -> bool {
        self.patches.iter().any(|(start, bytes)| {
            *start <= offset && u64::from(offset) + u64::from(len) <= u64::from(*start) + bytes.len() as u64
        })
    }

    /// Its bytes inside `offset..offset + len`, without a copy.
    pub(crate) fn pieces(&self, offset: u32, len: u32) -> Vec<(u32, Bytes)> {
        let end = offset + len;
        let mut pieces = Vec::new();
        for (start, bytes) in &self.patches {
            let from = (*start).max(offset);
            let to = (start + bytes.len() as u32).min(end);
            if from < to {
                pieces.push((from, bytes.slice((from - start) as usize..(to - start) as usize)));
            }
        }
        pieces
    }
}

/// Copies the part of `bytes` (which start at `start`) that lies in `target` (which starts at `offset`).
pub(crate) fn paste(offset: u32, target: &mut [u8], start: u32, bytes: &[u8]) {
    let (offset, start) = (u64::from(offset), u64::from(start));
    let from = offset.max(start);
    let to = (offset + target.len() as u64).min(start + bytes.len() as u64);
    if from >= to {
        return;
    }
    let into = target.get_mut((from - offset) as usize..(to - offset) as usize);
    let out = bytes.get((from - start) as usize..(to - start) as usize);
    if let (Some(into), Some(out)) = (into, out) {
        into.copy_from_slice(out);
    }
}

impl DirtyChunk {
    pub(crate) fn new(born: u64, since: Instant) -> Self {
        Self { extents: BTreeMap::new(), bytes: 0, held: 0, born, since }
    }

    /// Bytes counted against the budget.
    pub(crate) const fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Every byte of the chunk is here.
    pub(crate) const fn is_full(&self, chunk_bytes: u32) -> bool {
        self.bytes == chunk_bytes
    }

    /// The first byte behind the last one written.
    pub(crate) fn end(&self) -> u32 {
        self.extents.last_key_value().map_or(0, |(start, bytes)| start + bytes.len() as u32)
    }

    /// Takes a write inside the chunk. `bytes_max` is the chunk's size: no buffer grows past it.
    pub(crate) fn write(&mut self, mut offset: u32, mut data: &[u8], bytes_max: u32) {
        while !data.is_empty() {
            let taken = self.overwrite(offset, data);
            let taken = if taken > 0 { taken } else { self.fill_gap(offset, data, bytes_max) };
            offset += taken as u32;
            data = data.get(taken..).unwrap_or_default();
        }
    }

    /// Writes over the extent that holds `offset`, if one does; bytes taken.
    fn overwrite(&mut self, offset: u32, data: &[u8]) -> usize {
        let Some((start, bytes)) = self.extents.range_mut(..=offset).next_back() else { return 0 };
        let at = (offset - start) as usize;
        let taken = bytes.len().saturating_sub(at).min(data.len());
        if let (Some(into), Some(out)) = (bytes.get_mut(at..at + taken), data.get(..taken)) {
            into.copy_from_slice(out);
        }
        taken
    }

    /// Writes up to the next extent, growing the extent that ends at `offset` or making one; bytes taken.
    fn fill_gap(&mut self, offset: u32, data: &[u8], bytes_max: u32) -> usize {
        let room = self.extents.range(offset..).next().map_or(usize::MAX, |(next, _)| (next - offset) as usize);
        let part = data.get(..room.min(data.len())).unwrap_or(data);
        match self.extents.range_mut(..offset).next_back() {
            Some((start, bytes)) if start + bytes.len() as u32 == offset => {
                let before = bytes.capacity();
                grow(bytes, part.len(), (bytes_max - start) as usize);
                bytes.extend_from_slice(part);
                self.held += (bytes.capacity() - before) as u64;
            }
            Some(_) | None => {
                let bytes = part.to_vec();
                self.held += bytes.capacity() as u64 + EXTENT_OVERHEAD_BYTES;
                self.extents.insert(offset, bytes);
            }
        }
        self.bytes += part.len() as u32;
        part.len()
    }

    /// Drops everything at and behind `len`.
    pub(crate) fn truncate(&mut self, len: u32) {
        drop(self.extents.split_off(&len));
        if let Some(mut last) = self.extents.last_entry() {
            let keep = (len - last.key()) as usize;
            last.get_mut().truncate(keep);
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.bytes = self.extents.values().map(|bytes| bytes.len() as u32).sum();
        self.held = self.extents.values().map(|bytes| bytes.capacity() as u64 + EXTENT_OVERHEAD_BYTES).sum();
    }

    /// Copies of its bytes inside `offset..offset + len`.
    pub(crate) fn pieces(&self, offset: u32, len: u32) -> Vec<(u32, Bytes)> {
        let first = self.extents.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        let end = offset + len;
        let mut pieces = Vec::new();
        for (start, bytes) in self.extents.range(first..end) {
            let from = (*start).max(offset);
            let to = (start + bytes.len() as u32).min(end);
            if from < to
                && let Some(part) = bytes.get((from - start) as usize..(to - start) as usize)
            {
                pieces.push((from, Bytes::copy_from_slice(part)));
            }
        }
        pieces
    }

    /// Every byte of `offset..offset + len` is here.
    pub(crate) fn covers(&self, offset: u32, len: u32) -> bool {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let Some((start, bytes)) = self.extents.range(..=at).next_back() else { return false };
            let reached = start + bytes.len() as u32;
            if reached <= at {
                return false;
            }
            at = reached;
        }
        true
    }

    /// Takes the bytes out to be sent; what is more than one put may carry stays, as the second part.
    pub(crate) fn seal(mut self) -> (Sealed, Option<Self>) {
        let (born, since) = (self.born, self.since);
        if self.extents.len() == 1
            && let Some((offset, bytes)) = self.extents.pop_first()
        {
            let body = Bytes::from(bytes);
            let sealed = Sealed { patches: vec![(offset, body.clone())], body, held: self.held, born, since };
            return (sealed, None);
        }
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut body = BytesMut::with_capacity(self.bytes as usize);
        while let Some(entry) = self.extents.first_entry() {
            let (offset, len) = (*entry.key(), entry.get().len() as u32);
            let full = runs.len() >= RUNS_MAX;
            match runs.last_mut() {
                Some((start, run)) if *start + *run == offset => *run += len,
                Some(_) if full => break,
                Some(_) | None => runs.push((offset, len)),
            }
            body.extend_from_slice(&entry.remove());
        }
        let body = body.freeze();
        let mut at = 0;
        let mut patches = Vec::with_capacity(runs.len());
        for (offset, len) in runs {
            patches.push((offset, body.slice(at..at + len as usize)));
            at += len as usize;
        }
        let whole = self.held;
        self.recount();
        let held = whole - self.held;
        let rest = (!self.extents.is_empty()).then_some(self);
        (Sealed { patches, body, held, born, since }, rest)
    }

    /// Puts bytes that could not be sent back under what was written since.
    pub(crate) fn put_under(&mut self, sealed: &Sealed, bytes_max: u32) {
        let newer = std::mem::take(&mut self.extents);
        self.recount();
        for (offset, bytes) in &sealed.patches {
            self.write(*offset, bytes, bytes_max);
        }
        for (offset, bytes) in newer {
            self.write(offset, &bytes, bytes_max);
        }
        self.born = self.born.min(sealed.born);
        self.since = self.since.min(sealed.since);
    }
}

/// Makes room for `more` bytes: doubles, but never past `bytes_max`.
fn grow(bytes: &mut Vec<u8>, more: usize, bytes_max: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let wanted = (bytes.capacity() * 2).min(bytes_max).max(needed);
        bytes.reserve_exact(wanted - bytes.len());
    }
}

#[cfg(test)]
mod tests;
