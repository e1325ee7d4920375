//! Items, taken over one by one.
//!
//! Never stops at one that cannot be: it is told and counted. Files with the same tags are tagged together; at most
//! [`WAITING_MAX`] wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use dgfs_proto::query::{Context, expr};
use dgfs_proto::tag::Tag;

use super::problem_of;
use crate::cli::Failure;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::change::{Changes, Edit};
use crate::cli::graph::exchange::{FileItem, Item, TagItem};
use crate::cli::graph::output::{Output, items, text};
use crate::cli::graph::places::{Links, Named};
use crate::cli::graph::{catalogue, xattr};

/// Files that wait to be tagged: enough that most requests are full, and little memory.
const WAITING_MAX: usize = 8192;

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) files: u64,
    pub(super) attributes: u64,
    pub(super) relations: u64,
    pub(super) tags: u64,
    pub(super) saved: u64,
    pub(super) problems: u64,
}

/// Names of tags, aliases and implications that are there already; all folded.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<String>,
    implied: BTreeSet<(String, String)>,
}

/// An import under way.
pub(super) struct Import<'a, 'o, A> {
    mount: &'a A,
    into: &'a Path,
    dry_run: bool,
    problem: &'a mut dyn FnMut(&str),
    out: &'a mut Output<'o>,
    known: Option<Known>,
    waiting: BTreeMap<Vec<Tag>, Vec<PathBuf>>,
    waiting_count: usize,
    tally: Tally,
}

impl<'a, 'o, A: Ask> Import<'a, 'o, A> {
    pub(super) fn new(
        mount: &'a A,
        into: &'a Path,
        dry_run: bool,
        problem: &'a mut dyn FnMut(&str),
        out: &'a mut Output<'o>,
    ) -> Self {
        let (waiting, tally) = (BTreeMap::new(), Tally::default());
        Self { mount, into, dry_run, problem, out, known: None, waiting, waiting_count: 0, tally }
    }

    /// Takes one item over. An error is one of the whole import.
    pub(super) fn take(&mut self, item: Item) -> Result<(), Failure> {
        if let Some(sentence) = problem_of(&item) {
            self.told(sentence);
            return Ok(());
        }
        match item {
            Item::File(file) => self.file(&file),
            Item::Tag(tag) => self.tag(&tag),
            Item::Saved(name, expression) => self.saved(&name, &expression),
            Item::Problem(_) => Ok(()),
        }
    }

    /// Tags what waits still.
    pub(super) fn finish(mut self) -> Result<Tally, Failure> {
        self.flush()?;
        Ok(self.tally)
    }

    fn told(&mut self, sentence: &str) {
        (self.problem)(sentence);
        self.tally.problems += 1;
    }

    /// The tags of a list; what is none is told.
    fn tags(&mut self, what: &str, texts: &[String]) -> Vec<Tag> {
        let mut tags = Vec::new();
        for text in texts {
            match Tag::parse(text) {
                Ok(tag) => tags.push(tag),
                Err(error) => self.told(&format!("{what}: {text:?} is not a tag: {error}")),
            }
        }
        tags
    }

    fn file(&mut self, file: &FileItem) -> Result<(), Failure> {
        let what = file.path.display().to_string();
        let path = match self.inside(&file.path) {
            Ok(path) => path,
            Err(why) => {
                self.told(&format!("{what}: {why}"));
                return Ok(());
            }
        };
        let mut tags = self.tags(&what, &file.tags);
        tags.sort_unstable();
        tags.dedup();
        if self.dry_run {
            self.announce(&path, &tags)?;
        } else if !tags.is_empty() {
            self.waiting.entry(tags).or_default().push(path.clone());
            self.waiting_count += 1;
        }
        self.attribute(&path, xattr::COMMENT, file.comment.as_deref());
        let rating = file.rating.map(|rating| rating.to_string());
        self.attribute(&path, xattr::RATING, rating.as_deref().map(str::as_bytes));
        if !file.relations.is_empty() {
            self.relations(&what, &path, &file.relations);
        }
        if self.waiting_count >= WAITING_MAX { self.flush() } else { Ok(()) }
    }

    /// What would be done, in a line.
    fn announce(&mut self, path: &Path, tags: &[Tag]) -> Result<(), Failure> {
        if tags.is_empty() {
            return Ok(());
        }
        self.tally.files += 1;
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        self.out.name(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
        self.out.line(&format!(": {}", tags.join(", ")))
    }

    /// A path of an item inside the directory, where there is something. A file from elsewhere must not lead out of it.
    fn inside(&self, path: &Path) -> Result<PathBuf, String> {
        let below = if path.is_absolute() { path.strip_prefix(self.into).ok() } else { Some(path) };
        let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let below = below.filter(|below| below.components().all(stays));
        let Some(below) = below else { return Err(format!("lies outside {}", self.into.display())) };
        let whole = self.into.join(below);
        // Links on the way may lead out, too; the last name itself is not followed.
        let parent = whole.parent().unwrap_or(&whole);
        match (parent.canonicalize(), std::fs::symlink_metadata(&whole)) {
            (Ok(parent), Ok(_)) if whole == self.into || parent.starts_with(self.into) => Ok(whole),
            (Ok(_), Ok(_)) => Err(format!("leads out of {}", self.into.display())),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        }
    }

    fn attribute(&mut self, path: &Path, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        if self.dry_run {
            self.tally.attributes += 1;
            return;
        }
        match xattr::set(path, name, value) {
            Ok(()) => self.tally.attributes += 1,
            Err(error) => self.told(&format!("{}: set {name}: {error}", path.display())),
        }
    }

    fn relations(&mut self, what: &str, path: &Path, relations: &[(String, PathBuf)]) {
        let made = Named::new(path, Links::Themselves).and_then(|from| Ok((self.related(&from)?, from)));
        let (there, from) = match made {
            Ok(made) => made,
            Err(failure) => return self.told(&format!("{what}: {}", failure.sentence)),
        };
        for (relation, other) in relations {
            match self.relate((&from, &there), relation, other) {
                Ok(()) => self.tally.relations += 1,
                Err(why) => self.told(&format!("{what}: {relation} {}: {why}", other.display())),
            }
        }
    }

    /// Relations that were made by hand already.
    fn related(&self, from: &Named) -> Result<BTreeSet<(String, u64)>, Failure> {
        let lines = self.mount.lines(&json!({ "related": from.ino }))?;
        let by_hand = lines.iter().filter(|line| text(line, "source") == "user");
        let pair = |line: &Value| Some((text(line, "relation").to_owned(), line.get("ino")?.as_u64()?));
        Ok(by_hand.filter_map(pair).collect())
    }

    fn relate(&self, from: (&Named, &BTreeSet<(String, u64)>), relation: &str, other: &Path) -> Result<(), String> {
        let other = self.inside(other)?;
        let to = Named::new(&other, Links::Themselves).map_err(|failure| failure.sentence)?;
        if self.dry_run || from.1.contains(&(relation.to_owned(), to.ino)) {
            return Ok(());
        }
        let relate = json!({ "relate": { "from": from.0.ino, "relation": relation, "to": to.ino } });
        self.mount.order(&relate).map_err(|failure| failure.sentence)
    }

    fn tag(&mut self, item: &TagItem) -> Result<(), Failure> {
        let names = self.tags("a tag", std::slice::from_ref(&item.tag));
        let Some(tag) = names.into_iter().next() else { return Ok(()) };
        let aliases = self.tags(tag.as_str(), &item.aliases);
        let implied = self.tags(tag.as_str(), &item.implies);
        let mut known = match self.known.take() {
            Some(known) => known,
            None => known(self.mount)?,
        };
        let mut orders = Vec::new();
        for name in std::iter::once(&tag).chain(&implied) {
            if known.names.insert(name.fold()) {
                orders.push(json!({ "make": name.as_str() }));
            }
        }
        for alias in &aliases {
            if known.names.insert(alias.fold()) {
                orders.push(json!({ "alias": { "alias": alias.as_str(), "tag": tag.as_str() } }));
            }
        }
        for other in &implied {
            if known.implied.insert((tag.fold(), other.fold())) {
                orders.push(json!({ "imply": { "tag": tag.as_str(), "implied": other.as_str(), "on": true } }));
            }
        }
        self.known = Some(known);
        self.tally.tags += 1;
        for order in orders {
            let _ = self.order(tag.as_str(), &json!({ "tags-command": order }));
        }
        Ok(())
    }

    fn saved(&mut self, name: &str, expression: &str) -> Result<(), Failure> {
        // Also where nothing is changed: what would be refused is no query that would be taken over.
        if let Err(error) = expr::parse_expr(expression, &Context::default()) {
            self.told(&format!("the saved query {name:?}: {error}"));
            return Ok(());
        }
        if self.order(name, &json!({ "save": name, "expression": expression, "replace": true })) {
            self.tally.saved += 1;
        }
        Ok(())
    }

    /// Asks for a change, and says whether it was (or would be) made; a refusal is told.
    fn order(&mut self, what: &str, request: &Value) -> bool {
        if self.dry_run {
            return true;
        }
        let refused = self.mount.order(request).err();
        if let Some(failure) = &refused {
            self.told(&format!("{what}: {}", failure.sentence));
        }
        refused.is_none()
    }

    /// Tags what waits.
    fn flush(&mut self) -> Result<(), Failure> {
        self.waiting_count = 0;
        let mount = self.mount;
        for (add, paths) in std::mem::take(&mut self.waiting) {
            let edit = Edit { add, ..Edit::default() };
            let (links, problem) = (Links::Themselves, &mut *self.problem);
            let changes = Changes { edit: &edit, links, mount: |_: &Named| Ok(mount), problem };
            let tally = changes.make(paths.into_iter().map(Ok))?;
            self.tally.files += tally.changed;
            self.tally.problems += tally.failed;
        }
        Ok(())
    }
}

fn known(mount: &impl Ask) -> Result<Known, Failure> {
    let mut known = Known::default();
    let fold = |text: &str| Tag::parse(text).ok().map(|tag| tag.fold());
    for line in catalogue::all(mount)? {
        let Some(name) = fold(text(&line, "tag")) else { continue };
        let aliases = items(&line, "aliases").iter().filter_map(Value::as_str);
        known.names.extend(aliases.filter_map(fold));
        let implied = items(&line, "implies").iter().filter_map(Value::as_str).filter_map(fold);
        known.implied.extend(implied.map(|implied| (name.clone(), implied)));
        let _ = known.names.insert(name);
    }
    Ok(known)
}

#[cfg(test)]
mod tests;
