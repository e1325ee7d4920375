//! `dgfs tag ls FILE…`: the tags of files.
//!
//! Never needs an index for what people set: that is an attribute of the file. What taggers say is asked of the graph.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use dgfs_proto::ids::Ino;
use dgfs_proto::query::Entry;
use dgfs_proto::tag::parse_csv;

use crate::cli::Failure;
use crate::cli::graph::change::Tally;
use crate::cli::graph::output::{Output, insert_bytes, text};
use crate::cli::graph::places::{Links, Named, mount_of};
use crate::cli::graph::tag::tell;
use crate::cli::graph::{Ended, Outcome, refused, xattr};

/// What is shown, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// What taggers say, too.
    pub(super) auto: bool,
    pub(super) links: Links,
    pub(super) json: bool,
}

/// The tags of one file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tags {
    by_hand: Vec<String>,
    automatic: Vec<Value>,
}

/// Runs the command. Nothing found: no file has a tag.
pub(super) fn run(files: &[PathBuf], shown: &Shown, out: &mut Output<'_>) -> Ended {
    let (mut found, mut tally) = (false, Tally::default());
    for path in files {
        match read(path, shown) {
            Ok(tags) => {
                found |= !tags.by_hand.is_empty() || !tags.automatic.is_empty();
                tally.changed += 1;
                show(path, &tags, (shown.json, files.len() > 1), out)?;
            }
            Err(failure) => {
                tell(&failure.sentence);
                tally.failed += 1;
            }
        }
    }
    match tally.failed {
        0 => Ok(Outcome::of(found)),
        failed => Err(refused(format!("the tags of {failed} files could not be read"))),
    }
}

fn read(path: &Path, shown: &Shown) -> Result<Tags, Failure> {
    let at = path.display();
    let failed = |error: std::io::Error| refused(format!("{at}: {error}"));
    if shown.links.facts(path).map_err(failed)?.is_symlink() {
        let ino = Ino::new(Named::new(path, shown.links)?.ino);
        let id = ino.map_or_else(String::new, |ino| Entry::Ino(ino).to_component());
        let sentence = format!("{at} is a link, whose attributes the kernel keeps shut: ask `dgfs facets @file/{id}`");
        return Err(refused(sentence));
    }
    let _ = mount_of(path)?;
    let path = path.canonicalize().map_err(failed)?;
    let by_hand = names(&xattr::get(&path, xattr::TAGS).map_err(failed)?.unwrap_or_default());
    let automatic = match shown.auto {
        true => said(&xattr::get(&path, xattr::AUTOMATIC).map_err(failed)?.unwrap_or_default()),
        false => Vec::new(),
    };
    Ok(Tags { by_hand, automatic })
}

/// The names of a comma list; one that has none of our rules is shown as it is.
fn names(csv: &[u8]) -> Vec<String> {
    match parse_csv(csv) {
        Ok(tags) => tags.iter().map(ToString::to_string).collect(),
        Err(_) => String::from_utf8_lossy(csv).split(',').map(str::to_owned).collect(),
    }
}

fn said(json: &[u8]) -> Vec<Value> {
    match serde_json::from_slice(json) {
        Ok(Value::Array(said)) => said,
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// `form`: as JSON; and whether each line begins with the file's name.
fn show(path: &Path, tags: &Tags, form: (bool, bool), out: &mut Output<'_>) -> Result<(), Failure> {
    let (json, several) = form;
    if json {
        let mut line = Map::new();
        insert_bytes(&mut line, "path", path.as_os_str().as_bytes());
        let _ = line.insert("tags".to_owned(), json!(tags.by_hand));
        let _ = line.insert("auto".to_owned(), json!(tags.automatic));
        return out.json(&Value::Object(line));
    }
    let said = |mark: &Value| {
        let sure = mark.get("confidence").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
        format!("{} ({} {sure:.0} %)", text(mark, "tag"), text(mark, "tagger"))
    };
    let all: Vec<String> = tags.by_hand.iter().cloned().chain(tags.automatic.iter().map(said)).collect();
    if several {
        out.name(path.as_os_str().as_bytes())?;
        return out.line(&format!(": {}", all.join(", ")));
    }
    all.iter().try_for_each(|tag| out.line(tag))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Tags, names, said, show};
    use crate::cli::graph::output::testing::printed;

    #[test]
    fn one_file_has_a_tag_a_line_several_have_a_line_each() {
        let automatic = said(br#"[{"tag":"photo","tagger":"type","version":1,"confidence":0.9}]"#);
        let tags = Tags { by_hand: names(b"beach, year=2020"), automatic };
        let shown = |json, several| printed(|out| show(Path::new("a/b"), &tags, (json, several), out)).0;
        assert_eq!(shown(false, false), "beach\nyear=2020\nphoto (type 90 %)\n");
        assert_eq!(shown(false, true), "a/b: beach, year=2020, photo (type 90 %)\n");
        let line: serde_json::Value = serde_json::from_str(&shown(true, false)).unwrap();
        assert_eq!((&line["tags"], &line["auto"][0]["tagger"]), (&json!(["beach", "year=2020"]), &json!("type")));
    }

    #[test]
    fn what_others_wrote_there_is_shown_all_the_same() {
        assert_eq!(names(b"a,b::c"), ["a", "b::c"]);
        assert!(names(b"").is_empty() && said(b"{}").is_empty() && said(b"no").is_empty());
    }
}
