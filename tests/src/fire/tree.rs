//! The files and directories that a worker knows of, with their tags.
//!
//! Never asks a mount. Always: node 0 is the worker's own directory, which is never renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::rng::Rng;

/// Directories below one another at most.
const DEPTH_MAX: usize = 4;

/// A file or directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The directory it is in.
    pub parent: u64,
    /// Its name, which no other node ever has.
    pub name: String,
    /// What is in the file; none is a directory.
    pub content: Option<String>,
    /// What somebody said of it.
    pub tags: BTreeSet<String>,
    /// Its number as the graph writes it, with `~`.
    pub id: String,
}

/// All of a worker.
pub(super) struct Tree(pub BTreeMap<u64, Node>);

impl Tree {
    /// A worker's directory without anything in it.
    pub(super) fn new(name: &str) -> Self {
        Self(BTreeMap::from([(0, Node { name: name.to_owned(), ..Node::default() })]))
    }

    /// From the mount point.
    pub(super) fn path(&self, mut node: u64) -> PathBuf {
        let mut names = Vec::new();
        while node != 0 {
            names.push(self.0[&node].name.as_str());
            node = self.0[&node].parent;
        }
        names.push(self.0[&0].name.as_str());
        names.iter().rev().collect()
    }

    /// A directory in which there may be others.
    pub(super) fn directory(&self, rng: &mut Rng) -> u64 {
        let is_chosen = |(number, node): &(&u64, &Node)| {
            node.content.is_none() && self.path(**number).components().count() <= DEPTH_MAX
        };
        let all: Vec<u64> = self.0.iter().filter(is_chosen).map(|(number, _)| *number).collect();
        *rng.pick(&all)
    }

    /// A file; none when there is none.
    pub(super) fn file(&self, rng: &mut Rng) -> Option<u64> {
        self.one(rng, |number, node| number != 0 && node.content.is_some())
    }

    /// A directory but the worker's own; none when there is none.
    pub(super) fn subdirectory(&self, rng: &mut Rng) -> Option<u64> {
        self.one(rng, |number, node| number != 0 && node.content.is_none())
    }

    /// Any node but the worker's own directory that is so.
    pub(super) fn one(&self, rng: &mut Rng, is_so: impl Fn(u64, &Node) -> bool) -> Option<u64> {
        let all: Vec<u64> =
            self.0.iter().filter(|(number, node)| **number != 0 && is_so(**number, node)).map(|(n, _)| *n).collect();
        if all.is_empty() { None } else { Some(*rng.pick(&all)) }
    }

    /// `node` is `above` or lies below it.
    pub(super) fn lies_in(&self, mut node: u64, above: u64) -> bool {
        while node != above && node != 0 {
            node = self.0[&node].parent;
        }
        node == above
    }

    /// Forgets a node with all that is below it.
    pub(super) fn remove(&mut self, node: u64) {
        let gone: Vec<u64> = self.0.keys().copied().filter(|each| self.lies_in(*each, node)).collect();
        for each in gone {
            self.0.remove(&each);
        }
    }

    /// Another name for a tag, or none: on everything.
    pub(super) fn replace_tag(&mut self, tag: &str, new: Option<&str>) {
        for node in self.0.values_mut() {
            if node.tags.remove(tag) {
                node.tags.extend(new.map(str::to_owned));
            }
        }
    }
}
