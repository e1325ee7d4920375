//! Inodes that stand in a relation to one.
//!
//! Never asks an inode that the viewer cannot reach. Relations that hold by themselves (same content, shared tags) are computed
//! here; the others lie in the table of edges.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use dgfs_proto::graph::answer::RelatedTo;
use dgfs_proto::ids::Ino;
use dgfs_proto::query::{Entry, Relation};
use dgfs_proto::status::Status;
use dgfs_proto::tag::fold;

use crate::graph::columns::{Doc, NO_CONTENT};
use crate::query::evaluate::{Asker, Scores};
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
        let mut scores = match relation {
            Relation::Tags => self.sharing_tags(doc),
            Relation::SameContent => self.same_content(doc)?,
            Relation::Authors => self.sharing_authors(doc),
            Relation::Related => self.anyhow_related(doc)?,
            Relation::Similar
            | Relation::LinksTo
            | Relation::LinkedFrom
            | Relation::Derived
            | Relation::Sources
            | Relation::Versions => self.by_edges(doc, Some(relation))?,
        };
        scores.remove(&doc);
        Ok(scores)
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

    fn same_content(&self, doc: Doc) -> Result<Scores, Refusal> {
        let content = self.graph.columns.facts(doc).content;
        let mut scores = Scores::new();
        if content == NO_CONTENT {
            return Ok(scores);
        }
        let mut steps = 0;
        for other in self.graph.columns.live() {
            self.deadline.check_sometimes(&mut steps)?;
            if self.graph.columns.facts(other).content == content {
                scores.insert(other, CERTAIN);
            }
        }
        Ok(scores)
    }

    fn sharing_authors(&self, doc: Doc) -> Scores {
        let said = self.graph.words_of(doc).iter().map(|word| fold(self.graph.words.shown(*word)));
        let carried = self.graph.tags_of(doc).iter().filter_map(|tag| self.graph.tags.get(*tag));
        let names = said.chain(carried.map(|entry| entry.fold.clone()));
        let authors: Vec<String> = names.filter(|name| AUTHOR_KEYS.iter().any(|key| name.starts_with(key))).collect();
        self.graph.carriers(authors).into_iter().map(|doc| (doc, CERTAIN)).collect()
    }

    fn anyhow_related(&self, doc: Doc) -> Result<Scores, Refusal> {
        let mut shared: HashMap<Doc, u16> = HashMap::new();
        let tags = self.graph.tags_of(doc).iter().filter_map(|tag| self.graph.tags.get(*tag)).map(|entry| &entry.docs);
        let words = self.graph.words_of(doc).iter().filter_map(|word| self.graph.words.docs(*word));
        for docs in tags.chain(words).filter(|docs| docs.len() <= RARE_MAX) {
            self.deadline.check()?;
            for other in docs {
                *shared.entry(other).or_default() += 1;
            }
        }
        let mut scores: Scores = shared
            .into_iter()
            .filter(|(_, count)| *count >= RARE_SHARED_MIN)
            .map(|(doc, count)| (doc, count.saturating_mul(RARE_PERMILLE).min(CERTAIN)))
            .collect();
        for (other, permille) in self.by_edges(doc, None)?.into_iter().chain(self.same_content(doc)?) {
            let known = scores.entry(other).or_default();
            *known = permille.max(*known);
        }
        Ok(scores)
    }

    /// By edges of one relation, or of any.
    fn by_edges(&self, doc: Doc, relation: Option<Relation>) -> Result<Scores, Refusal> {
        let Some(ino) = self.graph.columns.ino(doc) else { return Ok(Scores::new()) };
        let (from, to) = self.readers.edges(ino)?;
        let from = from.iter().map(|edge| (seen_from(edge, true), edge.to, edge.permille));
        let to = to.iter().map(|edge| (seen_from(edge, false), edge.from, edge.permille));
        let mut scores = Scores::new();
        for (seen, other, permille) in from.chain(to) {
            if relation.is_none_or(|relation| seen == relation.as_str())
                && let Some(other) = self.graph.columns.doc(other)
            {
                let known = scores.entry(other).or_default();
                *known = permille.max(*known);
            }
        }
        Ok(scores)
    }

    /// Every relation of an inode that the viewer can see the other end of, the strongest first.
    pub(crate) fn relations(&self, ino: Ino, asker: Asker<'_>, limit: usize) -> Result<Vec<RelatedTo>, Refusal> {
        let doc = self.entry(&Entry::Ino(ino), asker)?;
        let view = View::new(self.graph, Ino::ROOT, asker.viewer);
        let visible = |other: Ino| {
            let doc = self.graph.columns.doc(other);
            doc.is_some_and(|doc| self.graph.columns.live().contains(doc) && view.admits(doc))
        };
        let (from, to) = self.readers.edges(ino)?;
        let from = from.iter().map(|edge| (edge, edge.to, true));
        let to = to.iter().map(|edge| (edge, edge.from, false));
        let mut related: Vec<RelatedTo> = from
            .chain(to)
            .filter(|(_, other, _)| visible(*other))
            .map(|(edge, other, outward)| RelatedTo {
                relation: seen_from(edge, outward).to_owned(),
                ino: other,
                permille: edge.permille,
                source: edge.source.clone(),
            })
            .collect();
        for (other, permille) in self.same_content(doc)? {
            if let Some(other) = self.graph.columns.ino(other).filter(|other| *other != ino && visible(*other)) {
                let relation = Relation::SameContent.as_str().to_owned();
                related.push(RelatedTo { relation, ino: other, permille, source: "content".to_owned() });
            }
        }
        related.sort_by(|one, other| {
            (other.permille, one.ino, &one.relation).cmp(&(one.permille, other.ino, &other.relation))
        });
        related.truncate(limit);
        Ok(related)
    }
}

/// The path language's word for an edge, from its beginning (outward) or from its end.
fn seen_from(edge: &EdgeRow, outward: bool) -> &str {
    let relation = match (edge.kind.as_str(), outward) {
        ("links-to", true) => Relation::LinksTo,
        ("links-to", false) => Relation::LinkedFrom,
        ("derived-from", true) => Relation::Sources,
        ("derived-from", false) => Relation::Derived,
        ("version-of", _) => Relation::Versions,
        ("similar", _) => Relation::Similar,
        ("related-to", _) => Relation::Related,
        (other, _) => return other,
    };
    relation.as_str()
}
