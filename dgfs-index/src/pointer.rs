//! What a content points at by path, and which places in a directory tree that may mean.
//!
//! Never looks at a tree: it says where to look, and whoever knows the tree looks. Never means another machine: addresses
//! with a scheme other than `file:` give no pointer. Always: whatever place a pointer may mean ends with a name that is
//! among its [`Pointer::keys`] (with its extension cut off, or the name of the directory that it stands for), but for `.` and `..`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Bytes of a target at most, as taggers cut them.
const TARGET_BYTES_MAX: usize = 1024;
/// Components of a module's name that are looked at, from the left.
const MODULES_MAX: usize = 8;
/// Directories upwards in which a module's or a header's name may begin.
const UP_MAX: usize = 8;
/// Components of a place: more than that only hostile files have.
const COMPONENTS_MAX: usize = 64;
/// What a JavaScript module's name may end with, where the import leaves it out.
const SCRIPT_ENDS: [&str; 10] = ["js", "ts", "jsx", "tsx", "mjs", "cjs", "json", "vue", "svelte", "css"];

/// Something that a content points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pointer {
    /// A module that source code imports, and not a path or a URL.
    pub(crate) import: bool,
    /// As the content spells it.
    pub(crate) target: String,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The volume's root.
    Root,
    /// So many directories above the file's own; none above the root.
    Up(usize),
}

/// Where a target may lie: the path `.` and `..` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: Start,
    pub(crate) path: Vec<Vec<u8>>,
}

impl Pointer {
    /// Something to be opened from the content; none for what lies elsewhere, or within the content itself.
    #[must_use]
    pub fn path(target: &str) -> Option<Self> {
        let pointer = Self { import: false, target: target.to_owned() };
        (target.len() <= TARGET_BYTES_MAX && !pointer.keys().is_empty()).then_some(pointer)
    }

    /// A module, a header.
    #[must_use]
    pub fn import(target: &str) -> Option<Self> {
        let pointer = Self { import: true, target: target.to_owned() };
        (target.len() <= TARGET_BYTES_MAX && !pointer.keys().is_empty()).then_some(pointer)
    }

    /// The last names of the places that it may mean, extensions cut off as well: what it is found by from the other end.
    /// At most [`MODULES_MAX`].
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        if !self.import {
            for place in paths(&self.target) {
                let last = place.path.last().map(|last| String::from_utf8_lossy(last).into_owned());
                keys.extend(last.filter(|last| last != "." && last != ".."));
            }
            return keys;
        }
        let target = self.target.as_str();
        if target.contains("::") {
            let modules = target.split("::").filter(|module| !matches!(*module, "" | "crate" | "self" | "super"));
            keys.extend(modules.take(MODULES_MAX).map(|module| module.trim_start_matches("r#").to_owned()));
        } else {
            let last = target.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_start_matches('.');
            keys.insert(last.to_owned());
            if let Some((stem, end)) = last.rsplit_once('.') {
                keys.insert(stem.to_owned());
                keys.insert(end.to_owned());
            }
        }
        keys.remove("");
        keys
    }

    /// The places that it may mean in a file of this name, the likeliest first.
    pub(crate) fn places(&self, file: &[u8]) -> Vec<Place> {
        if !self.import {
            return paths(&self.target);
        }
        let file = String::from_utf8_lossy(file);
        let (stem, end) = file.rsplit_once('.').unwrap_or((&file, ""));
        match end {
            "rs" => rust(&self.target, stem),
            "py" | "pyi" => python(&self.target),
            "c" | "h" | "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" | "m" | "mm" | "inc" | "glsl" => {
                header(&self.target)
            }
            "js" | "ts" | "jsx" | "tsx" | "mjs" | "cjs" | "mts" | "cts" | "vue" | "svelte" => script(&self.target),
            _ => beside(&self.target, end),
        }
    }
}

/// The names under which others may point at a file of this name in a directory of that name.
pub(crate) fn keys_of(file: &[u8], directory: &[u8]) -> BTreeSet<String> {
    let file = String::from_utf8_lossy(file).into_owned();
    let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem).to_owned();
    let mut keys = BTreeSet::new();
    if matches!(stem.as_str(), "mod" | "__init__" | "index") {
        keys.insert(String::from_utf8_lossy(directory).into_owned());
    }
    keys.extend([file, stem]);
    keys.remove("");
    keys
}

fn place(start: Start, path: &str) -> Option<Place> {
    let path: Vec<Vec<u8>> =
        path.split('/').filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect();
    (!path.is_empty() && path.len() <= COMPONENTS_MAX).then_some(Place { start, path })
}

/// A reference as RFC 3986 (and RFC 8089 for `file:`) have it; and as it is spelt, since people write paths that are no URLs.
fn paths(target: &str) -> Vec<Place> {
    let target = target.trim();
    let is_file = target.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
    let rest = if is_file { target.get(5..).unwrap_or_default() } else { target };
    let rest = match rest.strip_prefix("//") {
        // The authority of a `file:` URL is this machine, whatever it says; without a scheme it is another machine.
        Some(authority) if is_file => authority.find('/').and_then(|slash| authority.get(slash..)).unwrap_or_default(),
        Some(_) => return Vec::new(),
        None => rest,
    };
    if !is_file && has_scheme(rest) {
        return Vec::new();
    }
    let start = if rest.starts_with('/') { Start::Root } else { Start::Up(0) };
    let cut = rest.split(['#', '?']).next().unwrap_or_default();
    let decoded: Option<Vec<Vec<u8>>> =
        cut.split('/').filter(|part| !part.is_empty()).take(COMPONENTS_MAX + 1).map(percent_decoded).collect();
    let mut places = Vec::new();
    places.extend(
        decoded.filter(|path| !path.is_empty() && path.len() <= COMPONENTS_MAX).map(|path| Place { start, path }),
    );
    if rest.contains(['#', '?', '%']) && !cut.is_empty() {
        places.extend(place(start, rest).filter(|place| !places.contains(place)));
    }
    places
}

/// `scheme ":"` of RFC 3986, section 3.1. A drive's letter is taken for one, and such paths lead nowhere here.
fn has_scheme(target: &str) -> bool {
    let Some((scheme, _)) = target.split_once(':') else { return false };
    scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))
}

/// One component without its `%XX`; none where that gives what no name has.
fn percent_decoded(part: &str) -> Option<Vec<u8>> {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
        };
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                bytes = ahead;
            }
            _ => decoded.push(byte),
        }
    }
    (!decoded.iter().any(|byte| matches!(byte, 0 | b'/'))).then_some(decoded)
}

/// `mod x` and `use …` after the Rust Reference, "Modules": `a/b.rs` or `a/b/mod.rs`; of a `use` any beginning may be a module.
fn rust(target: &str, stem: &str) -> Vec<Place> {
    let own = if matches!(stem, "mod" | "lib" | "main") { String::new() } else { format!("{stem}/") };
    let mut modules: Vec<&str> =
        target.split("::").map(|module| module.trim_start_matches("r#")).take(MODULES_MAX).collect();
    let mut starts = vec![(Start::Up(0), own.clone())];
    match modules.first().copied() {
        Some("crate") => {
            modules.remove(0);
            starts = (0..UP_MAX).map(|up| (Start::Up(up), String::new())).collect();
        }
        Some("self") => {
            modules.remove(0);
        }
        Some("super") => {
            let supers = modules.iter().take_while(|module| **module == "super").count();
            modules.drain(..supers);
            // The parent of `a/b.rs` is `a`, whose modules lie beside `b.rs`; that of `a/mod.rs` has them one higher.
            let up = if own.is_empty() { supers } else { supers - 1 };
            starts = vec![(Start::Up(up), String::new())];
        }
        Some(_) | None => {}
    }
    let mut places = Vec::new();
    for len in (1..=modules.len()).rev() {
        let path = modules.get(..len).unwrap_or_default().join("/");
        for (start, before) in &starts {
            places.extend(place(*start, &format!("{before}{path}.rs")));
            places.extend(place(*start, &format!("{before}{path}/mod.rs")));
        }
    }
    places
}

/// `a.b` is `a/b.py` or `a/b/__init__.py` in a directory of the search path, which is not known: this one, or one above. Dots
/// before it count directories upwards (Python Language Reference, "The import system").
fn python(target: &str) -> Vec<Place> {
    let dots = target.len() - target.trim_start_matches('.').len();
    let path = target.trim_start_matches('.').replace('.', "/");
    let ups = if dots > 0 { dots - 1..dots } else { 0..UP_MAX };
    let both = |up| [format!("{path}.py"), format!("{path}/__init__.py")].map(|path| place(Start::Up(up), &path));
    ups.take(UP_MAX).flat_map(both).flatten().collect()
}

/// Beside the file, or in a directory above or its `include`: the compiler's options are not known.
fn header(target: &str) -> Vec<Place> {
    let both = |up| [target.to_owned(), format!("include/{target}")].map(|path| place(Start::Up(up), &path));
    (0..UP_MAX).flat_map(both).flatten().collect()
}

/// Relative modules only: others come from packages.
fn script(target: &str) -> Vec<Place> {
    if !target.starts_with("./") && !target.starts_with("../") && !target.starts_with('/') {
        return Vec::new();
    }
    let start = if target.starts_with('/') { Start::Root } else { Start::Up(0) };
    let mut paths = vec![target.to_owned()];
    paths.extend(SCRIPT_ENDS.iter().map(|end| format!("{target}.{end}")));
    // TypeScript imports the file that will be made of it.
    if let Some(stem) = target.strip_suffix(".js") {
        paths.extend([format!("{stem}.ts"), format!("{stem}.tsx")]);
    }
    paths.extend(["js", "ts", "jsx", "tsx"].iter().map(|end| format!("{target}/index.{end}")));
    paths.iter().filter_map(|path| place(start, path)).collect()
}

/// In other languages: a path, its end perhaps left out.
fn beside(target: &str, end: &str) -> Vec<Place> {
    let start = if target.starts_with('/') { Start::Root } else { Start::Up(0) };
    let ended = (!end.is_empty()).then(|| format!("{target}.{end}"));
    [Some(target.to_owned()), ended].iter().flatten().filter_map(|path| place(start, path)).collect()
}

#[cfg(test)]
mod tests;
