//! What attributes, names and taggers say: words (`beach`, `place:cn`) and values (`mime=image/png`), each with the
//! inodes it is said of.
//!
//! Never knows tags that people set. Always: a word is there exactly as long as it is said of an inode.

use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;

use dgfs_proto::tag::fold;

use crate::graph::columns::Doc;
use crate::graph::names::heap_bytes;

/// A word's number.
pub(crate) type WordIx = u32;

struct Word {
    shown: Box<str>,
    docs: RoaringBitmap,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Words {
    entries: Vec<Word>,
    by_fold: BTreeMap<Box<str>, WordIx>,
    free: Vec<WordIx>,
}

/// The end of the range of texts that begin with `prefix`, for prefixes that end in an ASCII sign: the next sign.
fn behind(prefix: &str) -> Option<String> {
    let mut bytes = prefix.as_bytes().to_vec();
    let last = bytes.last_mut()?;
    *last = last.checked_add(1).filter(u8::is_ascii)?;
    String::from_utf8(bytes).ok()
}

/// Entries of a map by folded text that begin with `prefix`.
pub(crate) fn with_prefix<'a, K, V>(
    map: &'a BTreeMap<K, V>,
    prefix: &str,
) -> impl Iterator<Item = (&'a str, &'a V)> + use<'a, K, V>
where
    K: Ord + std::borrow::Borrow<str>,
{
    let owned = prefix.to_owned();
    let until = behind(prefix);
    let range = match &until {
        Some(until) => map.range::<str, _>((Bound::Included(prefix), Bound::Excluded(until.as_str()))),
        None => map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)),
    };
    range.map(|(key, value)| (key.borrow(), value)).take_while(move |(key, _)| key.starts_with(owned.as_str()))
}

impl Words {
    /// The number of a word, a new one where it has none.
    pub(crate) fn intern(&mut self, shown: &str) -> WordIx {
        let folded = fold(shown);
        if let Some(word) = self.by_fold.get(folded.as_str()) {
            return *word;
        }
        let word = Word { shown: shown.into(), docs: RoaringBitmap::new() };
        let at = match self.free.pop() {
            Some(at) => at,
            None => u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
        };
        match self.entries.get_mut(at as usize) {
            Some(place) => *place = word,
            None => self.entries.push(word),
        }
        self.by_fold.insert(folded.into(), at);
        at
    }

    pub(crate) fn say(&mut self, word: WordIx, doc: Doc) {
        if let Some(word) = self.entries.get_mut(word as usize) {
            word.docs.insert(doc);
        }
    }

    /// It is not said of this inode any more; true when of no other either, and the word is gone.
    pub(crate) fn unsay(&mut self, word: WordIx, doc: Doc) -> bool {
        let Some(entry) = self.entries.get_mut(word as usize) else { return false };
        entry.docs.remove(doc);
        if !entry.docs.is_empty() {
            return false;
        }
        let folded = fold(&entry.shown);
        entry.shown = Box::default();
        if self.by_fold.get(folded.as_str()) == Some(&word) {
            self.by_fold.remove(folded.as_str());
            self.free.push(word);
        }
        true
    }

    pub(crate) fn find(&self, folded: &str) -> Option<WordIx> {
        self.by_fold.get(folded).copied()
    }

    pub(crate) fn docs(&self, word: WordIx) -> Option<&RoaringBitmap> {
        self.entries.get(word as usize).map(|word| &word.docs)
    }

    pub(crate) fn shown(&self, word: WordIx) -> &str {
        self.entries.get(word as usize).map_or("", |word| &word.shown)
    }

    /// Words whose folded text begins with `prefix`, in order.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, WordIx)> + use<'_> {
        with_prefix(&self.by_fold, prefix).map(|(folded, word)| (folded, *word))
    }

    /// Pairs of word and inode.
    pub(crate) fn pairs(&self) -> u64 {
        self.by_fold.values().filter_map(|word| self.docs(*word)).map(RoaringBitmap::len).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let each = |word: &WordIx| {
            let shown = self.shown(*word).len();
            2 * heap_bytes(shown) + self.docs(*word).map_or(0, bitmap_bytes) + 80
        };
        self.by_fold.values().map(each).sum()
    }
}

/// What a bitmap takes in memory, by its serialized size and the overhead of its containers.
pub(crate) fn bitmap_bytes(docs: &RoaringBitmap) -> usize {
    let containers = docs.len().min(u64::from(docs.max().unwrap_or(0) >> 16) + 1);
    docs.serialized_size() + containers as usize * 48 + size_of::<RoaringBitmap>()
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn a_word_is_gone_with_its_last_inode() {
        let mut words = Words::default();
        let beach = words.intern("Beach");
        assert_eq!(words.intern("beach"), beach);
        words.say(beach, 7);
        assert_eq!(words.find("beach"), Some(beach));
        assert!(words.unsay(beach, 7));
        assert_eq!((words.find("beach"), words.pairs()), (None, 0));
    }

    #[test]
    fn values_of_a_key_are_a_range() {
        let mut words = Words::default();
        for word in ["rating=3", "rating=10", "ratings", "rating"] {
            let at = words.intern(word);
            words.say(at, 1);
        }
        let values: Vec<&str> = words.with_prefix("rating=").map(|(folded, _)| folded).collect();
        assert_eq!(values, ["rating=10", "rating=3"]);
    }
}
