//! One worker: what it does to its own directory and tags, and what it knows of them.
//!
//! Never touches another worker's files or tags but in the common directory. Always: the tree is what was answered.

mod tagging;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::agent::Counted;
use super::mount_calls::{Failed, attribute, tags};
use super::tree::{Node, Tree};
use super::{common, mount_calls};
use crate::rng::Rng;

/// Words of the texts: enough for keywords, few enough for files that have some in common.
const WORDS: &[&str] = &[
    "erasure",
    "coding",
    "replication",
    "metadata",
    "server",
    "harbour",
    "lighthouse",
    "garden",
    "violin",
    "glacier",
    "the",
    "of",
    "and",
    "is",
    "a",
    "with",
];
/// Tags that all workers give, and none renames.
const SHARED: &[&str] = &["beach", "office", "place:cn:hefei", "year=2020", "it's \"here\"", "summer trip"];
/// Files of a worker at most: beyond, one is removed for a new one.
const FILES_MAX: usize = 60;

/// One that works.
pub(super) struct Worker {
    number: u64,
    mounts: Vec<PathBuf>,
    program: PathBuf,
    tree: Tree,
    /// Tags that only this worker gives, renames and deletes.
    own: Vec<String>,
    next: u64,
    counted: Arc<Counted>,
    rng: Rng,
}

impl Worker {
    /// A worker of this number, before its first step.
    pub(super) fn new(number: u64, mounts: &[PathBuf], program: &Path, (counted, rng): (Arc<Counted>, Rng)) -> Self {
        let own = ["{} plain", "{}:low:er", "{}/sl%ash", "{}') MATCH (n) DETACH DELETE n"];
        Self {
            number,
            mounts: mounts.to_vec(),
            program: program.to_owned(),
            tree: Tree::new(&format!("w{number}")),
            own: own.iter().map(|tag| tag.replace("{}", &format!("w{number}"))).collect(),
            next: 0,
            counted,
            rng,
        }
    }

    /// Does one thing.
    ///
    /// # Errors
    /// What was refused, or is not as it was acknowledged.
    pub(super) fn step(&mut self) -> Result<(), String> {
        let root = self.root();
        fs::create_dir_all(root.join(self.tree.path(0))).map_err(|error| format!("make a directory: {error}"))?;
        let did = match self.rng.below(100) {
            0..14 => self.create()?,
            14..22 => self.write()?,
            22..30 => self.rename_file()?,
            30..35 => self.rename_directory()?,
            35..40 => self.unlink()?,
            40..43 => self.make_directory()?,
            43 => self.remove_directory()?,
            44..55 => self.set_by_attribute()?,
            55..67 => self.tag_by_link()?,
            67..74 => self.untag_by_unlink()?,
            74..79 => self.move_between_tags()?,
            79..86 => self.tag_by_command()?,
            86..88 => self.rename_tag()?,
            88 => self.delete_tag()?,
            89..91 => self.relate()?,
            _ => Some(common::step(&self.root(), &self.root(), &mut self.rng)?),
        };
        if let Some(kind) = did {
            self.counted.did(kind);
        }
        Ok(())
    }

    /// What a mount shows otherwise than it was acknowledged.
    pub(super) fn verify(&self, root: &Path) -> Vec<String> {
        let mut broken = Vec::new();
        let mut found = Vec::new();
        walk(root, &self.tree.path(0), &mut found);
        for node in self.tree.0.keys() {
            let path = self.tree.path(*node);
            match found.iter().position(|each| *each == path) {
                Some(at) => drop(found.swap_remove(at)),
                None => broken.push(format!("{} is not there", path.display())),
            }
            broken.extend(self.verify_one(root, *node).err());
        }
        broken.extend(found.iter().map(|path| format!("{} is there and nobody made it", path.display())));
        broken
    }

    fn verify_one(&self, root: &Path, node: u64) -> Result<(), String> {
        let (path, node) = (root.join(self.tree.path(node)), &self.tree.0[&node]);
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let tags = tags(&path).map_err(told)?;
        if tags != node.tags {
            return Err(format!("{} has the tags {tags:?}, acknowledged were {:?}", path.display(), node.tags));
        }
        match &node.content {
            Some(content) if fs::read(&path).map_err(told)? != content.as_bytes() => {
                Err(format!("{} has another content", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// A mount.
    fn root(&mut self) -> PathBuf {
        self.rng.pick(&self.mounts).clone()
    }

    fn create(&mut self) -> Result<Option<&'static str>, String> {
        if self.tree.0.len() > FILES_MAX {
            return self.unlink();
        }
        let parent = self.tree.directory(&mut self.rng);
        self.next += 1;
        let names = ["f{}.txt", "f{}.md", "it's \"f{}\".txt", "f{}"];
        let name = format!("w{}-{}", self.number, self.rng.pick(&names).replace("{}", &self.next.to_string()));
        let content = self.text();
        let node = Node { parent, name, content: Some(content.clone()), ..Node::default() };
        self.tree.0.insert(self.next, node);
        let path = self.tree.path(self.next);
        self.done("create", &path, |root| fs::write(root.join(&path), &content))?;
        self.learn_id(self.next)?;
        Ok(Some("create"))
    }

    fn write(&mut self) -> Result<Option<&'static str>, String> {
        let Some(node) = self.tree.file(&mut self.rng) else { return self.create() };
        let (content, path) = (self.text(), self.tree.path(node));
        self.done("write", &path, |root| fs::write(root.join(&path), &content))?;
        self.node(node).content = Some(content);
        Ok(Some("write"))
    }

    /// Sometimes over another file, which is gone then.
    fn rename_file(&mut self) -> Result<Option<&'static str>, String> {
        let Some(node) = self.tree.file(&mut self.rng) else { return self.create() };
        let path = self.tree.path(node);
        let over = self.tree.file(&mut self.rng).filter(|over| *over != node && self.rng.chance(20));
        let (parent, name) = match over {
            Some(over) => (self.tree.0[&over].parent, self.tree.0[&over].name.clone()),
            None => (self.tree.directory(&mut self.rng), self.new_name("moved")),
        };
        let to = self.tree.path(parent).join(&name);
        self.done("rename", &path, |root| fs::rename(root.join(&path), root.join(&to)))?;
        if let Some(over) = over {
            self.tree.remove(over);
        }
        (self.node(node).parent, self.node(node).name) = (parent, name);
        Ok(Some("rename file"))
    }

    fn rename_directory(&mut self) -> Result<Option<&'static str>, String> {
        let Some(node) = self.tree.subdirectory(&mut self.rng) else { return self.make_directory() };
        let path = self.tree.path(node);
        let mut parent = self.tree.directory(&mut self.rng);
        if self.tree.lies_in(parent, node) {
            parent = self.tree.0[&node].parent;
        }
        let name = self.new_name("d");
        let to = self.tree.path(parent).join(&name);
        self.done("rename", &path, |root| fs::rename(root.join(&path), root.join(&to)))?;
        (self.node(node).parent, self.node(node).name) = (parent, name);
        Ok(Some("rename directory"))
    }

    fn unlink(&mut self) -> Result<Option<&'static str>, String> {
        let Some(node) = self.tree.file(&mut self.rng) else { return Ok(None) };
        let path = self.tree.path(node);
        self.done("unlink", &path, |root| fs::remove_file(root.join(&path)))?;
        self.tree.remove(node);
        Ok(Some("unlink"))
    }

    fn make_directory(&mut self) -> Result<Option<&'static str>, String> {
        let parent = self.tree.directory(&mut self.rng);
        let name = self.new_name("d");
        self.tree.0.insert(self.next, Node { parent, name, ..Node::default() });
        let (made, path) = (self.next, self.tree.path(self.next));
        self.done("mkdir", &path, |root| fs::create_dir(root.join(&path)))?;
        self.learn_id(made)?;
        Ok(Some("mkdir"))
    }

    /// With all that is in it.
    fn remove_directory(&mut self) -> Result<Option<&'static str>, String> {
        let Some(node) = self.tree.subdirectory(&mut self.rng) else { return Ok(None) };
        let path = self.tree.path(node);
        self.done("remove all of", &path, |root| fs::remove_dir_all(root.join(&path)))?;
        self.tree.remove(node);
        Ok(Some("rm -r of a directory"))
    }

    fn new_name(&mut self, what: &str) -> String {
        self.next += 1;
        format!("w{}-{what}{}", self.number, self.next)
    }

    fn text(&mut self) -> String {
        let len = 8 + self.rng.index(60);
        let mut words: Vec<&str> = (0..len).map(|_| *self.rng.pick(WORDS)).collect();
        words.push("end");
        format!("{}\n{} of worker {}\n", words.join(" "), self.rng.next(), self.number)
    }

    /// A call that no index takes part in: it must succeed, whoever is killed.
    fn done(&mut self, what: &str, path: &Path, call: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), String> {
        let root = self.root();
        call(&root).map_err(|error| format!("{what} {} on {}: {error}", path.display(), root.display()))
    }

    fn learn_id(&mut self, node: u64) -> Result<(), String> {
        let path = self.root().join(self.tree.path(node));
        let id = attribute(&path, "user.dgfs.id").map_err(|error| format!("the id of {}: {error}", path.display()))?;
        self.node(node).id = id;
        Ok(())
    }

    fn node(&mut self, node: u64) -> &mut Node {
        self.tree.0.get_mut(&node).expect("a node that is there")
    }
}

fn walk(root: &Path, path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    let Ok(entries) = fs::read_dir(root.join(path)) else { return };
    for entry in entries.flatten() {
        walk(root, &path.join(entry.file_name()), found);
    }
}
