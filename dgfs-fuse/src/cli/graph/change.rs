//! Changes of the tags of many files: in requests of at most [`TAGGED_MAX`] files, one mount at a time.
//!
//! Never gives up the rest because of one file: what cannot be tagged is named, and counted. A request changes all its files or
//! none; where it is refused, its files are asked one by one, so that the one that is at fault is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use dgfs_proto::limits::TAGGED_MAX;
use dgfs_proto::tag::Tag;

use crate::cli::Failure;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::places::{Links, Named};
use crate::cli::graph::{Ended, Outcome, refused};

/// Refusals in a row after which the rest of a request is not tried one by one: the fault is none of a file.
const REFUSALS_MAX: usize = 16;

/// What is changed of each file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edit {
    pub(crate) add: Vec<Tag>,
    pub(crate) remove: Vec<Tag>,
    pub(crate) veto: Vec<Tag>,
    pub(crate) unveto: Vec<Tag>,
}

impl Edit {
    fn request(&self, inos: &[u64]) -> Value {
        let mut words = Map::new();
        let _ = words.insert("inos".to_owned(), json!(inos));
        for (key, tags) in
            [("add", &self.add), ("remove", &self.remove), ("veto", &self.veto), ("unveto", &self.unveto)]
        {
            if !tags.is_empty() {
                let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
                let _ = words.insert(key.to_owned(), json!(tags));
            }
        }
        json!({ "tag": words })
    }
}

/// How the change of many files is made: who is asked, and where what went wrong is told.
pub(crate) struct Changes<'a, M> {
    pub(crate) edit: &'a Edit,
    pub(crate) links: Links,
    /// The mount of a file.
    pub(crate) mount: M,
    /// Told of every file that was not changed.
    pub(crate) problem: &'a mut dyn FnMut(&str),
}

/// How many files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) changed: u64,
    pub(crate) failed: u64,
    /// Tags that were to be taken off files that do not carry them.
    pub(crate) lacking: u64,
}

impl Tally {
    /// The command's end: a failure if any file failed, else whether there was all that was to be taken off.
    pub(crate) fn ended(self) -> Ended {
        match self.failed {
            0 => Ok(Outcome::of(self.lacking == 0)),
            failed => Err(refused(format!("{failed} of {} files were not changed", failed + self.changed))),
        }
    }
}

impl<A: Ask, M: FnMut(&Named) -> Result<A, Failure>> Changes<'_, M> {
    /// Changes all of `paths`. Waiting files are at most [`TAGGED_MAX`] for each mount.
    pub(crate) fn make(mut self, paths: impl Iterator<Item = Result<PathBuf, Failure>>) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let mut waiting: BTreeMap<u64, Vec<Named>> = BTreeMap::new();
        for path in paths {
            match Named::new(&path?, self.links) {
                Ok(named) => {
                    let device = named.device;
                    let batch = waiting.entry(device).or_default();
                    batch.push(named);
                    if batch.len() == TAGGED_MAX {
                        let batch = std::mem::take(batch);
                        self.send(&batch, &mut tally);
                    }
                }
                Err(failure) => self.failed(&failure.sentence, &mut tally),
            }
        }
        waiting.into_values().for_each(|batch| self.send(&batch, &mut tally));
        Ok(tally)
    }

    fn failed(&mut self, sentence: &str, tally: &mut Tally) {
        (self.problem)(sentence);
        tally.failed += 1;
    }

    fn send(&mut self, batch: &[Named], tally: &mut Tally) {
        let Some(first) = batch.first() else { return };
        let mount = match (self.mount)(first) {
            Ok(mount) => mount,
            Err(failure) => {
                // All lie on the same file system.
                batch.iter().for_each(|_| tally.failed += 1);
                return (self.problem)(&failure.sentence);
            }
        };
        let inos: Vec<u64> = batch.iter().map(|named| named.ino).collect();
        match self.order(&mount, batch, &inos, tally) {
            Ok(()) => tally.changed += batch.len() as u64,
            Err(failure) if batch.len() == 1 => self.failed(&about(first, &failure), tally),
            Err(_) => self.one_by_one(&mount, batch, tally),
        }
    }

    /// Makes the change of some files; what they do not carry is told.
    fn order(&mut self, mount: &A, batch: &[Named], inos: &[u64], tally: &mut Tally) -> Result<(), Failure> {
        for line in mount.lines(&self.edit.request(inos))? {
            let Some(tag) = line.get("lacks").and_then(Value::as_str) else { continue };
            let named = batch.iter().find(|named| line.get("ino").and_then(Value::as_u64) == Some(named.ino));
            let Some(named) = named else { continue };
            tally.lacking += 1;
            let why = if line.get("implied").and_then(Value::as_bool) == Some(true) {
                format!("carries \"{tag}\" only by another tag that implies it: take that one off")
            } else {
                format!("does not carry \"{tag}\"")
            };
            (self.problem)(&format!("{}: {why}", named.path.display()));
        }
        Ok(())
    }

    fn one_by_one(&mut self, mount: &A, batch: &[Named], tally: &mut Tally) {
        let mut in_a_row = 0;
        for (at, named) in batch.iter().enumerate() {
            match self.order(mount, std::slice::from_ref(named), &[named.ino], tally) {
                Ok(()) => {
                    in_a_row = 0;
                    tally.changed += 1;
                }
                Err(failure) => {
                    in_a_row += 1;
                    self.failed(&about(named, &failure), tally);
                }
            }
            if in_a_row == REFUSALS_MAX {
                let left = batch.len() - at - 1;
                tally.failed += left as u64;
                return (self.problem)(&format!("{REFUSALS_MAX} refusals in a row: {left} files more are not tried"));
            }
        }
    }
}

fn about(named: &Named, failure: &Failure) -> String {
    format!("{}: {}", named.path.display(), failure.sentence)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{Changes, Edit, Tally};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::expression::tag;
    use crate::cli::graph::places::{Links, Named};

    /// Real files, as their numbers are asked of the system.
    struct Place {
        directory: PathBuf,
        names: Vec<PathBuf>,
    }

    impl Place {
        fn new(name: &str, count: usize) -> Self {
            let directory = std::env::temp_dir().join(format!("dgfs-change-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let names: Vec<_> = (0..count).map(|at| directory.join(format!("f{at}"))).collect();
            names.iter().for_each(|name| std::fs::write(name, "").unwrap());
            Self { directory, names }
        }

        fn ino(&self, at: usize) -> u64 {
            Named::new(&self.names[at], Links::Followed).unwrap().ino
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn make(fake: &Fake, paths: &[PathBuf]) -> (Tally, Vec<String>) {
        let edit = Edit { add: vec![tag("x").unwrap()], ..Edit::default() };
        let mut problems = Vec::new();
        let problem = &mut |sentence: &str| problems.push(sentence.to_owned());
        let changes = Changes { edit: &edit, links: Links::Followed, mount: |_: &Named| Ok(fake), problem };
        let tally = changes.make(paths.iter().cloned().map(Ok)).unwrap();
        assert!(fake.is_done());
        (tally, problems)
    }

    fn request(inos: &[u64]) -> Value {
        json!({ "tag": { "inos": inos, "add": ["x"] } })
    }

    #[test]
    fn files_go_in_batches_of_512() {
        let place = Place::new("batches", 600);
        let inos: Vec<u64> = (0..600).map(|at| place.ino(at)).collect();
        let done = |count: u64| vec![json!({ "tagged": count })];
        let fake = Fake::new([(request(&inos[..512]), done(512)), (request(&inos[512..]), done(88))]);
        assert_eq!(make(&fake, &place.names), (Tally { changed: 600, ..Tally::default() }, vec![]));
    }

    #[test]
    fn a_refused_file_is_named_and_the_others_are_tagged() {
        let place = Place::new("refused", 3);
        let inos = [place.ino(0), place.ino(1), place.ino(2)];
        let no = || vec![json!({ "error": "not permitted" })];
        let fake = Fake::new([
            (request(&inos), no()),
            (request(&inos[..1]), vec![json!({ "tagged": 1 })]),
            (request(&inos[1..2]), no()),
            (request(&inos[2..]), vec![json!({ "tagged": 1 })]),
        ]);
        let (tally, problems) = make(&fake, &place.names);
        assert_eq!(tally, Tally { changed: 2, failed: 1, lacking: 0 });
        assert_eq!(problems, [format!("{}: not permitted", place.names[1].display())]);
        assert_eq!(tally.ended().unwrap_err().sentence, "1 of 3 files were not changed");
    }

    #[test]
    fn a_mount_that_refuses_everything_is_not_asked_for_each_file() {
        let place = Place::new("all", 40);
        let inos: Vec<u64> = (0..40).map(|at| place.ino(at)).collect();
        let no = || vec![json!({ "error": "read-only" })];
        let first = std::iter::once((request(&inos), no()));
        let fake = Fake::new(first.chain(inos[..16].iter().map(|ino| (request(&[*ino]), no()))));
        let (tally, problems) = make(&fake, &place.names);
        assert_eq!((tally.failed, problems.len()), (40, 17));
        assert!(problems[16].contains("24 files more"), "{}", problems[16]);
    }

    #[test]
    fn what_a_file_does_not_carry_is_told_and_the_exit_code_says_so() {
        let place = Place::new("lacking", 2);
        let inos = [place.ino(0), place.ino(1)];
        let lines = vec![
            json!({ "lacks": "x", "ino": inos[0], "implied": false }),
            json!({ "lacks": "x", "ino": inos[1], "implied": true }),
            json!({ "tagged": 2 }),
        ];
        let fake = Fake::new([(request(&inos), lines)]);
        let (tally, problems) = make(&fake, &place.names);
        assert_eq!(tally, Tally { changed: 2, failed: 0, lacking: 2 });
        assert_eq!(tally.ended().unwrap(), Outcome::Nothing);
        assert!(problems[0].ends_with("f0: does not carry \"x\""), "{problems:?}");
        assert!(problems[1].contains("another tag that implies it"), "{problems:?}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let place = Place::new("missing", 1);
        let fake = Fake::new([(request(&[place.ino(0)]), vec![json!({ "tagged": 1 })])]);
        let (tally, problems) = make(&fake, &[place.directory.join("gone"), place.names[0].clone()]);
        assert_eq!(tally, Tally { changed: 1, failed: 1, lacking: 0 });
        assert!(problems[0].contains("gone: No such file"), "{problems:?}");
    }
}
