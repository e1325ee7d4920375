//! How a worker tags: by attribute, by path and by command.
//!
//! Never believes a call that was not answered: the metadata say whether it has happened.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::mount_calls::{component, program, set_tags, tags};
use super::{Failed, SHARED, Worker};

/// How often a call is made that is not answered: each time takes the mount 5 s to find out.
const ATTEMPTS_MAX: u32 = 24;
/// Tags of a set at most.
const SET_MAX: u64 = 4;

type Did = Result<Option<&'static str>, String>;

/// A change of the tags of one node.
struct Change<'a> {
    node: u64,
    after: BTreeSet<String>,
    what: &'a str,
}

impl Worker {
    pub(super) fn set_by_attribute(&mut self) -> Did {
        let Some(node) = self.tree.one(&mut self.rng, |_, _| true) else { return self.create() };
        let path = self.tree.path(node);
        let after: BTreeSet<String> = (0..self.rng.below(SET_MAX)).map(|_| self.tag()).collect();
        let set = after.clone();
        self.insist(Change { node, after, what: "set the attribute" }, |root| set_tags(&root.join(&path), &set))?;
        Ok(Some("set attribute"))
    }

    /// By a hard link, or a symlink where it must be.
    pub(super) fn tag_by_link(&mut self) -> Did {
        let Some(node) = self.tree.one(&mut self.rng, |_, _| true) else { return self.create() };
        let (path, is_file) = (self.tree.path(node), self.tree.0[&node].content.is_some());
        let mut new = BTreeSet::from([self.tag()]);
        if self.rng.chance(20) {
            new.insert(self.tag());
        }
        let before = &self.tree.0[&node].tags;
        if new.is_subset(before) {
            return Ok(None);
        }
        let after = before.union(&new).cloned().collect();
        let place = new.iter().map(|tag| component(tag)).collect::<Vec<_>>();
        let link = Path::new(".tags").join(place.join("/")).join(path.file_name().expect("a name"));
        let is_hard = is_file && self.rng.chance(70);
        let target = Path::new(&"../".repeat(place.len() + 1)).join(&path);
        self.insist(Change { node, after, what: "link into .tags" }, |root| {
            with_tags(root, &place, || match is_hard {
                true => Ok(fs::hard_link(root.join(&path), root.join(&link))?),
                false => Ok(symlink(&target, root.join(&link))?),
            })
        })?;
        Ok(Some(if is_hard { "ln" } else { "ln -s" }))
    }

    pub(super) fn untag_by_unlink(&mut self) -> Did {
        let Some((node, tag)) = self.tagged() else { return self.tag_by_link() };
        let entry = Path::new(".tags").join(component(&tag)).join(self.entry(node));
        let mut after = self.tree.0[&node].tags.clone();
        after.remove(&tag);
        self.insist(Change { node, after, what: "rm in .tags" }, |root| Ok(fs::remove_file(root.join(&entry))?))?;
        Ok(Some("rm of an entry"))
    }

    pub(super) fn move_between_tags(&mut self) -> Did {
        let Some((node, from)) = self.tagged() else { return self.tag_by_link() };
        let to = self.tag();
        let mut after = self.tree.0[&node].tags.clone();
        if to == from || !after.insert(to.clone()) {
            return Ok(None);
        }
        after.remove(&from);
        let entry = Path::new(".tags").join(component(&from)).join(self.entry(node));
        let place = [component(&to)];
        let new = Path::new(".tags").join(&place[0]).join(&self.tree.0[&node].name);
        self.insist(Change { node, after, what: "mv in .tags" }, |root| {
            with_tags(root, &place, || Ok(fs::rename(root.join(&entry), root.join(&new))?))
        })?;
        Ok(Some("mv of an entry"))
    }

    pub(super) fn tag_by_command(&mut self) -> Did {
        let Some(node) = self.tree.one(&mut self.rng, |_, _| true) else { return self.create() };
        let before = self.tree.0[&node].tags.clone();
        let path = self.tree.path(node);
        let given = BTreeSet::from([self.tag(), self.tag()]);
        let (word, after) = match self.rng.below(3) {
            0 => ("add", &before | &given),
            1 => ("rm", &before - &given),
            _ => ("set", given.clone()),
        };
        let list = given.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let dgfs = self.program.clone();
        self.insist(Change { node, after, what: "dgfs tag" }, |root| {
            program(&dgfs, &["tag", word, &list, root.join(&path).to_str().expect("UTF-8")])
        })?;
        Ok(Some("dgfs tag"))
    }

    /// One of its own, by `mv`, on everything that carries it.
    pub(super) fn rename_tag(&mut self) -> Did {
        let at = self.rng.index(self.own.len());
        let (from, to) = (self.own[at].clone(), self.new_name("tag"));
        let Some(node) = self.tree.one(&mut self.rng, |_, node| node.tags.contains(&from)) else { return Ok(None) };
        let mut after = self.tree.0[&node].tags.clone();
        after.remove(&from);
        after.insert(to.clone());
        let (old, new) = (Path::new(".tags").join(component(&from)), Path::new(".tags").join(component(&to)));
        self.insist(Change { node, after, what: "mv of a tag" }, |root| {
            Ok(fs::rename(root.join(&old), root.join(&new))?)
        })?;
        self.tree.replace_tag(&from, Some(&to));
        self.own[at] = to;
        Ok(Some("mv of a tag"))
    }

    /// One of its own, by `rm -rf`.
    pub(super) fn delete_tag(&mut self) -> Did {
        let tag = self.rng.pick(&self.own).clone();
        let Some(node) = self.tree.one(&mut self.rng, |_, node| node.tags.contains(&tag)) else { return Ok(None) };
        let place = Path::new(".tags").join(component(&tag));
        let mut attempts = 0;
        loop {
            let root = self.root();
            let directory = root.join(&place);
            match program(Path::new("rm"), &["-rf", "--", directory.to_str().expect("UTF-8")]) {
                Ok(()) => break,
                // What it was not answered is not done: it begins anew.
                Err(Failed::Unanswered) if attempts < ATTEMPTS_MAX => self.counted.again(),
                Err(why) => return Err(format!("rm -rf {}: {why:?}", place.display())),
            }
            attempts += 1;
        }
        self.tree.replace_tag(&tag, None);
        self.verify_one(&self.mounts[0], node)?;
        Ok(Some("rm -rf of a tag"))
    }

    /// Two files by hand; the ledger leaves them to the comparison of the graphs.
    pub(super) fn relate(&mut self) -> Did {
        let (Some(from), Some(to)) = (self.tree.file(&mut self.rng), self.tree.file(&mut self.rng)) else {
            return self.create();
        };
        if from == to {
            return Ok(None);
        }
        let (from, to, root) = (self.tree.path(from), self.tree.path(to), self.root());
        let (from, to) = (root.join(from), root.join(to));
        let words = ["link", from.to_str().expect("UTF-8"), "links-to", to.to_str().expect("UTF-8")];
        match program(&self.program, &words) {
            Ok(()) => Ok(Some("dgfs link")),
            Err(Failed::Unanswered) => Ok(None),
            // By an earlier step.
            Err(Failed::Refused(error)) if error.to_string().contains("between these two already") => Ok(None),
            Err(Failed::Refused(error)) => Err(format!("{words:?}: {error}")),
        }
    }

    /// Makes a call until it is answered, or the metadata say that it has happened.
    fn insist(&mut self, change: Change<'_>, call: impl Fn(&Path) -> Result<(), Failed>) -> Result<(), String> {
        let Change { node, after, what } = change;
        let path = self.tree.path(node);
        let told =
            |why: &dyn std::fmt::Display, root: &Path| format!("{what}: {}/{}: {why}", root.display(), path.display());
        for _ in 0..ATTEMPTS_MAX {
            let root = self.root();
            match call(&root) {
                Ok(()) => {
                    self.node(node).tags = after;
                    let other = self.root();
                    return self.verify_one(&other, node).map_err(|why| format!("after {what}: {why}"));
                }
                Err(Failed::Refused(error)) => return Err(told(&error, &root)),
                Err(Failed::Unanswered) => self.counted.again(),
            }
            let now = tags(&root.join(&path)).map_err(|error| told(&error, &root))?;
            if now == after {
                self.node(node).tags = after;
                return Ok(());
            }
            if now != self.tree.0[&node].tags {
                return Err(told(&format!("it has {now:?} after a call that was not answered"), &root));
            }
        }
        Err(told(&"the index does not answer", Path::new("any mount")))
    }

    /// A shared tag or one of its own.
    fn tag(&mut self) -> String {
        if self.rng.chance(50) { (*self.rng.pick(SHARED)).to_owned() } else { self.rng.pick(&self.own).clone() }
    }

    /// A node with one of its tags.
    fn tagged(&mut self) -> Option<(u64, String)> {
        let node = self.tree.one(&mut self.rng, |_, node| !node.tags.is_empty())?;
        let tags: Vec<&String> = self.tree.0[&node].tags.iter().collect();
        let tag = (*self.rng.pick(&tags)).clone();
        Some((node, tag))
    }

    /// What a node is called in a directory of `.tags`, whoever else has its name.
    fn entry(&self, node: u64) -> String {
        let node = &self.tree.0[&node];
        match node.name.rsplit_once('.') {
            Some((stem, extension)) => format!("{stem}{}.{extension}", node.id),
            None => format!("{}{}", node.name, node.id),
        }
    }
}

/// Makes tags that are not known, and calls once more.
fn with_tags(root: &Path, tags: &[String], call: impl Fn() -> Result<(), Failed>) -> Result<(), Failed> {
    match call() {
        Err(failed) if failed.is(libc::ENOENT) => {}
        other => return other,
    }
    for tag in tags {
        match fs::create_dir(root.join(".tags").join(tag)).map_err(Failed::from) {
            Err(failed) if failed.is(libc::EEXIST) => {}
            other => other?,
        }
    }
    call()
}
