//! Files that are like one: by fingerprints of their contents, and by the keywords that taggers found in them.
//!
//! Never reads a content. MinHash finds what was copied and edited, not what is on the same matter; keywords find that: the
//! cosine of their weights, where a word counts by how few files carry it (Spärck Jones, "A statistical interpretation of
//! term specificity", 1972). Always: nothing that the viewer cannot reach takes a place in a list that is cut.

use std::collections::HashMap;

use dgfs_proto::query::Relation;

use crate::graph::Graph;
use crate::graph::columns::{Doc, NO_CONTENT};
use crate::graph::words::WordIx;
use crate::likeness::PrintKind;
use crate::query::related::tie::Tie;
use crate::query::view::View;
use crate::query::{Ask, Refusal};

/// Files that are named by keywords alone, and by vectors alone: the best of what never ends.
const BEST: usize = 20;
/// A keyword that more carry is passed over: it says little, and its list is long.
const CARRIERS_MAX: u64 = 20_000;
/// A cosine of keywords below is chance: one common word of many. Measured with `bench/relations.py`: from 0 to here hardly a
/// right answer is lost, from 0.07 on many are.
const COSINE_MIN: f64 = 0.05;
/// Words that say what a picture or a sound is like (colours) are no keywords of a text.
const WORDLESS: [&str; 3] = ["type=image", "type=audio", "type=video"];

impl Ask<'_> {
    /// Files whose contents have like fingerprints; those of the same content are not among them.
    pub(super) fn like_contents(&self, doc: Doc, view: &View<'_>) -> Result<Vec<Tie>, Refusal> {
        let Some(hash) = self.graph.content_hash(self.graph.columns.facts(doc).content) else { return Ok(Vec::new()) };
        let mut ties = Vec::new();
        let mut vectors = Vec::new();
        for likeness in self.readers.likenesses_of(hash)? {
            self.deadline.check()?;
            let list = if likeness.kind == PrintKind::Vector { &mut vectors } else { &mut ties };
            for other in self.docs_of_content(&likeness.content, view)? {
                list.push(Tie::new(other, Relation::Similar, likeness.permille, likeness.kind.as_str()));
            }
        }
        ties.extend(best(self.graph, vectors));
        Ok(ties)
    }

    /// Files with this content that the viewer can reach.
    pub(super) fn docs_of_content(
        &self,
        hash: &crate::step::ContentHash,
        view: &View<'_>,
    ) -> Result<Vec<Doc>, Refusal> {
        let inos = self.readers.inos_of_content(hash)?;
        let docs = inos.into_iter().filter_map(|ino| self.graph.columns.doc(ino));
        // A file whose owner does not want its content known has none here.
        let is_known = |doc: &Doc| self.graph.columns.facts(*doc).content != NO_CONTENT;
        Ok(docs.filter(|doc| is_known(doc) && self.graph.columns.live().contains(*doc) && view.admits(*doc)).collect())
    }

    /// Files on the same matter, by keywords; those of the same content are not among them.
    pub(super) fn like_words(&self, doc: Doc, view: &View<'_>) -> Result<Vec<Tie>, Refusal> {
        let graph = self.graph;
        if is_wordless(graph, doc) {
            return Ok(Vec::new());
        }
        let own = keywords(graph, doc);
        let weights = Weights { graph };
        let mut common: HashMap<Doc, f64> = HashMap::new();
        let mut steps = 0;
        for word in &own {
            let Some(docs) = graph.words.docs(*word).filter(|docs| docs.len() <= CARRIERS_MAX) else { continue };
            let square = weights.of(*word).powi(2);
            for other in docs {
                self.deadline.check_sometimes(&mut steps)?;
                *common.entry(other).or_default() += square;
            }
        }
        let own_length = weights.length(&own);
        let content = graph.columns.facts(doc).content;
        let mut ties = Vec::new();
        for (other, dot) in common {
            self.deadline.check_sometimes(&mut steps)?;
            let same = content != NO_CONTENT && graph.columns.facts(other).content == content;
            if other == doc || same {
                continue;
            }
            let length = own_length * weights.length(&keywords(graph, other));
            let cosine = if length > 0.0 { (dot / length).min(1.0) } else { 0.0 };
            if cosine >= COSINE_MIN
                && !is_wordless(graph, other)
                && view.admits(other)
                && graph.columns.live().contains(other)
            {
                ties.push(Tie::new(other, Relation::Similar, (cosine * 1000.0).round() as u16, "keywords"));
            }
        }
        Ok(best(graph, ties))
    }
}

/// The [`BEST`] of them; of equal ones the older inodes.
fn best(graph: &Graph, mut ties: Vec<Tie>) -> Vec<Tie> {
    ties.sort_by_key(|tie| (std::cmp::Reverse(tie.permille), graph.columns.ino(tie.doc)));
    ties.truncate(BEST);
    ties
}

/// Is there no text in it?
pub(super) fn is_wordless(graph: &Graph, doc: Doc) -> bool {
    WORDLESS.iter().filter_map(|word| graph.words.find(word)).any(|word| graph.words_of(doc).contains(&word))
}

/// Words without a value: what taggers found in the text.
fn keywords(graph: &Graph, doc: Doc) -> Vec<WordIx> {
    graph.words_of(doc).iter().copied().filter(|word| !graph.words.shown(*word).contains('=')).collect()
}

/// How much words say.
struct Weights<'a> {
    graph: &'a Graph,
}

impl Weights<'_> {
    fn of(&self, word: WordIx) -> f64 {
        let all = self.graph.columns.live().len() as f64;
        let carriers = self.graph.words.docs(word).map_or(0, roaring::RoaringBitmap::len) as f64;
        ((1.0 + all) / (1.0 + carriers)).ln().max(0.0)
    }

    fn length(&self, words: &[WordIx]) -> f64 {
        words.iter().map(|word| self.of(*word).powi(2)).sum::<f64>().sqrt()
    }
}
