//! `dgfs watch`: changes as they happen.
//!
//! Never ends by itself unless told how many changes to show. Always: a change is shown once, in the order in which it was made;
//! where a file lies is asked afterwards, so a path is the one it has then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::QUERY_ATOMS_MAX;
use dgfs_proto::query::Entry;

use crate::cli::Failure;
use crate::cli::args::graph::WatchArgs;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::expression::Expression;
use crate::cli::graph::find::{Below, ino};
use crate::cli::graph::output::{Output, bytes, items, number, text};
use crate::cli::graph::places::mount_in;
use crate::cli::graph::{Ended, Outcome, local, refused};

/// An answer without changes that comes sooner than this was none that waited: then we do.
const PATIENCE: Duration = Duration::from_millis(200);
/// What a line says of a file that fits no more.
const LEFT: &str = "left";

/// Runs the command.
pub(crate) fn run(args: &WatchArgs, out: &mut Output<'_>) -> Ended {
    let expression = match args.expression.as_slice() {
        [] => None,
        words => Some(Expression::new(words)?),
    };
    let mount = mount_in(&args.place)?;
    let below = Below::new(args.place.dir.as_deref());
    let mut watch = Watch { mount: &mount, expression, below, json: args.json, left: args.limit };
    let mut after = number(&mount.line(&json!({ "status": true }))?, "seq");
    while watch.left != Some(0) {
        let began = Instant::now();
        let (next, any) = watch.step(after, out)?;
        after = next;
        if !any {
            std::thread::sleep(PATIENCE.saturating_sub(began.elapsed()));
        }
    }
    Ok(Outcome::Done)
}

struct Watch<'a, A> {
    mount: &'a A,
    expression: Option<Expression>,
    below: Below,
    json: bool,
    /// Changes that are still to be shown; none: all.
    left: Option<u64>,
}

impl<A: Ask> Watch<'_, A> {
    /// Asks once, and shows what there is: where to go on, and whether there was any.
    fn step(&mut self, after: u64, out: &mut Output<'_>) -> Result<(u64, bool), Failure> {
        let mut lines = self.mount.lines(&self.request(after))?;
        let last = lines.pop().filter(|line| line.get("change").is_none());
        let seq = last.and_then(|line| line.get("seq").and_then(Value::as_u64));
        let seq =
            seq.ok_or_else(|| refused("the mount's answer does not say how far it goes: its version is another one"))?;
        let places = if lines.is_empty() { BTreeMap::new() } else { self.places(&lines) };
        for line in &mut lines {
            // What left is told with the change that it left by.
            if text(line, "change") != LEFT {
                if self.left == Some(0) {
                    break;
                }
                self.left = self.left.map(|left| left - 1);
            }
            self.show(line, &places, out)?;
        }
        out.flush()?;
        Ok((seq.max(after), !lines.is_empty()))
    }

    fn request(&self, after: u64) -> Value {
        match &self.expression {
            None => json!({ "watch": null, "after": after }),
            Some(Expression { text, utc_offset_secs }) => {
                json!({ "watch": text, "after": after, "utc-offset-secs": utc_offset_secs })
            }
        }
    }

    /// Where the inodes lie that the changes name. What is gone, or lies elsewhere, has no path; nor has anything when the question
    /// is refused: the changes are shown all the same.
    fn places(&self, lines: &[Value]) -> BTreeMap<u64, Vec<u8>> {
        let parents = lines.iter().filter_map(|line| line.get("parent").and_then(Value::as_u64));
        let mut inos: Vec<u64> = lines.iter().flat_map(inos).chain(parents).collect();
        inos.sort_unstable();
        inos.dedup();
        let mut places = BTreeMap::new();
        for some in inos.chunks(QUERY_ATOMS_MAX) {
            let ids = some
                .iter()
                .filter_map(|ino| Ino::new(*ino))
                .map(|ino| format!("@file/{}", Entry::Ino(ino).to_component()));
            let expression = ids.collect::<Vec<_>>().join(" or ");
            let found = self.mount.lines(&json!({ "find": expression, "limit": QUERY_ATOMS_MAX }));
            for hit in found.unwrap_or_default() {
                if let Some(path) = self.below.path(&hit) {
                    let _ = places.insert(ino(&hit), path);
                }
            }
        }
        places
    }

    fn show(&self, line: &mut Value, places: &BTreeMap<u64, Vec<u8>>, out: &mut Output<'_>) -> Result<(), Failure> {
        let mut paths: Vec<Vec<u8>> = inos(line).filter_map(|ino| places.get(&ino)).cloned().collect();
        if paths.is_empty() {
            paths.extend(old_path(line, places));
        }
        if self.json {
            if let Some(object) = line.as_object_mut() {
                let text: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
                let _ = object.insert("paths".to_owned(), json!(text));
            }
            return out.json(line);
        }
        let secs = line.pointer("/at/secs").and_then(Value::as_i64).unwrap_or(0);
        out.raw(format!("{} {:<10}", local::second_text(secs), text(line, "change")).as_bytes())?;
        let retagged = retagged(line);
        if !retagged.is_empty() {
            out.raw(b" ")?;
            out.name(retagged.as_bytes())?;
        }
        if paths.is_empty() {
            // What is gone has only the name that it had.
            let name = bytes(line, "name").unwrap_or_else(|| words(line).into_bytes());
            out.raw(b" ")?;
            out.name(&name)?;
        }
        for path in paths {
            out.raw(b" ")?;
            out.name(&path)?;
        }
        out.line("")
    }
}

/// Where something was that is gone from there: behind the place of its directory.
fn old_path(line: &Value, places: &BTreeMap<u64, Vec<u8>>) -> Option<Vec<u8>> {
    let (parent, name) = (line.get("parent").and_then(Value::as_u64)?, bytes(line, "name")?);
    let parent = places.get(&parent)?;
    Some([parent.as_slice(), b"/", &name].concat())
}

/// Which tags were given (`+`) and taken (`-`); of several files each once.
fn retagged(line: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for (key, sign) in [("given", '+'), ("taken", '-')] {
        for tag in items(line, "tags").iter().flat_map(|one| items(one, key)).filter_map(Value::as_str) {
            let word = format!("{sign}{tag}");
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words.join(",")
}

/// The inodes that a change is about.
fn inos(line: &Value) -> impl Iterator<Item = u64> + '_ {
    let one = line.get("ino").and_then(Value::as_u64);
    let several = items(line, "inos").iter().filter_map(Value::as_u64);
    one.into_iter().chain(several)
}

/// What a change without a name and without a path is about.
fn words(line: &Value) -> String {
    let tags = items(line, "tags").iter().map(|tag| text(tag, "tag")).filter(|tag| !tag.is_empty());
    let tags: Vec<&str> = tags.collect();
    if !tags.is_empty() {
        return tags.join(", ");
    }
    let inos: Vec<String> = inos(line).map(|ino| format!("inode {ino}")).collect();
    inos.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Watch, words};
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::expression::Expression;
    use crate::cli::graph::find::Below;
    use crate::cli::graph::output::testing::printed;

    fn watch(fake: &Fake, json: bool, left: Option<u64>) -> Watch<'_, Fake> {
        let expression = Some(Expression { text: "beach".to_owned(), utc_offset_secs: 0 });
        Watch { mount: fake, expression, below: Below::new(None), json, left }
    }

    fn answer() -> [(Value, Vec<Value>); 2] {
        let at = json!({ "secs": 0, "nanos": 0 });
        [
            (
                json!({ "watch": "beach", "after": 4, "utc-offset-secs": 0 }),
                vec![
                    json!({ "change": "content", "ino": 33, "size": 3, "seq": 5, "at": at }),
                    json!({ "change": "tagged", "inos": [33, 34], "seq": 6, "at": at }),
                    json!({ "change": "unlinked", "ino": 35, "parent": 1, "name": "gone", "seq": 7, "at": at }),
                    json!({ "seq": 9 }),
                ],
            ),
            (
                json!({ "find": "@file/~1 or @file/~11 or @file/~12 or @file/~13", "limit": 64 }),
                vec![
                    json!({ "ino": 33, "path": "a" }),
                    json!({ "ino": 34, "path": "b/c" }),
                    json!({ "end": true, "after": 34 }),
                ],
            ),
        ]
    }

    #[test]
    fn changes_are_shown_with_where_their_files_are_now() {
        let fake = Fake::new(answer());
        let (text, ended) = printed(|out| watch(&fake, false, None).step(4, out));
        assert_eq!(ended.unwrap(), (9, true));
        let shown: Vec<&str> = text.lines().map(|line| &line[20..]).collect();
        assert_eq!(shown, ["content    a", "tagged     a b/c", "unlinked   gone"]);
        assert!(fake.is_done());
    }

    #[test]
    fn what_leaves_is_told_with_the_tags_that_were_taken() {
        let at = json!({ "secs": 0, "nanos": 0 });
        let tags = json!([{ "ino": 33, "given": ["new"], "taken": ["beach", "sun"] }]);
        let lines = vec![
            json!({ "change": "tagged", "inos": [33], "tags": tags, "seq": 5, "at": at }),
            json!({ "change": "left", "ino": 33, "seq": 5, "at": at }),
            json!({ "change": "unlinked", "ino": 35, "parent": 40, "name": "gone", "seq": 7, "at": at }),
            json!({ "change": "left", "ino": 35, "parent": 40, "name": "gone", "seq": 7, "at": at }),
            json!({ "seq": 9 }),
        ];
        let places = vec![json!({ "ino": 33, "path": "a" }), json!({ "ino": 40, "path": "d" }), json!({ "end": true })];
        let fake = Fake::new([
            (json!({ "watch": "beach", "after": 4, "utc-offset-secs": 0 }), lines),
            (json!({ "find": "@file/~11 or @file/~13 or @file/~18", "limit": 64 }), places),
        ]);
        let mut limited = watch(&fake, false, Some(2));
        let (text, ended) = printed(|out| limited.step(4, out));
        assert_eq!((ended.unwrap(), limited.left), ((9, true), Some(0)));
        let shown: Vec<&str> = text.lines().map(|line| &line[20..]).collect();
        let expected = ["tagged     +new,-beach,-sun a", "left       a", "unlinked   d/gone", "left       d/gone"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_limit_ends_it_and_json_has_paths_beside_numbers() {
        let fake = Fake::new(answer());
        let mut limited = watch(&fake, true, Some(2));
        let (text, _) = printed(|out| limited.step(4, out));
        assert_eq!(limited.left, Some(0));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[1]["paths"]), (2, &json!(["a", "b/c"])));
    }

    #[test]
    fn nothing_new_is_asked_for_again_and_an_odd_answer_is_refused() {
        let request = || json!({ "watch": "beach", "after": 4, "utc-offset-secs": 0 });
        let fake = Fake::new([(request(), vec![json!({ "seq": 4 })])]);
        let (text, ended) = printed(|out| watch(&fake, false, None).step(4, out));
        assert_eq!((text.as_str(), ended.unwrap()), ("", (4, false)));
        let fake = Fake::new([(request(), vec![])]);
        assert!(printed(|out| watch(&fake, false, None).step(4, out)).1.is_err());
        assert_eq!(words(&json!({ "tags": [{ "tag": "x" }, { "tag": null }] })), "x");
        assert_eq!(words(&json!({ "inos": [1, 2] })), "inode 1, inode 2");
    }
}
