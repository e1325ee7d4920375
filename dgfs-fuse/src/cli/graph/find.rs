//! `dgfs find` and `dgfs untagged`.
//!
//! Never keeps more than a page of hits. Always: paths begin with the directory as it was given, as those of find(1) do.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::graph::{Shown, Where};
use crate::cli::graph::ask::Ask;
use crate::cli::graph::expression::Expression;
use crate::cli::graph::output::{Output, bytes, bytes_text, items, number, text};
use crate::cli::graph::places::mount_in;
use crate::cli::graph::tag::tell;
use crate::cli::graph::{Ended, Outcome, local, refused};

/// Hits asked for at once: the first ones are shown soon.
const PAGE: u64 = 1024;

/// Runs `find`.
pub(crate) fn run(words: &[String], place: &Where, shown: &Shown, out: &mut Output<'_>) -> Ended {
    let expression = Expression::new(words)?;
    let mount = mount_in(place)?;
    let below = Below::new(place.dir.as_deref());
    Search { mount: &mount, expression, shown, below, hint: &tell }.run(out)
}

/// Runs `untagged`.
pub(crate) fn untagged(place: &Where, shown: &Shown, out: &mut Output<'_>) -> Ended {
    run(&["@untagged".to_owned()], place, shown, out)
}

/// How a path of an answer is written: behind the directory that was given.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    directory: Option<PathBuf>,
}

impl Below {
    pub(crate) fn new(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_owned) }
    }

    /// The path of a hit; none if it has none that may be seen.
    pub(crate) fn path(&self, line: &Value) -> Option<Vec<u8>> {
        let path = bytes(line, "path")?;
        Some(self.behind(&path))
    }

    fn behind(&self, path: &[u8]) -> Vec<u8> {
        let Some(directory) = &self.directory else {
            // What begins with "-" would be an option of whoever gets it.
            return match path {
                [] => b".".to_vec(),
                [b'-', ..] => [b"./", path].concat(),
                _ => path.to_vec(),
            };
        };
        let mut whole = directory.as_os_str().as_bytes().to_vec();
        if !path.is_empty() {
            if !whole.ends_with(b"/") {
                whole.push(b'/');
            }
            whole.extend_from_slice(path);
        }
        whole
    }
}

/// A search, ready to be made.
struct Search<'a, A> {
    mount: &'a A,
    expression: Expression,
    shown: &'a Shown,
    below: Below,
    /// Told why nothing may have been found; people only are.
    hint: &'a dyn Fn(&str),
}

impl<A: Ask> Search<'_, A> {
    fn run(&self, out: &mut Output<'_>) -> Ended {
        if self.shown.count { self.count(out) } else { self.hits(out) }
    }

    fn count(&self, out: &mut Output<'_>) -> Ended {
        let Expression { text, utc_offset_secs } = &self.expression;
        let line = self.mount.line(&json!({ "count": text, "utc-offset-secs": utc_offset_secs }))?;
        let count = line.get("count").and_then(Value::as_u64);
        let count = count.ok_or_else(|| refused("the mount answered no count: its version is another one"))?;
        if self.shown.json {
            out.json(&json!({ "count": count }))?;
        } else {
            out.line(&count.to_string())?;
        }
        Ok(Outcome::of(count > 0))
    }

    /// Page after page; each begins behind the greatest inode number of the one before, so their number is bounded by that of
    /// the inodes.
    fn hits(&self, out: &mut Output<'_>) -> Ended {
        let mut after: Option<u64> = None;
        let mut found: u64 = 0;
        let limit = self.shown.limit.unwrap_or(u64::MAX);
        while found < limit {
            let (mut end, mut last) = (None, None);
            let request = self.request(after, PAGE.min(limit - found));
            self.mount.ask(&request, &mut |line| {
                if let Some(is_end) = line.get("end").and_then(Value::as_bool) {
                    (end, last) = (Some(is_end), line.get("after").and_then(Value::as_u64));
                    if found == 0 && !self.shown.json && !self.shown.null {
                        items(&line, "unknown").iter().filter_map(Value::as_str).for_each(|name| self.unknown(name));
                    }
                    return Ok(());
                }
                found += 1;
                self.show(&line, out)
            })?;
            match (end, last) {
                (Some(true), _) => break,
                (Some(false), Some(last)) if after.is_none_or(|after| last > after) => after = Some(last),
                (Some(false), _) | (None, _) => {
                    return Err(refused(
                        "the mount's answer ends without saying where to go on: its version is another one",
                    ));
                }
            }
        }
        Ok(Outcome::of(found > 0))
    }

    fn unknown(&self, name: &str) {
        (self.hint)(&format!("no file carries a tag or key \"{name}\""));
    }

    fn request(&self, after: Option<u64>, limit: u64) -> Value {
        let Expression { text, utc_offset_secs } = &self.expression;
        let mut request = json!({ "find": text, "limit": limit, "utc-offset-secs": utc_offset_secs });
        if let (Some(object), Some(after)) = (request.as_object_mut(), after) {
            object.insert("after".to_owned(), json!(after));
        }
        request
    }

    fn show(&self, line: &Value, out: &mut Output<'_>) -> Result<(), Failure> {
        if self.shown.json {
            return out.json(line);
        }
        // Without a path there is nothing that a reader of paths could use.
        let Some(path) = self.below.path(line) else { return Ok(()) };
        if self.shown.null {
            out.zero(&path)
        } else if self.shown.long {
            out.named(&long(line, &path), &path)
        } else {
            out.named("", &path)
        }
    }
}

/// Kind, size and time, in columns.
fn long(line: &Value, path: &[u8]) -> String {
    let kind = text(line, "kind");
    let facts = std::fs::symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(path)));
    // It may have gone away since it was found.
    let (size, time) = facts.map_or_else(
        |_| ("?".to_owned(), "?".to_owned()),
        |facts| (bytes_text(facts.len()), local::minute_text(facts.mtime())),
    );
    format!("{kind:<8} {size:>10}  {time:<16}  ~{:<6} ", text(line, "id").trim_start_matches('~'))
}

/// The number of the inode that a hit or another line is about.
pub(crate) fn ino(line: &Value) -> u64 {
    number(line, "ino")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Below, Search};
    use crate::cli::args::graph::Shown;
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::expression::Expression;
    use crate::cli::graph::output::testing::printed;

    fn hit(ino: u64, path: &str) -> Value {
        json!({ "ino": ino, "id": format!("~{ino}"), "kind": "file", "rank": 1.0, "name": "n", "path": path })
    }

    fn find(limit: u64, after: Option<u64>) -> Value {
        let mut request = json!({ "find": "beach", "limit": limit, "utc-offset-secs": 3600 });
        if let Some(after) = after {
            request["after"] = json!(after);
        }
        request
    }

    fn search(fake: &Fake, shown: &Shown, directory: Option<&str>) -> (String, Result<Outcome, crate::cli::Failure>) {
        let expression = Expression { text: "beach".to_owned(), utc_offset_secs: 3600 };
        let below = Below::new(directory.map(Path::new));
        let hint = &|sentence: &str| panic!("not expected: {sentence}");
        let search = Search { mount: fake, expression, shown, below, hint };
        printed(|out| search.run(out))
    }

    #[test]
    fn a_person_is_told_that_a_name_is_not_known_and_a_program_is_not() {
        let last = json!({ "end": true, "after": null, "seq": 9, "unknown": ["beach"] });
        let told = std::cell::RefCell::new(Vec::new());
        for (shown, hints) in [(Shown::default(), 1), (Shown { json: true, ..Shown::default() }, 1)] {
            let fake = Fake::new([(find(1024, None), vec![last.clone()])]);
            let expression = Expression { text: "beach".to_owned(), utc_offset_secs: 3600 };
            let hint = &|sentence: &str| told.borrow_mut().push(sentence.to_owned());
            let search = Search { mount: &fake, expression, shown: &shown, below: Below::new(None), hint };
            assert_eq!(printed(|out| search.run(out)).1.unwrap(), Outcome::Nothing);
            assert_eq!(told.borrow().len(), hints);
        }
        assert_eq!(told.into_inner(), ["no file carries a tag or key \"beach\""]);
    }

    fn end(end: bool, after: u64) -> Value {
        json!({ "end": end, "after": after, "seq": 9 })
    }

    #[test]
    fn pages_are_followed_to_the_end() {
        let fake = Fake::new([
            (find(1024, None), vec![hit(3, "a.jpg"), hit(5, "b/c.jpg"), end(false, 5)]),
            (find(1024, Some(5)), vec![hit(7, "-d"), end(true, 7)]),
        ]);
        let (text, ended) = search(&fake, &Shown::default(), None);
        assert_eq!((text.as_str(), ended.unwrap()), ("a.jpg\nb/c.jpg\n./-d\n", Outcome::Done));
        assert!(fake.is_done());
    }

    #[test]
    fn a_limit_ends_the_search_and_paths_begin_as_the_directory_was_given() {
        let fake = Fake::new([(find(2, None), vec![hit(3, "a"), hit(5, "b"), end(false, 5)])]);
        let shown = Shown { limit: Some(2), null: true, ..Shown::default() };
        assert_eq!(search(&fake, &shown, Some("x/")).0, "x/a\0x/b\0");
        let fake = Fake::new([(find(1024, None), vec![hit(3, "a"), end(true, 3)])]);
        assert_eq!(search(&fake, &Shown::default(), Some("../x")).0, "../x/a\n");
    }

    #[test]
    fn nothing_found_is_an_exit_code_not_an_error() {
        let fake = Fake::new([(find(1024, None), vec![json!({ "end": true, "after": null, "seq": 9 })])]);
        let (text, ended) = search(&fake, &Shown::default(), None);
        assert_eq!((text.as_str(), ended.unwrap()), ("", Outcome::Nothing));
        let count = json!({ "count": "beach", "utc-offset-secs": 3600 });
        let shown = Shown { count: true, ..Shown::default() };
        let fake = Fake::new([(count.clone(), vec![json!({ "count": 0, "seq": 1 })])]);
        let (text, ended) = search(&fake, &shown, None);
        assert_eq!((text.as_str(), ended.unwrap()), ("0\n", Outcome::Nothing));
        let fake = Fake::new([(count, vec![json!({ "count": 7, "seq": 1 })])]);
        assert_eq!(search(&fake, &shown, None).1.unwrap(), Outcome::Done);
    }

    #[test]
    fn an_answer_that_leads_nowhere_is_refused_not_followed_for_ever() {
        let fake = Fake::new([
            (find(1024, None), vec![hit(5, "a"), end(false, 5)]),
            (find(1024, Some(5)), vec![hit(5, "a"), end(false, 5)]),
        ]);
        let (text, ended) = search(&fake, &Shown::default(), None);
        assert_eq!(text, "a\na\n", "what was found is shown");
        assert_eq!(ended.unwrap_err().code, 3);
        let fake = Fake::new([(find(1024, None), vec![hit(5, "a")])]);
        assert!(search(&fake, &Shown::default(), None).1.is_err(), "cut off");
    }

    #[test]
    fn json_is_passed_on_and_names_of_any_bytes_are_kept() {
        let line = json!({ "ino": 3, "path": "a\u{fffd}", "path-hex": "61ff" });
        let fake = Fake::new([(find(1024, None), vec![line.clone(), end(true, 3)])]);
        let shown = Shown { json: true, ..Shown::default() };
        assert_eq!(search(&fake, &shown, None).0, format!("{line}\n"));
        assert_eq!(Below::new(None).path(&line), Some(vec![b'a', 0xff]));
        assert_eq!(Below::new(None).path(&json!({ "ino": 3 })), None);
        let here = json!({ "path": "" });
        assert_eq!(Below::new(None).path(&here).unwrap(), b".");
        assert_eq!(Below::new(Some(Path::new("/m"))).path(&here).unwrap(), b"/m");
    }
}
