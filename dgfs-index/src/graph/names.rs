//! File names, each kept once.
//!
//! Never checks a name. Always: a name is there exactly as long as a link holds it.

use std::collections::HashMap;
use std::mem::size_of;

use xxhash_rust::xxh3::xxh3_64;

use crate::graph::words::WordIx;

/// A name's number.
pub(crate) type NameIx = u32;
const NONE: u32 = u32::MAX;
/// Longer suffixes are not what people call an extension.
const EXT_BYTES_MAX: usize = 16;

struct NameEntry {
    bytes: Box<[u8]>,
    links: u32,
    /// The next name of the same hash.
    next: NameIx,
    ext: WordIx,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Names {
    entries: Vec<NameEntry>,
    by_hash: HashMap<u64, NameIx>,
    free: Vec<NameIx>,
    heap_bytes: usize,
}

/// What stands behind the last dot of a name, if that is an extension: lower case.
pub(crate) fn extension(name: &[u8]) -> Option<String> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let ext = name.get(dot + 1..)?;
    if dot == 0 || ext.is_empty() || ext.len() > EXT_BYTES_MAX {
        return None;
    }
    let ext = std::str::from_utf8(ext).ok()?;
    ext.chars().all(char::is_alphanumeric).then(|| ext.to_lowercase())
}

impl Names {
    pub(crate) fn get(&self, name: NameIx) -> &[u8] {
        self.entries.get(name as usize).map_or(&[], |entry| &entry.bytes)
    }

    /// Links that hold it.
    pub(crate) fn links(&self, name: NameIx) -> u32 {
        self.entries.get(name as usize).map_or(0, |entry| entry.links)
    }

    /// The word for its extension, as [`Self::set_ext`] was told.
    pub(crate) fn ext(&self, name: NameIx) -> Option<WordIx> {
        self.entries.get(name as usize).map(|entry| entry.ext).filter(|ext| *ext != NONE)
    }

    pub(crate) fn set_ext(&mut self, name: NameIx, ext: WordIx) {
        if let Some(entry) = self.entries.get_mut(name as usize) {
            entry.ext = ext;
        }
    }

    pub(crate) fn find(&self, bytes: &[u8]) -> Option<NameIx> {
        let mut at = self.by_hash.get(&xxh3_64(bytes)).copied()?;
        while let Some(entry) = self.entries.get(at as usize) {
            if *entry.bytes == *bytes {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// The number of a name, with one link more; and whether it is new.
    pub(crate) fn hold(&mut self, bytes: &[u8]) -> (NameIx, bool) {
        if let Some(known) = self.find(bytes) {
            if let Some(entry) = self.entries.get_mut(known as usize) {
                entry.links = entry.links.saturating_add(1);
            }
            return (known, false);
        }
        let hash = xxh3_64(bytes);
        let next = self.by_hash.get(&hash).copied().unwrap_or(NONE);
        let entry = NameEntry { bytes: bytes.into(), links: 1, next, ext: NONE };
        self.heap_bytes += heap_bytes(bytes.len());
        let at = match self.free.pop() {
            Some(at) => at,
            None => u32::try_from(self.entries.len()).unwrap_or(NONE),
        };
        match self.entries.get_mut(at as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        self.by_hash.insert(hash, at);
        (at, true)
    }

    /// One link less; true when that was the last one.
    pub(crate) fn release(&mut self, name: NameIx) -> bool {
        let Some(entry) = self.entries.get_mut(name as usize) else { return false };
        entry.links = entry.links.saturating_sub(1);
        if entry.links > 0 {
            return false;
        }
        let (hash, next) = (xxh3_64(&entry.bytes), entry.next);
        self.heap_bytes = self.heap_bytes.saturating_sub(heap_bytes(entry.bytes.len()));
        entry.bytes = Box::default();
        if self.by_hash.get(&hash) == Some(&name) {
            if next == NONE {
                self.by_hash.remove(&hash);
            } else {
                self.by_hash.insert(hash, next);
            }
        } else if let Some(before) = self.before(hash, name)
            && let Some(entry) = self.entries.get_mut(before as usize)
        {
            entry.next = next;
        }
        self.free.push(name);
        true
    }

    fn before(&self, hash: u64, name: NameIx) -> Option<NameIx> {
        let mut at = self.by_hash.get(&hash).copied()?;
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.next == name {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<NameEntry>()
            + self.by_hash.capacity() * 8 / 7 * 17
            + self.free.capacity() * size_of::<NameIx>()
            + self.heap_bytes
    }
}

/// What the allocator takes for so many bytes: 16-byte steps and a header.
pub(crate) const fn heap_bytes(len: usize) -> usize {
    if len == 0 { 0 } else { (len + 8).next_multiple_of(16) }
}

#[cfg(test)]
mod tests {
    use super::{Names, extension};

    #[test]
    fn a_name_lives_as_long_as_its_links() {
        let mut names = Names::default();
        let (first, new) = names.hold(b"a.txt");
        assert!(new);
        assert_eq!(names.hold(b"a.txt"), (first, false));
        assert!(!names.release(first));
        assert!(names.release(first));
        assert_eq!(names.find(b"a.txt"), None);
        let (again, new) = names.hold(b"b");
        assert_eq!((again, new, names.get(again)), (first, true, &b"b"[..]));
    }

    #[test]
    fn extensions() {
        for (name, ext) in [
            (&b"a.JPG"[..], Some("jpg")),
            (b".bashrc", None),
            (b"a.", None),
            (b"a.tar.gz", Some("gz")),
            (b"a.b c", None),
            (b"x.0123456789abcdefg", None),
            (b"a.\xff", None),
        ] {
            assert_eq!(extension(name).as_deref(), ext, "{name:?}");
        }
    }
}
