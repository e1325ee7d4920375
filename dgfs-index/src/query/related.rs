//! Inodes that stand in a relation to one.
//!
//! Never names an inode that the viewer cannot reach, and never follows one to another. Relations that people and taggers
//! made lie in the table of edges; the others are computed when they are asked for, from what is kept by content
//! ([`similar`], [`origin`]), from names ([`links`], [`versions`]) and from tags: so none is ever stale.

mod links;
mod origin;
mod similar;
mod tie;
mod version_name;
mod versions;

use std::borrow::Cow;
use std::collections::HashMap;

use roaring::RoaringBitmap;

use dgfs_proto::graph::answer::RelatedTo;
use dgfs_proto::ids::Ino;
use dgfs_proto::query::{Entry, Relation};
use dgfs_proto::status::Status;
use dgfs_proto::tag::fold;

use crate::graph::columns::Doc;
use crate::query::evaluate::{Asker, Scores};
use crate::query::related::similar::is_wordless;
use crate::query::related::tie::{Tie, strongest, together};
use crate::query::view::View;
use crate::query::{Ask, Refusal};
use crate::store::EdgeRow;

/// A tag that so many carry, or fewer, says that its carriers have to do with one another.
const RARE_MAX: u64 = 1000;
/// So many of them in common make two inodes related.
const RARE_SHARED_MIN: u16 = 2;
/// What each shared rare tag is worth.
const RARE_PERMILLE: u16 = 100;
/// What a relation of no known strength is worth.
const CERTAIN: u16 = 1000;
/// Keys whose values are people that made a file.
const AUTHOR_KEYS: [&str; 3] = ["creator=", "author=", "artist="];

impl<'a> Ask<'a> {
    /// What an entry of a path names, if the asker can reach it.
    pub(crate) fn entry(&self, entry: &Entry, asker: Asker<'_>) -> Result<Doc, Refusal> {
        let ino = match entry {
            Entry::Ino(ino) => Some(*ino),
            Entry::Name(name) => self.readers.child(asker.scope, name)?,
        };
        let doc = ino.and_then(|ino| self.graph.columns.doc(ino)).ok_or(Status::NotFound)?;
        let reached = View::new(self.graph, Ino::ROOT, asker.viewer).admits(doc);
        if reached && self.graph.columns.live().contains(doc) { Ok(doc) } else { Err(Status::NotFound.into()) }
    }

    /// All that stand in this relation to it, with how strongly.
    pub(crate) fn related_to(&self, of: &Entry, relation: Relation, asker: Asker<'_>) -> Result<Scores, Refusal> {
        let doc = self.entry(of, asker)?;
        let view = View::of_readable(self.graph, asker.viewer);
        let mut scores = match relation {
            Relation::Tags => self.sharing_tags(doc),
            Relation::Authors => self.sharing_authors(doc)?,
            Relation::Related => together(&self.ties(doc, &view, asker)?),
            Relation::Similar
            | Relation::SameContent
            | Relation::LinksTo
            | Relation::LinkedFrom
            | Relation::Derived
            | Relation::Sources
            | Relation::Versions => {
                let mut ties = self.edges(doc)?;
                ties.retain(|tie| tie.relation == relation);
                ties.extend(self.computed(doc, relation, &view, asker)?);
                strongest(&ties)
            }
        };
        scores.remove(&doc);
        Ok(scores)
    }

    /// Ties of one relation that nobody made.
    fn computed(&self, doc: Doc, relation: Relation, view: &View<'_>, asker: Asker<'_>) -> Result<Vec<Tie>, Refusal> {
        if !self.may_read(doc) {
            return Ok(Vec::new());
        }
        match relation {
            Relation::SameContent => self.same_content(doc, view),
            Relation::Similar => {
                let mut ties = self.like_contents(doc, view)?;
                ties.extend(self.like_words(doc, view)?);
                Ok(ties)
            }
            Relation::LinksTo => self.links_to(doc, view, asker),
            Relation::LinkedFrom => self.linked_from(doc, view, asker),
            Relation::Derived | Relation::Sources => self.origin(doc, relation, &self.like_contents(doc, view)?, view),
            Relation::Versions => self.versions(doc, &self.like_contents(doc, view)?, view),
            Relation::Related => self.sharing_rare_tags(doc),
            Relation::Tags | Relation::Authors => Ok(Vec::new()),
        }
    }

    /// Every reason why another inode has to do with this one.
    fn ties(&self, doc: Doc, view: &View<'_>, asker: Asker<'_>) -> Result<Vec<Tie>, Refusal> {
        let mut ties = self.edges(doc)?;
        if !self.may_read(doc) {
            ties.extend(self.sharing_rare_tags(doc)?);
            return Ok(ties);
        }
        // Nothing in common is no common content.
        if self.graph.columns.facts(doc).size > 0 {
            ties.extend(self.same_content(doc, view)?);
        }
        let alike = self.like_contents(doc, view)?;
        for relation in [Relation::Derived, Relation::Sources] {
            ties.extend(self.origin(doc, relation, &alike, view)?);
        }
        ties.extend(self.versions(doc, &alike, view)?);
        ties.extend(alike);
        ties.extend(self.like_words(doc, view)?);
        ties.extend(self.links_to(doc, view, asker)?);
        ties.extend(self.linked_from(doc, view, asker)?);
        ties.extend(self.sharing_rare_tags(doc)?);
        ties.retain(|tie| tie.doc != doc);
        Ok(ties)
    }

    fn sharing_tags(&self, doc: Doc) -> Scores {
        let mut docs = RoaringBitmap::new();
        for tag in self.graph.tags_of(doc) {
            if let Some(entry) = self.graph.tags.get(*tag) {
                docs |= &entry.docs;
            }
        }
        docs.into_iter().map(|doc| (doc, CERTAIN)).collect()
    }

    fn sharing_authors(&self, doc: Doc) -> Result<Scores, Refusal> {
        let said = self.words_of(doc).iter().map(|word| fold(self.graph.words.shown(*word)));
        let carried = self.graph.tags_of(doc).iter().filter_map(|tag| self.graph.tags.get(*tag));
        let names = said.chain(carried.map(|entry| entry.fold.clone()));
        let authors: Vec<String> = names.filter(|name| AUTHOR_KEYS.iter().any(|key| name.starts_with(key))).collect();
        Ok(self.carriers(authors)?.into_iter().map(|doc| (doc, CERTAIN)).collect())
    }

    /// Tags of people and keywords of taggers that few carry. Values that taggers measured (a width, a number of pages) are
    /// shared by chance.
    fn sharing_rare_tags(&self, doc: Doc) -> Result<Vec<Tie>, Refusal> {
        let graph = self.graph;
        let mut shared: HashMap<Doc, u16> = HashMap::new();
        let tags = graph.tags_of(doc).iter().filter_map(|tag| graph.tags.get(*tag)).map(|entry| (&entry.docs, false));
        // Keywords of texts count by their cosine already; of pictures and sounds they are all there is.
        let said = if is_wordless(graph, doc) { self.words_of(doc) } else { &[] };
        let plain = said.iter().filter(|word| !graph.words.shown(**word).contains('='));
        let words = plain.filter_map(|word| graph.words.docs(*word)).map(|docs| (docs, true));
        for (docs, guarded) in tags.chain(words).filter(|(docs, _)| docs.len() <= RARE_MAX) {
            self.deadline.check()?;
            for other in docs.iter().filter(|other| !guarded || self.may_read(*other)) {
                *shared.entry(other).or_default() += 1;
            }
        }
        let shared = shared.into_iter().filter(|(_, count)| *count >= RARE_SHARED_MIN);
        let tie = |(other, count): (Doc, u16)| {
            Tie::new(other, Relation::Related, count.saturating_mul(RARE_PERMILLE), "tags")
        };
        Ok(shared.map(tie).collect())
    }

    /// What people and taggers made.
    fn edges(&self, doc: Doc) -> Result<Vec<Tie>, Refusal> {
        let Some(ino) = self.graph.columns.ino(doc) else { return Ok(Vec::new()) };
        let (from, to) = self.readers.edges(ino)?;
        let from = from.into_iter().map(|edge| (seen_from(&edge, true), edge.to, edge));
        let to = to.into_iter().map(|edge| (seen_from(&edge, false), edge.from, edge));
        let tie = |(relation, other, edge): (Relation, Ino, EdgeRow)| {
            let doc = self.graph.columns.doc(other)?;
            Some(Tie { doc, relation, permille: edge.permille.min(1000), source: Cow::Owned(edge.source) })
        };
        Ok(from.chain(to).filter_map(tie).collect())
    }

    /// Every relation of an inode that the viewer can see the other end of, those that are worth most first.
    pub(crate) fn relations(&self, ino: Ino, asker: Asker<'_>, limit: usize) -> Result<Vec<RelatedTo>, Refusal> {
        let doc = self.entry(&Entry::Ino(ino), asker)?;
        let view = View::new(self.graph, Ino::ROOT, asker.viewer);
        let mut ties = self.ties(doc, &View::of_readable(self.graph, asker.viewer), asker)?;
        ties.retain(|tie| self.graph.columns.live().contains(tie.doc) && view.admits(tie.doc));
        let order =
            |tie: &Tie| (std::cmp::Reverse(tie.worth()), self.graph.columns.ino(tie.doc), tie.relation.as_str());
        ties.sort_by(|one, other| order(one).cmp(&order(other)).then_with(|| one.source.cmp(&other.source)));
        ties.truncate(limit);
        let shown = |tie: Tie| {
            let relation = tie.relation.as_str().to_owned();
            let ino = self.graph.columns.ino(tie.doc)?;
            Some(RelatedTo { relation, ino, permille: tie.permille, source: tie.source.into_owned() })
        };
        Ok(ties.into_iter().filter_map(shown).collect())
    }
}

/// What an edge is in the path language, from its beginning (outward) or from its end. Kinds that it has no word for are
/// relations all the same.
fn seen_from(edge: &EdgeRow, outward: bool) -> Relation {
    match (edge.kind.as_str(), outward) {
        ("links-to", true) => Relation::LinksTo,
        ("links-to", false) => Relation::LinkedFrom,
        ("derived-from", true) => Relation::Sources,
        ("derived-from", false) => Relation::Derived,
        ("version-of", _) => Relation::Versions,
        ("similar", _) => Relation::Similar,
        _ => Relation::Related,
    }
}
