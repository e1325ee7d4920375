//! Files that a file's content points at, and files whose contents point at it: resolved in the directory tree as it is now.
//!
//! Never follows a symbolic link: the index does not know where they lead. Never passes a directory that the viewer cannot
//! search. Always: `linked-from` is the converse of `links-to`, since it asks each file that may point here whether it does
//! (but for pointers that end with `.` or `..`).

use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::permission::Wanted;
use dgfs_proto::query::Relation;

use crate::graph::columns::{Doc, Link};
use crate::pointer::{Place, Pointer, Start, keys_of};
use crate::query::evaluate::Asker;
use crate::query::related::tie::Tie;
use crate::query::view::View;
use crate::query::{Ask, Refusal};

/// Names of one file that pointers are read from.
const NAMES_MAX: usize = 16;
/// Files that are named as pointing at one.
const LINKING_MAX: usize = 10_000;
/// A path that leads there.
const PATH: u16 = 1000;
/// A module's name that leads there: its search path is guessed.
const IMPORT: u16 = 900;

impl Ask<'_> {
    /// What its content points at.
    pub(super) fn links_to(&self, doc: Doc, view: &View<'_>, asker: Asker<'_>) -> Result<Vec<Tie>, Refusal> {
        let Some(hash) = self.graph.content_hash(self.graph.columns.facts(doc).content) else { return Ok(Vec::new()) };
        let pointers = self.readers.pointers_of(hash)?;
        let mut ties = Vec::new();
        for link in self.names_reached(doc, view) {
            for pointer in &pointers {
                self.deadline.check()?;
                if let Some(target) = self.resolve(pointer, link, asker)?
                    && target != doc
                    && view.admits(target)
                {
                    ties.push(Tie::new(target, Relation::LinksTo, strength(pointer), "links"));
                }
            }
        }
        ties.sort_by_key(|tie| (tie.doc, std::cmp::Reverse(tie.permille)));
        ties.dedup_by_key(|tie| tie.doc);
        Ok(ties)
    }

    /// Whose contents point at it.
    pub(super) fn linked_from(&self, doc: Doc, view: &View<'_>, asker: Asker<'_>) -> Result<Vec<Tie>, Refusal> {
        let mut keys = std::collections::BTreeSet::new();
        for link in self.names_reached(doc, view) {
            let above =
                self.graph.columns.links(link.parent).next().map_or(&[][..], |above| self.graph.name(above.name));
            keys.extend(keys_of(self.graph.name(link.name), above));
        }
        let mut ties: Vec<Tie> = Vec::new();
        for (hash, pointer) in self.readers.pointing_at(&keys)? {
            if ties.len() >= LINKING_MAX {
                break;
            }
            for other in self.docs_of_content(&hash, view)? {
                for link in self.names_reached(other, view) {
                    self.deadline.check()?;
                    if other != doc && self.resolve(&pointer, link, asker)? == Some(doc) {
                        ties.push(Tie::new(other, Relation::LinkedFrom, strength(&pointer), "links"));
                    }
                }
            }
        }
        ties.sort_by_key(|tie| (tie.doc, std::cmp::Reverse(tie.permille)));
        ties.dedup_by_key(|tie| tie.doc);
        Ok(ties)
    }

    /// Names of a file in directories that the viewer can search.
    fn names_reached(&self, doc: Doc, view: &View<'_>) -> Vec<Link> {
        self.graph.columns.links(doc).filter(|link| view.leads_to(link.parent)).take(NAMES_MAX).collect()
    }

    /// Where a pointer leads from a file of this name: the first place that is there.
    fn resolve(&self, pointer: &Pointer, from: Link, asker: Asker<'_>) -> Result<Option<Doc>, Refusal> {
        for place in pointer.places(self.graph.name(from.name)) {
            if let Some(found) = self.walk(&place, from.parent, asker)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn walk(&self, place: &Place, here: Doc, asker: Asker<'_>) -> Result<Option<Doc>, Refusal> {
        let columns = &self.graph.columns;
        let Some(root) = columns.doc(Ino::ROOT) else { return Ok(None) };
        // As in every file system, the root's parent is the root.
        let above = |directory: Doc| columns.links(directory).next().map_or(root, |link| link.parent);
        let mut at = match place.start {
            Start::Root => root,
            Start::Up(up) => {
                let mut at = here;
                for _ in 0..up {
                    if at == root {
                        // The search for a module ends at the root, and does not look there twice.
                        return Ok(None);
                    }
                    at = above(at);
                }
                at
            }
        };
        for part in &place.path {
            if !columns.directories().contains(at) || !self.graph.may(at, asker.viewer, Wanted::SEARCH) {
                return Ok(None);
            }
            at = match part.as_slice() {
                b"." => at,
                b".." => above(at),
                part => {
                    // A name that no directory has is none of ours: most places end here without a look at the disk.
                    let known = self.graph.names.find(part).and_then(|_| Name::new(part).ok());
                    let (Some(name), Some(directory)) = (known, columns.ino(at)) else { return Ok(None) };
                    match self.readers.child(directory, &name)?.and_then(|child| columns.doc(child)) {
                        Some(child) => child,
                        None => return Ok(None),
                    }
                }
            };
        }
        Ok(Some(at).filter(|at| columns.live().contains(*at)))
    }
}

fn strength(pointer: &Pointer) -> u16 {
    if pointer.import { IMPORT } else { PATH }
}
