//! Everything that a mount tells of its graph, as sorted lines, and what the metadata say that it should be.
//!
//! Never asks a daemon: directories below `.tags`, attributes and `.tags/@ask` tell. Always: the same graph gives the same lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// Bytes of an attribute at most: the kernel's own bound.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Differences that are told.
const TOLD_MAX: usize = 30;

/// The edges of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// `TAG -> PATH`, as the directories of `.tags` list them.
    pub listed: BTreeSet<String>,
    /// `TAG -> PATH`, as the attributes of the files have them: a tag that is below another is one of that, too.
    pub said: BTreeSet<String>,
    /// What taggers said, relations, and how far the taggers are, of each path.
    pub facts: BTreeSet<String>,
    /// Files that a search for everything finds.
    pub found: BTreeSet<String>,
    /// Files that are there.
    pub there: BTreeSet<String>,
}

impl Edges {
    /// Reads all of a mount.
    ///
    /// # Panics
    /// When something of it cannot be read.
    #[must_use]
    pub fn of(mount: &Path) -> Self {
        let mut edges = Self::default();
        let mut paths = Vec::new();
        walk(mount, Path::new(""), &mut paths);
        // A tag by its folded name, and as a directory lists it.
        let mut tags: BTreeMap<String, String> =
            listed_tags(mount).into_iter().map(|tag| (tag.to_lowercase(), tag)).collect();
        for path in &paths {
            let shown = path.display().to_string();
            let file = mount.join(path);
            // A search for everything is one for files.
            if !file.symlink_metadata().expect("stat").is_dir() {
                edges.there.insert(shown.clone());
            }
            let mut carried: Vec<String> = attribute(&file, "user.xdg.tags").split(',').map(str::to_owned).collect();
            carried.retain(|tag| !tag.is_empty());
            let marks: Vec<Value> = serde_json::from_str(&attribute(&file, "user.dgfs.tags.auto")).unwrap_or_default();
            for mark in &marks {
                edges.facts.insert(format!("{shown}: {mark}"));
                carried.extend(mark["tag"].as_str().map(str::to_owned));
            }
            for name in ["user.dgfs.relations", "user.dgfs.index"] {
                edges.facts.insert(format!("{shown}: {name} {}", attribute(&file, name)));
            }
            for tag in carried.iter().filter(|tag| !tag.contains('\u{2026}')) {
                tags.insert(tag.to_lowercase(), tag.clone());
                for above in with_those_above(tag) {
                    edges.said.insert(format!("{} -> {shown}", above.to_lowercase()));
                }
            }
        }
        let all: BTreeSet<String> = tags.values().flat_map(|tag| with_those_above(tag)).collect();
        for tag in all {
            for path in entries(mount, &component(&tag)) {
                edges.listed.insert(format!("{} -> {path}", tag.to_lowercase()));
            }
        }
        edges.found = entries(mount, "@all").into_iter().collect();
        edges
    }

    /// The graph says of every file what the metadata say of it, and knows every file.
    ///
    /// # Errors
    /// What differs.
    pub fn agree(&self) -> Result<(), String> {
        same("tags by .tags", &self.listed, "tags by attribute", &self.said)?;
        same("files by .tags/@all", &self.found, "files by readdir", &self.there)
    }

    /// The same graph as another time or from another mount.
    ///
    /// # Errors
    /// What differs.
    pub fn same_as(&self, other: &Self) -> Result<(), String> {
        same("tags now", &self.listed, "tags then", &other.listed)?;
        same("facts now", &self.facts, "facts then", &other.facts)?;
        same("files now", &self.found, "files then", &other.found)
    }
}

fn same(one: &str, first: &BTreeSet<String>, other: &str, second: &BTreeSet<String>) -> Result<(), String> {
    let only = |of: &str, mine: &BTreeSet<String>, its: &BTreeSet<String>| -> Vec<String> {
        mine.difference(its).map(|line| format!("only in {of}: {line}")).collect()
    };
    let differ = [only(one, first, second), only(other, second, first)].concat();
    if differ.is_empty() {
        return Ok(());
    }
    let (count, told) = (differ.len(), differ.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>());
    Err(format!("{count} differences between {one} and {other}:\n{}", told.join("\n")))
}

/// A tag and the tags it lies below: `place:cn:hefei`, `place:cn`, `place`.
fn with_those_above(tag: &str) -> Vec<String> {
    let is_value = tag.contains('=');
    let ends = tag.match_indices(':').map(|(at, _)| at).filter(|_| !is_value).chain([tag.len()]);
    ends.map(|end| tag[..end].to_owned()).collect()
}

/// A tag as a component of a path below `.tags`: of a value only the first `=` stays one.
fn component(tag: &str) -> String {
    let value = tag.find('=');
    let mut text = String::new();
    for (at, letter) in tag.char_indices() {
        match letter {
            '/' | '%' | '<' | '>' | '!' | '?' => text.push_str(&format!("%{:02X}", letter as u32)),
            '=' if value != Some(at) => text.push_str("%3D"),
            '.' if tag[at..].starts_with("..") => text.push_str("%2E"),
            '-' | '@' if at == 0 => text.push_str(&format!("%{:02X}", letter as u32)),
            _ => text.push(letter),
        }
    }
    text
}

/// Paths of the files that a directory of `.tags` lists.
fn entries(mount: &Path, component: &str) -> Vec<String> {
    let place = mount.join(".tags").join(component);
    let listed = match fs::read_dir(&place) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Vec::new(),
        listed => listed.unwrap_or_else(|error| panic!("{}: {error}", place.display())),
    };
    let names = listed.map(|entry| entry.expect("an entry").path());
    let links = names.filter(|path| !path.ends_with("@refine") && !path.ends_with("@counts"));
    links.map(|link| target(mount, &link)).collect()
}

/// Where an entry leads to, from the mount point.
fn target(mount: &Path, link: &Path) -> String {
    let to = fs::read_link(link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
    let mut path = link.parent().unwrap_or(mount).to_owned();
    for part in to.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.strip_prefix(mount).unwrap_or(&path).display().to_string()
}

/// All tags that somebody made, as the graph spells them.
fn listed_tags(mount: &Path) -> Vec<String> {
    let mut tags = Vec::new();
    let mut after = Some(String::new());
    while let Some(from) = after.take() {
        let lines = ask(mount, &serde_json::json!({ "tags": from }));
        for line in &lines {
            tags.extend(line["tag"].as_str().map(str::to_owned));
            if line["end"] == false {
                after = line["after"].as_str().map(str::to_owned);
            }
            assert!(line["error"].is_null(), "{line}");
        }
    }
    tags
}

/// Asks `.tags/@ask`: the lines of the answer.
///
/// # Panics
/// When it cannot be asked.
#[must_use]
pub fn ask(mount: &Path, request: &Value) -> Vec<Value> {
    ask_text(mount, request.to_string().as_bytes())
}

/// As [`ask`], of a request that may be none.
///
/// # Panics
/// When it cannot be asked.
#[must_use]
pub fn ask_text(mount: &Path, request: &[u8]) -> Vec<Value> {
    let place = mount.join(".tags/@ask");
    let mut file = OpenOptions::new().read(true).write(true).open(place).expect("open .tags/@ask");
    file.write_all(request).expect("ask");
    let mut answer = String::new();
    file.read_to_string(&mut answer).expect("read the answer");
    answer.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Nothing when a file has no such attribute.
fn attribute(path: &Path, name: &str) -> String {
    let mut value = vec![0; VALUE_BYTES_MAX];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(len) => String::from_utf8_lossy(&value[..len]).into_owned(),
        Err(rustix::io::Errno::NODATA) => String::new(),
        Err(error) => panic!("{name} of {}: {error}", path.display()),
    }
}

fn walk(root: &Path, path: &Path, found: &mut Vec<PathBuf>) {
    let place = root.join(path);
    for entry in fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())) {
        let below = path.join(entry.expect("an entry").file_name());
        let is_directory = root.join(&below).symlink_metadata().expect("stat").is_dir();
        found.push(below.clone());
        if is_directory {
            walk(root, &below, found);
        }
    }
}
