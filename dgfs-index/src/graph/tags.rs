//! Tags that people set: the catalogue, and who carries what.
//!
//! Never knows what taggers say. Aliases, merged tags, implications and descendants are followed when a question is asked;
//! circles among them are harmless.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use roaring::RoaringBitmap;

use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::TagId;

use crate::graph::columns::Doc;
use crate::graph::words::{bitmap_bytes, with_prefix};

/// A tag's number here.
pub(crate) type TagIx = u32;

pub(crate) struct TagEntry {
    pub(crate) id: TagId,
    pub(crate) facts: TagFacts,
    /// Key of the name's uniqueness.
    pub(crate) fold: String,
    pub(crate) docs: RoaringBitmap,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Tags {
    entries: Vec<Option<TagEntry>>,
    by_id: HashMap<TagId, TagIx>,
    /// Names and aliases, folded; of a name that several have for a while (events between) all.
    by_name: BTreeMap<String, Vec<TagIx>>,
    /// Who implies this one, by id: the other may not be known yet.
    implied_by: HashMap<TagId, Vec<TagIx>>,
    /// Who was merged into this one.
    merged_from: HashMap<TagId, Vec<TagIx>>,
    free: Vec<TagIx>,
}

fn unlist<K: std::hash::Hash + Eq + Copy>(map: &mut HashMap<K, Vec<TagIx>>, key: K, tag: TagIx) {
    if let Some(list) = map.get_mut(&key) {
        list.retain(|known| *known != tag);
        if list.is_empty() {
            map.remove(&key);
        }
    }
}

impl Tags {
    pub(crate) fn ix(&self, id: TagId) -> Option<TagIx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, tag: TagIx) -> Option<&TagEntry> {
        self.entries.get(tag as usize).and_then(Option::as_ref)
    }

    /// Makes a tag or changes what is known of it.
    pub(crate) fn set(&mut self, id: TagId, facts: &TagFacts) {
        let tag = match self.ix(id) {
            Some(tag) => {
                self.unlist_words(tag);
                tag
            }
            None => {
                let tag = self.free.pop().unwrap_or_else(|| {
                    self.entries.push(None);
                    u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
                });
                self.by_id.insert(id, tag);
                tag
            }
        };
        let Some(place) = self.entries.get_mut(tag as usize) else { return };
        let docs = place.take().map(|entry| entry.docs).unwrap_or_default();
        *place = Some(TagEntry { id, facts: facts.clone(), fold: facts.name.fold(), docs });
        self.list_words(tag);
    }

    fn list_words(&mut self, tag: TagIx) {
        let Some(entry) = self.entries.get(tag as usize).and_then(Option::as_ref) else { return };
        self.by_name.entry(entry.fold.clone()).or_default().push(tag);
        for alias in &entry.facts.aliases {
            self.by_name.entry(alias.fold()).or_default().push(tag);
        }
        for implied in &entry.facts.implies {
            self.implied_by.entry(*implied).or_default().push(tag);
        }
        if let Some(into) = entry.facts.merged_into {
            self.merged_from.entry(into).or_default().push(tag);
        }
    }

    fn unlist_words(&mut self, tag: TagIx) {
        let Some(entry) = self.entries.get(tag as usize).and_then(Option::as_ref) else { return };
        let names =
            std::iter::once(entry.fold.clone()).chain(entry.facts.aliases.iter().map(dgfs_proto::tag::Tag::fold));
        for name in names {
            if let Some(list) = self.by_name.get_mut(&name) {
                list.retain(|known| *known != tag);
                if list.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        for implied in &entry.facts.implies {
            unlist(&mut self.implied_by, *implied, tag);
        }
        if let Some(into) = entry.facts.merged_into {
            unlist(&mut self.merged_from, into, tag);
        }
    }

    /// Nobody carries it any more; who did is answered.
    pub(crate) fn remove(&mut self, id: TagId) -> Option<(TagIx, RoaringBitmap)> {
        let tag = self.ix(id)?;
        self.unlist_words(tag);
        self.by_id.remove(&id);
        let docs = self.entries.get_mut(tag as usize).and_then(Option::take).map(|entry| entry.docs);
        self.free.push(tag);
        Some((tag, docs.unwrap_or_default()))
    }

    pub(crate) fn carry(&mut self, tag: TagIx, doc: Doc, on: bool) {
        if let Some(entry) = self.entries.get_mut(tag as usize).and_then(Option::as_mut) {
            if on {
                entry.docs.insert(doc);
            } else {
                entry.docs.remove(doc);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TagIx, &TagEntry)> {
        (0..).zip(&self.entries).filter_map(|(tag, entry)| entry.as_ref().map(|entry| (tag, entry)))
    }

    /// Names and aliases that begin with `prefix` (folded), in order, each with its tags.
    pub(crate) fn named(&self, prefix: &str) -> impl Iterator<Item = (&str, &[TagIx])> + use<'_> {
        with_prefix(&self.by_name, prefix).map(|(name, tags)| (name, tags.as_slice()))
    }

    pub(crate) fn exactly(&self, name: &str) -> &[TagIx] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// What a tag is now: what it was merged into, at the end of that chain.
    pub(crate) fn canonical(&self, tag: TagIx) -> TagIx {
        let mut seen = BTreeSet::from([tag]);
        let mut at = tag;
        while let Some(into) = self.get(at).and_then(|entry| entry.facts.merged_into).and_then(|id| self.ix(id)) {
            if !seen.insert(into) {
                break;
            }
            at = into;
        }
        at
    }

    /// Tags that were merged into this one.
    pub(crate) fn merged_from(&self, id: TagId) -> &[TagIx] {
        self.merged_from.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Does a question for this tag concern others, too?
    pub(crate) fn is_plain(&self, tag: TagIx) -> bool {
        let Some(entry) = self.get(tag) else { return true };
        let related = self.implied_by.contains_key(&entry.id) || self.merged_from.contains_key(&entry.id);
        let worded = !entry.facts.aliases.is_empty() || entry.facts.merged_into.is_some();
        !related && !worded && self.exactly(&entry.fold).len() == 1 && self.named(&below(&entry.fold)).next().is_none()
    }

    /// Every tag whose carriers carry one of these names, or what lies below them; and every name under which taggers may
    /// have said so. Names must be folded.
    pub(crate) fn closure(&self, names: impl IntoIterator<Item = String>) -> Closure {
        let mut closure = Closure::default();
        let mut waiting: Vec<String> = names.into_iter().collect();
        while let Some(name) = waiting.pop() {
            if !closure.names.insert(name.clone()) {
                continue;
            }
            let mut tags: Vec<TagIx> = self.exactly(&name).to_vec();
            tags.extend(self.named(&below(&name)).flat_map(|(_, tags)| tags.iter().copied()));
            while let Some(tag) = tags.pop() {
                self.follow(tag, &mut closure, &mut tags, &mut waiting);
            }
        }
        closure
    }

    fn follow(&self, tag: TagIx, closure: &mut Closure, tags: &mut Vec<TagIx>, waiting: &mut Vec<String>) {
        if !closure.tags.insert(tag) {
            return;
        }
        tags.push(self.canonical(tag));
        let Some(entry) = self.get(tag) else { return };
        waiting.push(entry.fold.clone());
        waiting.extend(entry.facts.aliases.iter().map(dgfs_proto::tag::Tag::fold));
        for map in [&self.implied_by, &self.merged_from] {
            tags.extend(map.get(&entry.id).into_iter().flatten().copied());
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// Pairs of tag and inode.
    pub(crate) fn pairs(&self) -> u64 {
        self.iter().map(|(_, entry)| entry.docs.len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let each = |entry: &TagEntry| {
            let words = 1 + entry.facts.aliases.len();
            bitmap_bytes(&entry.docs) + words * 200 + entry.facts.implies.len() * 48 + 160
        };
        self.iter().map(|(_, entry)| each(entry)).sum()
    }
}

/// What a question for a name comes down to.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    pub(crate) tags: BTreeSet<TagIx>,
    pub(crate) names: BTreeSet<String>,
}

/// How the names below a name begin. A value is not divided by its colons: nothing is below it, and no name has a NUL in it.
pub(crate) fn below(name: &str) -> String {
    let border = if name.contains('=') { '\0' } else { ':' };
    format!("{name}{border}")
}

#[cfg(test)]
mod tests {
    use super::Tags;
    use dgfs_proto::graph::TagFacts;
    use dgfs_proto::ids::TagId;
    use dgfs_proto::tag::Tag;

    fn facts(name: &str, aliases: &[&str], implies: &[u64], merged: Option<u64>) -> TagFacts {
        TagFacts {
            name: Tag::parse(name).unwrap(),
            aliases: aliases.iter().map(|alias| Tag::parse(alias).unwrap()).collect(),
            implies: implies.iter().map(|id| TagId::new(*id).unwrap()).collect(),
            merged_into: merged.and_then(TagId::new),
            owner: 0,
        }
    }

    fn tags(list: &[(u64, TagFacts)]) -> Tags {
        let mut tags = Tags::default();
        for (id, facts) in list {
            tags.set(TagId::new(*id).unwrap(), facts);
        }
        tags
    }

    fn reached(tags: &Tags, name: &str) -> Vec<u64> {
        let closure = tags.closure([name.to_owned()]);
        let mut ids: Vec<u64> = closure.tags.iter().map(|tag| tags.get(*tag).unwrap().id.get()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn descendants_aliases_merged_and_implying_tags_are_reached() {
        let tags = tags(&[
            (1, facts("place", &[], &[], None)),
            (2, facts("place:cn", &["China"], &[], None)),
            (3, facts("placebo", &[], &[], None)),
            (4, facts("hefei", &[], &[2], None)),
            (5, facts("Zhongguo", &[], &[], Some(2))),
        ]);
        assert_eq!(reached(&tags, "place"), [1, 2, 4, 5]);
        assert_eq!(reached(&tags, "china"), [2, 4, 5]);
        assert_eq!(reached(&tags, "zhongguo"), [2, 4, 5]);
        assert_eq!(reached(&tags, "hefei"), [4]);
        assert!(reached(&tags, "nothing").is_empty());
    }

    #[test]
    fn circles_end() {
        let tags = tags(&[
            (1, facts("a", &[], &[2], None)),
            (2, facts("b", &[], &[1], None)),
            (3, facts("c", &[], &[], Some(4))),
            (4, facts("d", &[], &[], Some(3))),
        ]);
        assert_eq!(reached(&tags, "a"), [1, 2]);
        assert_eq!(reached(&tags, "c"), [3, 4]);
    }

    #[test]
    fn a_renamed_tag_loses_its_old_name() {
        let mut tags = tags(&[(1, facts("a", &["x"], &[], None))]);
        tags.set(TagId::new(1).unwrap(), &facts("b", &[], &[], None));
        assert!(reached(&tags, "a").is_empty() && reached(&tags, "x").is_empty());
        assert_eq!(reached(&tags, "b"), [1]);
        tags.remove(TagId::new(1).unwrap());
        assert!(reached(&tags, "b").is_empty());
    }
}
