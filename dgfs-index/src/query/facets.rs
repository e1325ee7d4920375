//! How often what occurs: tags and values beside a query, the top of the tags, values of a key.
//!
//! Never asks inode by inode for each name, and shows no class of sizes or dates beside a query: every file has one of each.
//! The count of a name is what a question for it would find, with what lies below it, its aliases and implications.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use dgfs_proto::graph::answer::Facet;
use dgfs_proto::ids::Ino;
use dgfs_proto::query::Key;
use dgfs_proto::tag::fold;

use crate::graph::columns::{Doc, NEVER};
use crate::graph::tags::{TagIx, below};
use crate::graph::words::WordIx;
use crate::graph::{is_open, kind_word};
use crate::query::classes::Class;
use crate::query::dates::civil;
use crate::query::keys::sort_number;
use crate::query::{Ask, Refusal};

/// Up to so many hits, names are gathered from the hits; beyond, every name there is is counted.
const GATHERED_MAX: u64 = 4096;
/// Upper ends of the ranges that sizes are shown in, as the language writes them.
const SIZES: [(u64, &str); 6] =
    [(1 << 10, "1K"), (1 << 20, "1M"), (10 << 20, "10M"), (100 << 20, "100M"), (1 << 30, "1G"), (10 << 30, "10G")];

/// What is counted in.
struct Among<'b> {
    docs: &'b RoaringBitmap,
    /// Those of them that the asker may read.
    readable: Cow<'b, RoaringBitmap>,
}

impl Among<'_> {
    /// Where a word counts.
    fn sayable(&self, word: &str) -> &RoaringBitmap {
        if is_open(word) { self.docs } else { &self.readable }
    }
}

impl Ask<'_> {
    /// Names that occur among `docs`, the most frequent first; `asked` are left out.
    pub(crate) fn facets(
        &self,
        docs: &RoaringBitmap,
        prefix: &str,
        asked: &[String],
        limit: usize,
    ) -> Result<Vec<Facet>, Refusal> {
        let names = if docs.len() <= GATHERED_MAX { self.names_of(docs)? } else { self.all_names(prefix) };
        let among = Among { docs, readable: self.readable(Cow::Borrowed(docs))? };
        let mut facets = Vec::new();
        for name in names {
            self.deadline.check()?;
            if !name.starts_with(prefix) || asked.contains(&name) {
                continue;
            }
            let count = self.count_of(&name, &among);
            if count > 0 {
                facets.push(Facet { name: self.shown(&name), count });
            }
        }
        facets.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
        facets.truncate(limit);
        Ok(facets)
    }

    /// Every name: of tags that were not merged away, and words.
    fn all_names(&self, prefix: &str) -> BTreeSet<String> {
        let is_name = |name: &&str, tags: &[TagIx]| {
            tags.iter()
                .filter_map(|tag| self.graph.tags.get(*tag))
                .any(|tag| tag.fold == **name && tag.facts.merged_into.is_none())
        };
        let tags = self.graph.tags.named(prefix).filter(|(name, tags)| is_name(name, tags)).map(|(name, _)| name);
        let words = self.graph.words.with_prefix(prefix).map(|(name, _)| name);
        tags.chain(words).map(str::to_owned).collect()
    }

    /// Every name that a question could find one of `docs` by, and maybe more.
    fn names_of(&self, docs: &RoaringBitmap) -> Result<BTreeSet<String>, Refusal> {
        let (mut tags, mut words) = (BTreeSet::<TagIx>::new(), BTreeSet::<WordIx>::new());
        let mut steps = 0;
        for doc in docs {
            self.deadline.check_sometimes(&mut steps)?;
            tags.extend(self.graph.tags_of(doc));
            words.extend(self.words_of(doc));
            words.extend(self.graph.columns.links(doc).filter_map(|link| self.graph.names.ext(link.name)));
            words.extend(self.graph.words.find(kind_word(self.graph.columns.facts(doc).kind)));
        }
        let mut names = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for word in words {
            let name = fold(self.graph.words.shown(word));
            tags.extend(self.names_above(&name, &mut names));
        }
        let mut waiting: Vec<TagIx> = tags.into_iter().collect();
        while let Some(tag) = waiting.pop() {
            if seen.insert(tag) {
                self.tags_above(tag, &mut names, &mut waiting);
            }
        }
        Ok(names)
    }

    /// Adds a name and those above it that exist; tags that bear them are answered.
    fn names_above(&self, name: &str, names: &mut BTreeSet<String>) -> Vec<TagIx> {
        let mut tags = Vec::new();
        let ends = name.match_indices(':').map(|(at, _)| at).chain([name.len()]);
        for above in ends.filter_map(|end| name.get(..end)) {
            let bearers = self.graph.tags.exactly(above);
            tags.extend_from_slice(bearers);
            let borne = bearers.iter().filter_map(|tag| self.graph.tags.get(*tag));
            let is_name = borne.into_iter().any(|tag| tag.fold == above && tag.facts.merged_into.is_none());
            if is_name || self.graph.words.find(above).is_some() {
                names.insert(above.to_owned());
            }
        }
        tags
    }

    fn tags_above(&self, tag: TagIx, names: &mut BTreeSet<String>, waiting: &mut Vec<TagIx>) {
        waiting.push(self.graph.tags.canonical(tag));
        let Some(entry) = self.graph.tags.get(tag) else { return };
        waiting.extend(self.graph.tags.merged_from(entry.id));
        waiting.extend(self.names_above(&entry.fold, names));
        for alias in &entry.facts.aliases {
            waiting.extend(self.names_above(&alias.fold(), names));
        }
        waiting.extend(
            entry.facts.implies.iter().chain(&entry.facts.merged_into).filter_map(|id| self.graph.tags.ix(*id)),
        );
    }

    /// How many of `among` a question for a name would find.
    fn count_of(&self, name: &str, among: &Among<'_>) -> u64 {
        let said = self.graph.words.find(name).and_then(|word| self.graph.words.docs(word));
        match (self.graph.tags.exactly(name), said) {
            ([], Some(said)) if name.contains('=') || self.is_leaf(name) => among.sayable(name).intersection_len(said),
            ([tag], None) if self.graph.tags.is_plain(*tag) && self.is_leaf(name) => {
                self.graph.tags.get(*tag).map_or(0, |entry| among.docs.intersection_len(&entry.docs))
            }
            _ => self.count_carriers([name.to_owned()], among),
        }
    }

    fn count_carriers(&self, names: impl IntoIterator<Item = String>, among: &Among<'_>) -> u64 {
        let (open, said) = self.graph.carriers_apart(names);
        ((open & among.docs) | (said & among.readable.as_ref())).len()
    }

    /// Is there no name below it?
    fn is_leaf(&self, name: &str) -> bool {
        let below = below(name);
        self.graph.words.with_prefix(&below).next().is_none() && self.graph.tags.named(&below).next().is_none()
    }

    /// A folded name as people spell it.
    fn shown(&self, name: &str) -> String {
        let tags = self.graph.tags.exactly(name).iter().filter_map(|tag| self.graph.tags.get(*tag));
        let named = tags.into_iter().find(|tag| tag.fold == name).map(|tag| tag.facts.name.as_str());
        let said = || self.graph.words.find(name).map(|word| self.graph.words.shown(word));
        named.or_else(said).unwrap_or(name).to_owned()
    }

    /// First segments of tags, and keys; those that nobody carries among `docs` only where `all` is set, and a person made
    /// the tag.
    pub(crate) fn top(&self, docs: &RoaringBitmap, all: bool, limit: usize) -> Result<Vec<Facet>, Refusal> {
        let mut tops: BTreeMap<String, (String, bool)> = BTreeMap::new();
        for (name, tags) in self.graph.tags.named("") {
            let entries = || tags.iter().filter_map(|tag| self.graph.tags.get(*tag));
            if let Some(entry) = entries().find(|entry| entry.fold == name && entry.facts.merged_into.is_none()) {
                let made = tops.entry(top_of(name)).or_insert_with(|| (top_of(entry.facts.name.as_str()), true));
                made.1 = true;
            }
        }
        self.deadline.check()?;
        for (name, word) in self.graph.words.with_prefix("") {
            tops.entry(top_of(name)).or_insert_with(|| (top_of(self.graph.words.shown(word)), false));
        }
        let mut facets = Vec::new();
        let among = Among { docs, readable: self.readable(Cow::Borrowed(docs))? };
        for (folded, (shown, made)) in tops {
            self.deadline.check()?;
            let is_key = folded.ends_with('=');
            let count =
                if is_key { self.count_valued(&folded, &among) } else { self.count_carriers([folded.clone()], &among) };
            // A tag whose carriers are all out of reach is as unknown as they are.
            if count > 0 || (all && made && !self.is_carried(&folded)) {
                facets.push(Facet { name: shown, count });
            }
        }
        facets.truncate(limit);
        Ok(facets)
    }

    /// How many of `among` have a value of a key, which ends in `=`.
    fn count_valued(&self, key: &str, among: &Among<'_>) -> u64 {
        let mut docs = RoaringBitmap::new();
        for (name, word) in self.graph.words.with_prefix(key) {
            if let Some(said) = self.graph.words.docs(word) {
                docs |= said & among.sayable(name);
            }
        }
        let (open, said) = self.graph.carriers_apart(self.graph.tags.named(key).map(|(name, _)| name.to_owned()));
        (docs | (open & among.docs) | (said & among.readable.as_ref())).len()
    }

    /// Does anybody's file carry a tag of this first segment or key?
    fn is_carried(&self, top: &str) -> bool {
        let names = self.graph.tags.named(top).filter(|(name, _)| top_of(name) == top);
        names.flat_map(|(_, tags)| tags).filter_map(|tag| self.graph.tags.get(*tag)).any(|entry| !entry.docs.is_empty())
    }

    /// Values of a key among `docs`, by value; of sizes and times ranges.
    pub(crate) fn values(&self, key: &Key, docs: &RoaringBitmap, limit: usize) -> Result<Vec<Facet>, Refusal> {
        let files = || docs - self.graph.columns.directories();
        let facts = |doc: Doc| self.facts(doc);
        match key {
            Key::Size => self.tally(&files(), key, limit, |doc| [size_range(facts(doc).size)]),
            Key::Mtime => self.tally(docs, key, limit, |doc| year_and_month(facts(doc).mtime_ns)),
            Key::Ctime => self.tally(docs, key, limit, |doc| year_and_month(facts(doc).ctime_ns)),
            Key::Btime => self.tally(docs, key, limit, |doc| year_and_month(facts(doc).btime_ns)),
            Key::Taken => self.tally(docs, key, limit, |doc| {
                let taken = Some(facts(doc).taken_ns).filter(|at| *at != NEVER);
                taken.into_iter().flat_map(year_and_month)
            }),
            Key::Owner => self.tally(docs, key, limit, |doc| [number(facts(doc).uid)]),
            Key::Group => self.tally(docs, key, limit, |doc| [number(facts(doc).gid)]),
            Key::Nlink => self.tally(docs, key, limit, |doc| [number(facts(doc).nlink)]),
            Key::Hash => self.tally(docs, key, limit, |doc| {
                let hash = self.graph.content_hash(facts(doc).content)?;
                let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                Some((0, text))
            }),
            Key::Other(_) => match Class::of_key(key) {
                Some(class) => self.tally(docs, key, limit, |doc| {
                    let order = class.order(&facts(doc))?;
                    Some((order, class.text(order)))
                }),
                None => self.named_values(key, docs, limit),
            },
            Key::Type | Key::Ext | Key::Mime | Key::Lang => self.named_values(key, docs, limit),
        }
    }

    /// Counts by value; the first of the pair is what they are sorted by.
    fn tally<V: IntoIterator<Item = (i64, String)>>(
        &self,
        docs: &RoaringBitmap,
        key: &Key,
        limit: usize,
        values: impl Fn(Doc) -> V,
    ) -> Result<Vec<Facet>, Refusal> {
        let mut counts: BTreeMap<(i64, String), u64> = BTreeMap::new();
        let mut steps = 0;
        for doc in docs {
            self.deadline.check_sometimes(&mut steps)?;
            for value in values(doc) {
                *counts.entry(value).or_default() += 1;
            }
        }
        let named =
            counts.into_iter().map(|((_, value), count)| Facet { name: format!("{}={value}", key.as_str()), count });
        Ok(most_frequent(named.collect(), limit))
    }

    fn named_values(&self, key: &Key, docs: &RoaringBitmap, limit: usize) -> Result<Vec<Facet>, Refusal> {
        let prefix = format!("{}=", key.as_str());
        let mut facets = Vec::new();
        let among = Among { docs, readable: self.readable(Cow::Borrowed(docs))? };
        for name in self.all_names(&prefix) {
            self.deadline.check()?;
            let count = self.count_of(&name, &among);
            if count > 0 {
                facets.push((sort_number(name.get(prefix.len()..).unwrap_or_default()), name, count));
            }
        }
        facets.sort();
        let shown = facets.into_iter().map(|(_, name, count)| Facet { name: self.shown(&name), count });
        Ok(most_frequent(shown.collect(), limit))
    }
}

/// Of more than `limit` the most frequent, in the order they had.
fn most_frequent(mut facets: Vec<Facet>, limit: usize) -> Vec<Facet> {
    if facets.len() > limit {
        let mut counts: Vec<u64> = facets.iter().map(|facet| facet.count).collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let least = counts.get(limit.saturating_sub(1)).copied().unwrap_or(0);
        let mut ties = limit.saturating_sub(counts.iter().filter(|count| **count > least).count());
        facets.retain(|facet| {
            let tied = facet.count == least && ties > 0;
            ties -= usize::from(tied);
            facet.count > least || tied
        });
    }
    facets
}

/// The first segment of a tag, or the key with its `=`.
fn top_of(name: &str) -> String {
    match name.split_once('=') {
        Some((key, _)) => format!("{key}="),
        None => name.split(':').next().unwrap_or(name).to_owned(),
    }
}

fn number(value: u32) -> (i64, String) {
    (i64::from(value), value.to_string())
}

fn size_range(size: u64) -> (i64, String) {
    let mut low = "0";
    for (order, (until, text)) in (0..).zip(SIZES) {
        if size <= until {
            return (order, format!("{low}..{text}"));
        }
        low = text;
    }
    (i64::MAX, format!("{low}.."))
}

/// The year of a moment and its month, as the language writes them.
fn year_and_month(at_ns: i64) -> [(i64, String); 2] {
    let (year, month, _) = civil(at_ns);
    let order = year * 13;
    [(order, format!("{year:04}")), (order + i64::from(month), format!("{year:04}-{month:02}"))]
}

/// The scope whose top shows tags that nobody carries.
pub(crate) fn shows_all(scope: Ino) -> bool {
    scope == Ino::ROOT
}

#[cfg(test)]
mod tests {
    use super::{most_frequent, size_range, top_of, year_and_month};
    use dgfs_proto::graph::answer::Facet;

    #[test]
    fn moments_lie_in_a_year_and_a_month() {
        const DAY: i64 = 86_400_000_000_000;
        let rows =
            [(0, "1970", "1970-01"), (-1, "1969", "1969-12"), (19_782, "2024", "2024-02"), (19_783, "2024", "2024-03")];
        for (days, year, month) in rows {
            assert_eq!(year_and_month(days * DAY).map(|(_, text)| text), [year, month], "{days}");
        }
    }

    #[test]
    fn sizes_lie_in_the_range_that_the_language_reads_back() {
        assert_eq!(size_range(0).1, "0..1K");
        assert_eq!(size_range(1025).1, "1K..1M");
        assert_eq!(size_range(1 << 40).1, "10G..");
    }

    #[test]
    fn of_too_many_the_most_frequent_stay_in_order() {
        let facet = |name: &str, count| Facet { name: name.to_owned(), count };
        let all = vec![facet("a", 1), facet("b", 3), facet("c", 2), facet("d", 2)];
        assert_eq!(most_frequent(all, 2), [facet("b", 3), facet("c", 2)]);
        assert_eq!((top_of("place:cn"), top_of("exif:f=2")), ("place".to_owned(), "exif:f=".to_owned()));
    }
}
