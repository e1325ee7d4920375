//! Which like contents have an edge: each wants the best [`ALIKE_MAX`], and an edge is there where both want it.
//!
//! Never asks anybody and never writes. Always: of two contents that are alike and have no edge, at least one has as many edges as
//! it may have, all to contents that are closer to it. How much two contents are to each other is the same from both sides and never
//! equal for two others, so there is one such set of edges, whatever came first (a stable matching: Irving, Scott, "The stable
//! fixtures problem", 2007). Who loses an edge is *due*: it looks for another one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Edges of one content by one kind of fingerprint.
pub const ALIKE_MAX: usize = 20;
/// Like contents that are considered for them, the closest first: in a crowd of copies the nearest may have no room.
pub const CONSIDERED_MAX: usize = 100;

/// Another content that is alike. Contents are hashes in hex, as Neo4j has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// The other one.
    pub other: String,
    /// By which kind of fingerprint: `text`, `picture`, `embedding`.
    pub source: String,
    /// How much: 1 to 1,000.
    pub permille: u16,
}

/// An edge, stored once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// From the smaller hash.
    pub less: String,
    /// To the greater one.
    pub greater: String,
    /// As [`Alike::source`].
    pub source: String,
    /// As [`Alike::permille`].
    pub permille: u16,
}

/// What has to change in the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Edges that go.
    pub dropped: BTreeSet<Edge>,
    /// Edges that come.
    pub made: BTreeSet<Edge>,
    /// Contents that lost an edge.
    pub due: BTreeSet<String>,
}

/// What is wrong with the edges of a content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Both want it, and it is not there.
    Missing(Edge),
    /// They are not alike, or not so much.
    Untrue(Edge),
    /// It has so many of this source.
    Crowded(String, usize),
}

/// Contents with the edges that they have.
#[derive(Debug, Default)]
pub struct Circle {
    /// Contents of which all edges are known.
    known: BTreeSet<String>,
    before: BTreeSet<Edge>,
    /// By content and source: to whom, and how much. Kept from both ends.
    edges: BTreeMap<(String, String), BTreeMap<String, u16>>,
    due: BTreeSet<String>,
}

/// How much two contents are to each other. Of those that are equally alike the ones whose hashes share more of their beginning are
/// closer: any order would do that is the same from both sides, but that of hashes alone would give the first ones all edges.
type Worth = (u16, Reverse<u64>);

fn worth(one: &str, other: &str, permille: u16) -> Worth {
    (permille, Reverse(beginning(one) ^ beginning(other)))
}

fn beginning(hash: &str) -> u64 {
    hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn edge(one: &str, other: &str, source: &str, permille: u16) -> Edge {
    let (less, greater) = if one < other { (one, other) } else { (other, one) };
    Edge { less: less.to_owned(), greater: greater.to_owned(), source: source.to_owned(), permille }
}

/// Puts the closest to `content` first.
pub fn sort(content: &str, alike: &mut [Alike]) {
    alike.sort_by_cached_key(|one| Reverse(worth(content, &one.other, one.permille)));
}

impl Circle {
    /// A content, with all edges that it has in the graph.
    pub fn add(&mut self, content: &str, edges: &[Alike]) {
        self.known.insert(content.to_owned());
        for Alike { other, source, permille } in edges {
            self.before.insert(edge(content, other, source, *permille));
            self.insert(content, other, source, *permille);
        }
    }

    /// Is it among them?
    #[must_use]
    pub fn has(&self, content: &str) -> bool {
        self.known.contains(content)
    }

    /// A content that no file has any more.
    pub fn forget(&mut self, content: &str) {
        self.known.remove(content);
        for source in self.sources(content, &[]) {
            for other in self.list(content, &source).into_keys() {
                self.cut(content, &other, &source);
            }
        }
        self.due.remove(content);
    }

    /// Gives a content the edges that it is to have; `alike` is what it may have edges to,
    /// the closest first.
    pub fn settle(&mut self, content: &str, alike: &[Alike]) {
        self.due.remove(content);
        if self.has(content) {
            for source in self.sources(content, alike) {
                self.settle_by(content, &source, alike);
            }
        }
    }

    fn settle_by(&mut self, content: &str, source: &str, alike: &[Alike]) {
        for (other, permille) in self.list(content, source) {
            if !says(alike, &other, source, permille) {
                self.cut(content, &other, source);
            }
        }
        let mut picks: BTreeMap<&str, u16> = BTreeMap::new();
        for one in alike.iter().filter(|one| one.source == source && one.other != content) {
            let linked = self.linked(content, &one.other, source);
            let wanted = self.has(&one.other) && self.wants(&one.other, content, source, one.permille);
            if picks.len() < ALIKE_MAX && (linked || wanted) {
                picks.insert(&one.other, one.permille);
            }
        }
        for other in self.list(content, source).into_keys().filter(|other| !picks.contains_key(other.as_str())) {
            self.cut(content, &other, source);
        }
        for (other, permille) in picks {
            if !self.linked(content, other, source) {
                self.make_room(other, source);
                self.insert(content, other, source, permille);
            }
        }
    }

    /// What is wrong with the edges of a content, seen from it; `alike` is as for [`Self::settle`], and the `looked` first of each
    /// source are missed where they have no edge.
    #[must_use]
    pub fn faults(&self, content: &str, alike: &[Alike], looked: usize) -> BTreeSet<Fault> {
        let mut faults = BTreeSet::new();
        for source in self.sources(content, alike) {
            let list = self.list(content, &source);
            if list.len() > ALIKE_MAX {
                faults.insert(Fault::Crowded(source.clone(), list.len()));
            }
            for (other, permille) in &list {
                if !says(alike, other, &source, *permille) {
                    faults.insert(Fault::Untrue(edge(content, other, &source, *permille)));
                }
            }
            for one in alike.iter().filter(|one| one.source == source).take(looked) {
                let free = one.other != content && self.has(&one.other) && !list.contains_key(&one.other);
                if free
                    && self.wants(&one.other, content, &source, one.permille)
                    && self.wants(content, &one.other, &source, one.permille)
                {
                    faults.insert(Fault::Missing(edge(content, &one.other, &source, one.permille)));
                }
            }
        }
        faults
    }

    /// What has to change.
    #[must_use]
    pub fn finish(self) -> Settlement {
        let mut now = BTreeSet::new();
        for ((content, source), list) in &self.edges {
            now.extend(list.iter().map(|(other, permille)| edge(content, other, source, *permille)));
        }
        let dropped = self.before.difference(&now).cloned().collect();
        let made = now.difference(&self.before).cloned().collect();
        Settlement { dropped, made, due: self.due }
    }

    fn sources(&self, content: &str, alike: &[Alike]) -> BTreeSet<String> {
        let from = (content.to_owned(), String::new());
        let has = self.edges.range(from..).map(|(key, _)| key).take_while(|(of, _)| of == content);
        has.map(|(_, source)| source.clone()).chain(alike.iter().map(|one| one.source.clone())).collect()
    }

    fn list(&self, content: &str, source: &str) -> BTreeMap<String, u16> {
        self.edges.get(&(content.to_owned(), source.to_owned())).cloned().unwrap_or_default()
    }

    fn linked(&self, one: &str, other: &str, source: &str) -> bool {
        self.edges.get(&(one.to_owned(), source.to_owned())).is_some_and(|list| list.contains_key(other))
    }

    /// The edge that is worth least to a content that has all it may have.
    fn worst(&self, content: &str, source: &str) -> Option<(Worth, String)> {
        let list = self.edges.get(&(content.to_owned(), source.to_owned()))?;
        let all = list.iter().map(|(other, permille)| (worth(content, other, *permille), other.clone()));
        all.min().filter(|_| list.len() >= ALIKE_MAX)
    }

    fn wants(&self, content: &str, other: &str, source: &str, permille: u16) -> bool {
        self.worst(content, source).is_none_or(|(least, _)| least < worth(content, other, permille))
    }

    fn make_room(&mut self, content: &str, source: &str) {
        if let Some((_, loser)) = self.worst(content, source) {
            self.cut(content, &loser, source);
        }
    }

    fn insert(&mut self, one: &str, other: &str, source: &str, permille: u16) {
        for (from, to) in [(one, other), (other, one)] {
            self.edges.entry((from.to_owned(), source.to_owned())).or_default().insert(to.to_owned(), permille);
        }
    }

    /// The other one loses its edge to `content`.
    fn cut(&mut self, content: &str, other: &str, source: &str) {
        for (from, to) in [(content, other), (other, content)] {
            if let Some(list) = self.edges.get_mut(&(from.to_owned(), source.to_owned())) {
                list.remove(to);
            }
        }
        self.due.insert(other.to_owned());
    }
}

fn says(alike: &[Alike], other: &str, source: &str, permille: u16) -> bool {
    alike.iter().any(|one| one.other == other && one.source == source && one.permille == permille)
}

#[cfg(test)]
mod tests;
