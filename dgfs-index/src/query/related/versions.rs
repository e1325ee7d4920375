//! Other versions of a file: by their names, and by names and likeness together.
//!
//! Never takes two parts of a series (`IMG_0001`, `IMG_0002`) for versions of each other unless their contents are alike.
//! Always: the same from both sides.

use std::collections::HashMap;

use dgfs_proto::query::Relation;

use crate::graph::columns::{Doc, Link};
use crate::query::related::tie::Tie;
use crate::query::related::version_name::VersionName;
use crate::query::view::View;
use crate::query::{Ask, Refusal};

/// Names of one file that are looked at.
const NAMES_MAX: usize = 16;
/// Names of one directory that are looked at.
const DIRECTORY_MAX: usize = 20_000;
/// The name alone says so.
const BY_NAME: u32 = 700;
/// Name and full likeness say so.
const BY_BOTH: u32 = 1000;
/// Numbers or dates, or another directory, and full likeness.
const BY_LIKENESS: u32 = 850;

impl Ask<'_> {
    /// See the module; `alike` as [`Ask::like_contents`] found them.
    pub(super) fn versions(&self, doc: Doc, alike: &[Tie], view: &View<'_>) -> Result<Vec<Tie>, Refusal> {
        if self.graph.columns.directories().contains(doc) {
            return Ok(Vec::new());
        }
        let mut like: HashMap<Doc, u16> = HashMap::new();
        let copies = self.same_content(doc, view)?;
        for tie in copies.iter().chain(alike).filter(|_| self.graph.columns.facts(doc).size > 0) {
            let known = like.entry(tie.doc).or_default();
            *known = tie.permille.max(*known);
        }
        let links: Vec<Link> =
            self.graph.columns.links(doc).filter(|link| view.leads_to(link.parent)).take(NAMES_MAX).collect();
        let mut scores: HashMap<Doc, u16> = HashMap::new();
        for link in &links {
            let Some(own) = VersionName::of(self.graph.name(link.name)) else { continue };
            for other in self.named_alike(*link, &own, view)? {
                let likeness = u32::from(like.get(&other).copied().unwrap_or_default());
                raise(&mut scores, other, BY_NAME + (BY_BOTH - BY_NAME) * likeness / 1000);
            }
            for (other, permille) in &like {
                self.deadline.check()?;
                let names = self.graph.columns.links(*other).filter(|link| view.leads_to(link.parent)).take(NAMES_MAX);
                let mut names = names.filter_map(|link| VersionName::of(self.graph.name(link.name)));
                if names.any(|name| name.bare == own.bare && name.ext == own.ext) {
                    raise(&mut scores, *other, BY_LIKENESS * u32::from(*permille) / 1000);
                }
            }
        }
        scores.remove(&doc);
        Ok(scores.into_iter().map(|(other, permille)| Tie::new(other, Relation::Versions, permille, "names")).collect())
    }

    /// Files beside it whose names differ only in signs of a version.
    fn named_alike(&self, link: Link, own: &VersionName, view: &View<'_>) -> Result<Vec<Doc>, Refusal> {
        let Some(directory) = self.graph.columns.ino(link.parent).filter(|_| view.leads_to(link.parent)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let mut steps = 0;
        for (name, ino) in self.readers.names_in(directory, DIRECTORY_MAX)? {
            self.deadline.check_sometimes(&mut steps)?;
            let is_alike =
                VersionName::of(name.as_bytes()).is_some_and(|name| name.plain == own.plain && name.ext == own.ext);
            let doc =
                self.graph.columns.doc(ino).filter(|doc| is_alike && !self.graph.columns.directories().contains(*doc));
            found.extend(doc.filter(|doc| self.graph.columns.live().contains(*doc) && view.admits(*doc)));
        }
        Ok(found)
    }
}

fn raise(scores: &mut HashMap<Doc, u16>, doc: Doc, permille: u32) {
    let permille = u16::try_from(permille).unwrap_or(1000);
    let known = scores.entry(doc).or_default();
    *known = permille.max(*known);
}
