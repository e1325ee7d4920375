//! Imports into a directory of files that a list answers for.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Import, Tally};
use crate::cli::graph::ask::testing::Fake;
use crate::cli::graph::exchange::{FileItem, Item, TagItem};
use crate::cli::graph::output::Output;
use crate::cli::graph::places::{Links, Named};

/// A directory with the files `a`, `b`, `in/c`, and a link `out` that leads out of it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dgfs-import-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("in")).unwrap();
        for name in ["a", "b", "in/c"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/", path.join("out")).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn ino(&self, name: &str) -> u64 {
        Named::new(&self.0.join(name), Links::Themselves).unwrap().ino
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Imported {
    tally: Tally,
    problems: Vec<String>,
    printed: String,
}

fn import(fake: &Fake, into: &Path, dry_run: bool, items: Vec<Item>) -> Imported {
    let (mut problems, mut bytes) = (Vec::new(), Vec::new());
    let mut problem = |sentence: &str| problems.push(sentence.to_owned());
    let mut out = Output::new(&mut bytes, false);
    let mut import = Import::new(fake, into, dry_run, &mut problem, &mut out);
    for item in items {
        import.take(item).unwrap();
    }
    let tally = import.finish().unwrap();
    assert!(fake.is_done());
    Imported { tally, problems, printed: String::from_utf8(bytes).unwrap() }
}

fn file(path: impl Into<PathBuf>, tags: &[&str]) -> Item {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Item::File(FileItem { path: path.into(), tags, ..FileItem::default() })
}

fn tagged(inos: &[u64], add: &[&str]) -> (Value, Vec<Value>) {
    (json!({ "tag": { "inos": inos, "add": add } }), vec![json!({ "tagged": inos.len() })])
}

#[test]
fn files_with_the_same_tags_are_tagged_together() {
    let place = Place::new("together");
    let fake = Fake::new([
        tagged(&[place.ino("a"), place.ino("in/c")], &["beach", "sun"]),
        tagged(&[place.ino("b")], &["sun"]),
    ]);
    let absolute = place.0.join("in/c");
    let items = vec![
        file("a", &["sun", "beach", "sun"]),
        file("b", &["sun"]),
        file(absolute, &["beach", "sun"]),
        file("in", &[]),
    ];
    let done = import(&fake, &place.0, false, items);
    assert_eq!((done.tally, done.problems.len()), (Tally { files: 3, ..Tally::default() }, 0));
}

#[test]
fn what_cannot_be_taken_over_is_named_and_counted() {
    let place = Place::new("named");
    let fake = Fake::new([tagged(&[place.ino("a")], &["sun"])]);
    let items = vec![
        file("a", &["sun", "a,b"]),
        file("gone", &["sun"]),
        file("../a", &["sun"]),
        file("/etc/passwd", &["sun"]),
        file("out/etc", &["sun"]),
        Item::Problem("line 7: odd".to_owned()),
    ];
    let done = import(&fake, &place.0, false, items);
    assert_eq!(done.tally, Tally { files: 1, problems: 6, ..Tally::default() });
    let expected = [
        "a: \"a,b\" is not a tag",
        "gone: No such file",
        "../a: lies outside",
        "/etc/passwd: lies outside",
        "out/etc: leads out",
        "line 7",
    ];
    for (said, expected) in done.problems.iter().zip(expected) {
        assert!(said.starts_with(expected), "{expected}: {said}");
    }
}

#[test]
fn a_dry_run_asks_for_nothing_but_what_there_is() {
    let place = Place::new("dry");
    let catalogue = (json!({ "tags": null, "limit": 1024 }), vec![json!({ "end": true })]);
    let related = (json!({ "related": place.ino("b") }), vec![]);
    let items = vec![
        file("a", &["sun"]),
        Item::File(FileItem {
            path: "b".into(),
            comment: Some(b"x".to_vec()),
            rating: Some(3),
            relations: vec![("links-to".into(), "a".into())],
            ..FileItem::default()
        }),
        Item::Tag(TagItem { tag: "sun".into(), aliases: vec!["sol".into()], implies: vec![] }),
        Item::Saved("n".into(), "sun".into()),
    ];
    let done = import(&Fake::new([related, catalogue]), &place.0, true, items);
    assert_eq!(done.printed, format!("{}: sun\n", place.0.join("a").display()));
    let expected = Tally { files: 1, attributes: 2, relations: 1, tags: 1, saved: 1, problems: 0 };
    assert_eq!((done.tally, done.problems), (expected, vec![]));
}

#[test]
fn tags_relations_and_queries_that_are_there_are_not_made_again() {
    let place = Place::new("again");
    let known = json!({ "tag": "Sun", "id": 1, "count": 0, "aliases": ["sol"], "implies": [2], "merged-into": null });
    let other = json!({ "tag": "sky", "id": 2, "count": 0, "aliases": [], "implies": [], "merged-into": null });
    let done = || vec![json!({ "done": true })];
    let by_hand = json!({ "relation": "links-to", "ino": place.ino("a"), "source": "user" });
    let fake = Fake::new([
        (json!({ "tags": null, "limit": 1024 }), vec![known, other, json!({ "end": true })]),
        (json!({ "tags-command": { "make": "warm" } }), done()),
        (json!({ "tags-command": { "alias": { "alias": "soleil", "tag": "sun" } } }), done()),
        (json!({ "tags-command": { "imply": { "tag": "sun", "implied": "warm", "on": true } } }), done()),
        (json!({ "save": "n", "expression": "sun", "replace": true }), vec![json!({ "error": "no room" })]),
        (json!({ "related": place.ino("b") }), vec![by_hand]),
        (json!({ "relate": { "from": place.ino("b"), "relation": "related", "to": place.ino("a") } }), done()),
    ]);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let relations =
        vec![("links-to".into(), "a".into()), ("related".into(), "a".into()), ("related".into(), "zz".into())];
    let items = vec![
        Item::Tag(TagItem { tag: "sun".into(), aliases: texts(&["sol", "soleil"]), implies: texts(&["sky", "warm"]) }),
        Item::Saved("n".into(), "sun".into()),
        Item::Saved("broken".into(), "(sun".into()),
        Item::File(FileItem { path: "b".into(), relations, ..FileItem::default() }),
    ];
    let done = import(&fake, &place.0, false, items);
    assert_eq!(done.tally, Tally { tags: 1, saved: 0, relations: 2, problems: 3, ..Tally::default() });
    assert_eq!(done.problems[0], "n: no room");
    assert!(done.problems[1].starts_with("the saved query \"broken\": at "), "{}", done.problems[1]);
    assert!(done.problems[2].starts_with("b: related zz: No such file"), "{}", done.problems[2]);
}
