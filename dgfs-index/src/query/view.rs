//! What a viewer can reach below a directory.
//!
//! Never guesses: a directory whose ancestors are not known up to the root is out of reach. An inode is admitted by a link
//! whose directory lies below the scope (or is it), can be read, and can be searched up to the root.

use std::cell::RefCell;

use roaring::RoaringBitmap;

use dgfs_proto::graph::Viewer;
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::permission::Wanted;
use dgfs_proto::status::Status;

use crate::graph::Graph;
use crate::graph::columns::{Doc, Link};
use crate::query::{Deadline, Refusal};

/// Directories above one another that are looked at: paths are limited to 4,096 bytes by the kernel.
const DEPTH_MAX: usize = 4096;
const SEEN: u8 = 1;
const BELOW: u8 = 2;
const REACHABLE: u8 = 4;
const READABLE: u8 = 8;
const ADMITS: u8 = SEEN | BELOW | REACHABLE | READABLE;

/// See the module. Remembers what it found of each directory: for one question.
pub(crate) struct View<'a> {
    graph: &'a Graph,
    scope: Ino,
    viewer: &'a Viewer,
    /// Everything is admitted.
    whole: bool,
    /// Only what the viewer may read.
    reading: bool,
    directories: RefCell<Vec<u8>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(graph: &'a Graph, scope: Ino, viewer: &'a Viewer) -> Self {
        let whole = scope == Ino::ROOT && viewer.uid == 0;
        let directories = RefCell::new(if whole { Vec::new() } else { vec![0; graph.columns.len()] });
        Self { graph, scope, viewer, whole, reading: false, directories }
    }

    /// Of everything that the viewer can reach, what he may also read: what follows from contents is told of no other.
    pub(crate) fn of_readable(graph: &'a Graph, viewer: &'a Viewer) -> Self {
        Self { reading: true, ..Self::new(graph, Ino::ROOT, viewer) }
    }

    /// Is an inode admitted, and by which link? The first one by directory and name.
    pub(crate) fn admitted(&self, doc: Doc) -> Option<Link> {
        let mut best: Option<Link> = None;
        for link in self.graph.columns.links(doc) {
            if !self.admits_directory(link.parent) {
                continue;
            }
            best = match best {
                Some(known) if self.order(known) <= self.order(link) => Some(known),
                _ => Some(link),
            };
        }
        best
    }

    fn order(&self, link: Link) -> (Option<Ino>, &'a [u8]) {
        (self.graph.columns.ino(link.parent), self.graph.name(link.name))
    }

    pub(crate) fn admits(&self, doc: Doc) -> bool {
        if self.whole {
            return self.graph.columns.live().contains(doc);
        }
        (!self.reading || self.graph.may(doc, self.viewer, Wanted::READ))
            && self.graph.columns.links(doc).any(|link| self.admits_directory(link.parent))
    }

    /// Can the viewer search every directory on the way to one, its name perhaps not listed?
    pub(crate) fn leads_to(&self, directory: Doc) -> bool {
        self.viewer.uid == 0 || self.known(directory) & REACHABLE != 0
    }

    fn admits_directory(&self, directory: Doc) -> bool {
        self.whole || self.known(directory) & ADMITS == ADMITS
    }

    /// What is known of a directory; found out, with what lies above, the first time.
    fn known(&self, directory: Doc) -> u8 {
        let mut known = self.directories.borrow_mut();
        if let Some(bits) = known.get(directory as usize).filter(|bits| **bits & SEEN != 0) {
            return *bits;
        }
        let mut chain = Vec::new();
        let mut at = directory;
        let mut above = loop {
            match known.get(at as usize) {
                Some(bits) if bits & SEEN != 0 => break *bits,
                None => break SEEN,
                Some(_) => {}
            }
            chain.push(at);
            if self.graph.columns.ino(at) == Some(Ino::ROOT) {
                // Above the root everything is open, and below no scope.
                break SEEN | REACHABLE;
            }
            match self.graph.columns.links(at).next() {
                Some(link) if chain.len() < DEPTH_MAX => at = link.parent,
                Some(_) | None => break SEEN,
            }
        };
        for directory in chain.into_iter().rev() {
            above = self.below(directory, above);
            if let Some(place) = known.get_mut(directory as usize) {
                *place = above;
            }
        }
        above
    }

    fn below(&self, directory: Doc, above: u8) -> u8 {
        let mut bits = SEEN | (above & BELOW);
        if self.graph.columns.ino(directory) == Some(self.scope) {
            bits |= BELOW;
        }
        if above & REACHABLE != 0 && self.graph.may(directory, self.viewer, Wanted::SEARCH) {
            bits |= REACHABLE;
        }
        if self.graph.may(directory, self.viewer, Wanted::READ) {
            bits |= READABLE;
        }
        bits
    }

    /// Those of `docs` that are admitted.
    pub(crate) fn cut(&self, docs: RoaringBitmap, deadline: &Deadline<'_>) -> Result<RoaringBitmap, Refusal> {
        if self.whole {
            return Ok(docs & self.graph.columns.live());
        }
        let mut rejected = RoaringBitmap::new();
        let mut steps = 0;
        // Neighbours by number mostly lie in one directory.
        let mut admitting = None;
        for doc in &docs {
            deadline.check_sometimes(&mut steps)?;
            let parent = self.graph.columns.first_parent(doc);
            if parent.is_some() && parent == admitting {
                continue;
            }
            admitting = parent.filter(|parent| self.admits_directory(*parent));
            if admitting.is_none() && !self.admits(doc) {
                // Documents come in order.
                let _ = rejected.try_push(doc);
            }
        }
        Ok((docs - rejected) & self.graph.columns.live())
    }

    /// Names from the scope down to an inode.
    pub(crate) fn path(&self, ino: Ino) -> Result<Vec<Name>, Refusal> {
        if ino == self.scope {
            return Ok(Vec::new());
        }
        let doc = self.graph.columns.doc(ino).ok_or(Status::NotFound)?;
        let mut link =
            self.admitted(doc).filter(|_| self.graph.columns.live().contains(doc)).ok_or(Status::NotFound)?;
        let mut names = Vec::new();
        loop {
            names.push(Name::new(self.graph.name(link.name)).map_err(|_| Status::NotFound)?);
            if self.graph.columns.ino(link.parent) == Some(self.scope) {
                names.reverse();
                return Ok(names);
            }
            if names.len() >= DEPTH_MAX {
                return Err(Status::NotFound.into());
            }
            link = self.graph.columns.links(link.parent).next().ok_or(Status::NotFound)?;
        }
    }
}
