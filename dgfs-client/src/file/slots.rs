//! The chunk slots of a file as last seen, by pages.
//!
//! Never asks. Always: a slot it does not know is told apart from a hole. Bounded in pages.

use std::collections::BTreeMap;

use dgfs_proto::chunk::ChunkRef;
use dgfs_proto::limits::CHUNK_PAGE_MAX;

/// Slots of one page.
pub(crate) const PAGE_SLOTS: u64 = CHUNK_PAGE_MAX as u64;
/// Pages kept of one file: 256 GiB of it with the default chunk size.
const PAGES_MAX: usize = 64;

/// What is known of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It holds this, or nothing.
    Known(Option<ChunkRef>),
    /// Ask for the page that starts here.
    Unknown(u64),
}

/// Known slots. Behind `end` there are only holes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    pages: BTreeMap<u64, Page>,
    end: u64,
}

/// Slots from the page's start; the first `known` of them are known, those behind the vector as holes.
#[derive(Clone, Debug, Default)]
struct Page {
    slots: Vec<Option<ChunkRef>>,
    known: u64,
}

impl Slots {
    /// Slots of a file of `size` bytes.
    pub(crate) fn of(size: u64, chunk_bytes: u32) -> Self {
        Self { pages: BTreeMap::new(), end: size.div_ceil(u64::from(chunk_bytes)) }
    }

    /// A whole page was answered; trailing holes may be left out. `first` is a multiple of [`PAGE_SLOTS`].
    pub(crate) fn add_page(&mut self, first: u64, slots: Vec<Option<ChunkRef>>) {
        self.add(first, slots, PAGE_SLOTS);
    }

    /// The first slots were answered, nobody says how many were looked at: only those that came are known.
    pub(crate) fn add_head(&mut self, slots: Vec<Option<ChunkRef>>) {
        let known = slots.len() as u64;
        self.add(0, slots, known);
    }

    fn add(&mut self, first: u64, slots: Vec<Option<ChunkRef>>, known: u64) {
        let page = first / PAGE_SLOTS;
        if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(&page) {
            // Sequential readers go upwards: the lowest page is the least likely to be wanted again.
            self.pages.pop_first();
        }
        self.end = self.end.max(first + slots.iter().rposition(Option::is_some).map_or(0, |at| at as u64 + 1));
        self.pages.insert(page, Page { slots, known });
    }

    /// What is known of the slot.
    pub(crate) fn get(&self, index: u64) -> Slot {
        if index >= self.end {
            return Slot::Known(None);
        }
        let (page, at) = (index / PAGE_SLOTS, index % PAGE_SLOTS);
        match self.pages.get(&page) {
            Some(known) if at < known.known => Slot::Known(known.slots.get(at as usize).copied().flatten()),
            Some(_) | None => Slot::Unknown(page * PAGE_SLOTS),
        }
    }

    /// The slot holds `new` now.
    pub(crate) fn set(&mut self, index: u64, new: Option<ChunkRef>) {
        let (page, at) = (index / PAGE_SLOTS, index % PAGE_SLOTS);
        let start = page * PAGE_SLOTS;
        if start >= self.end && !self.pages.contains_key(&page) {
            self.add(start, Vec::new(), 0);
        }
        let old_end = self.end;
        self.end = self.end.max(index + 1);
        let Some(held) = self.pages.get_mut(&page) else { return };
        if start + held.known >= old_end {
            // Everything up to the old end is known, and behind it were holes.
            held.known = held.known.max(at + 1);
        }
        if at >= held.known {
            return;
        }
        let at = at as usize;
        if held.slots.len() <= at {
            held.slots.resize(at + 1, None);
        }
        if let Some(slot) = held.slots.get_mut(at) {
            *slot = new;
        }
    }

    /// The file was set to `size` bytes: references behind go, the last one gets shorter.
    pub(crate) fn resize(&mut self, size: u64, chunk_bytes: u32) {
        let end = size.div_ceil(u64::from(chunk_bytes));
        if end > self.end {
            // What lies between is a hole, and stays known as one.
            return;
        }
        self.end = end;
        self.pages.retain(|page, _| page * PAGE_SLOTS < end);
        if let Some((page, held)) = self.pages.iter_mut().next_back()
            && let Ok(keep) = usize::try_from(end - page * PAGE_SLOTS)
        {
            held.slots.truncate(keep);
        }
        let tail = (size % u64::from(chunk_bytes)) as u32;
        if tail > 0
            && let Slot::Known(Some(mut last)) = self.get(end - 1)
            && last.len > tail
        {
            last.len = tail;
            self.set(end - 1, Some(last));
        }
    }

    /// Is every slot of this page a hole? `None` when the page is not known whole.
    pub(crate) fn page_is_hole(&self, first: u64) -> Option<bool> {
        let page = first / PAGE_SLOTS;
        if page * PAGE_SLOTS >= self.end {
            return Some(true);
        }
        let held = self.pages.get(&page)?;
        let whole = held.known == PAGE_SLOTS || page * PAGE_SLOTS + held.known >= self.end;
        whole.then(|| held.slots.iter().all(Option::is_none))
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::{ChunkId, ChunkVersion};

    use super::*;

    fn chunk(number: u64, len: u32) -> ChunkRef {
        ChunkRef {
            chunk: ChunkId::new(number).unwrap(),
            version: ChunkVersion::new(number).unwrap(),
            len,
            allocated: len,
        }
    }

    #[test]
    fn a_slot_behind_the_end_is_a_hole_and_one_before_is_asked_for() {
        let mut slots = Slots::of(3000 * 10, 10);
        slots.add_page(0, vec![Some(chunk(1, 10))]);
        assert_eq!(slots.get(0), Slot::Known(Some(chunk(1, 10))));
        assert_eq!(slots.get(1), Slot::Known(None));
        assert_eq!(slots.get(1500), Slot::Unknown(1024));
        assert_eq!(slots.get(3000), Slot::Known(None));
    }

    #[test]
    fn a_truncate_shortens_the_last_reference() {
        let mut slots = Slots::of(30, 10);
        slots.add_page(0, vec![Some(chunk(1, 10)), Some(chunk(2, 10)), Some(chunk(3, 10))]);
        slots.resize(15, 10);
        assert_eq!(slots.get(1), Slot::Known(Some(chunk(2, 5).len_of(10))));
        assert_eq!(slots.get(2), Slot::Known(None));
    }

    #[test]
    fn a_slot_far_behind_the_end_can_be_set() {
        let mut slots = Slots::of(10, 10);
        slots.add_page(0, vec![Some(chunk(1, 10))]);
        slots.set(5000, Some(chunk(2, 10)));
        assert_eq!(slots.get(5000), Slot::Known(Some(chunk(2, 10))));
        assert_eq!(slots.get(1), Slot::Known(None));
        assert_eq!(slots.get(2000), Slot::Unknown(1024));
    }

    #[test]
    fn an_answer_to_an_open_says_nothing_of_slots_it_did_not_bring() {
        let mut slots = Slots::of(100 * 10, 10);
        slots.add_head(vec![Some(chunk(1, 10)), Some(chunk(2, 10))]);
        assert_eq!(slots.get(1), Slot::Known(Some(chunk(2, 10))));
        assert_eq!(slots.get(2), Slot::Unknown(0));
        slots.set(50, Some(chunk(3, 10)));
        assert_eq!(slots.get(50), Slot::Unknown(0));
        assert_eq!(slots.page_is_hole(0), None);
    }

    #[test]
    fn slots_written_at_the_end_of_a_known_file_are_known() {
        let mut slots = Slots::of(20, 10);
        slots.add_head(vec![Some(chunk(1, 10)), Some(chunk(2, 10))]);
        slots.set(4, Some(chunk(3, 10)));
        assert_eq!(slots.get(4), Slot::Known(Some(chunk(3, 10))));
        assert_eq!(slots.get(3), Slot::Known(None));
    }

    trait WithAllocated {
        fn len_of(self, allocated: u32) -> ChunkRef;
    }

    impl WithAllocated for ChunkRef {
        fn len_of(self, allocated: u32) -> ChunkRef {
            ChunkRef { allocated, ..self }
        }
    }
}
