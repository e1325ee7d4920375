//! Where a file comes from, as far as contents tell: copies of an earlier file, small versions of a picture.
//!
//! Never knows who copied: of files with the same content the one that was made first counts as the source. Always: the
//! two relations are each other's converse, for one viewer (a source that he cannot reach is none for him).

use dgfs_proto::query::Relation;

use crate::graph::columns::{Doc, NO_CONTENT};
use crate::likeness::{Print, PrintKind};
use crate::query::related::tie::Tie;
use crate::query::view::View;
use crate::query::{Ask, Refusal};

/// How sure it is that equal contents are copies: other programs may have made both.
const COPY: u16 = 900;
/// How sure it is that a smaller picture was made from a larger one.
const THUMBNAIL: u16 = 800;
/// Bits in which the hash of a scaled picture may differ.
const THUMBNAIL_BITS_MAX: u32 = 2;
/// A thumbnail has so much smaller an area, at least: half the width and height.
const AREA_RATIO_MIN: f64 = 4.0;

impl Ask<'_> {
    /// Files of the same content; of the empty one only those that ask for them by name mean it.
    pub(super) fn same_content(&self, doc: Doc, view: &View<'_>) -> Result<Vec<Tie>, Refusal> {
        let content = self.graph.columns.facts(doc).content;
        let Some(hash) = self.graph.content_hash(content).filter(|_| content != NO_CONTENT) else {
            return Ok(Vec::new());
        };
        let docs = self.docs_of_content(hash, view)?.into_iter().filter(|other| *other != doc);
        Ok(docs.map(|other| Tie::new(other, Relation::SameContent, 1000, "content")).collect())
    }

    /// [`Relation::Sources`] or [`Relation::Derived`]; `alike` as [`Ask::like_contents`] found them.
    pub(super) fn origin(
        &self,
        doc: Doc,
        relation: Relation,
        alike: &[Tie],
        view: &View<'_>,
    ) -> Result<Vec<Tie>, Refusal> {
        let mut ties = Vec::new();
        if self.graph.columns.facts(doc).size > 0 {
            let copies: Vec<Doc> = self.same_content(doc, view)?.into_iter().map(|tie| tie.doc).collect();
            let first = copies.iter().copied().chain([doc]).min_by_key(|doc| self.born(*doc));
            let named = match relation {
                Relation::Sources => first.filter(|first| *first != doc).into_iter().collect(),
                _ if first == Some(doc) => copies,
                _ => Vec::new(),
            };
            ties.extend(named.into_iter().map(|other| Tie::new(other, relation, COPY, "content")));
        }
        let Some(area) = self.area(doc) else { return Ok(ties) };
        let least = Print::picture_permille(THUMBNAIL_BITS_MAX);
        for like in alike {
            let is_close = like.source == PrintKind::Picture.as_str() && like.permille >= least;
            let Some(other) = self.area(like.doc).filter(|_| is_close) else { continue };
            let (source, derived) = if relation == Relation::Sources { (other, area) } else { (area, other) };
            if source >= derived * AREA_RATIO_MIN {
                ties.push(Tie::new(like.doc, relation, THUMBNAIL, "picture"));
            }
        }
        Ok(ties)
    }

    /// Earlier files first.
    fn born(&self, doc: Doc) -> (i64, Option<dgfs_proto::ids::Ino>) {
        (self.graph.columns.facts(doc).btime_ns, self.graph.columns.ino(doc))
    }

    /// Pixels of a picture, as taggers found them.
    fn area(&self, doc: Doc) -> Option<f64> {
        let number = |key: &str| {
            let words = self.graph.words_of(doc).iter().map(|word| self.graph.words.shown(*word));
            let found: Option<f64> =
                words.filter_map(|word| word.strip_prefix(key)).find_map(|value| value.parse().ok());
            found.filter(|number| number.is_finite() && *number > 0.0)
        };
        Some(number("width=")? * number("height=")?)
    }
}
