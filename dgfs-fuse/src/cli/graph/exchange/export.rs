//! `dgfs export`: everything that people said of the files below a directory.
//!
//! Never exports what taggers said: they say it again. Needs no index for tags, comments and ratings, which are attributes; without
//! one, relations, aliases and saved queries are left out, and that is told.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use dgfs_proto::tag::parse_csv;

use crate::cli::Failure;
use crate::cli::args::graph::exchange::{ExportArgs, ExportFormat};
use crate::cli::graph::ask::Ask;
use crate::cli::graph::exchange::tmsu::{Database, FileFacts};
use crate::cli::graph::exchange::walk::{Found, Visitor, walk};
use crate::cli::graph::exchange::{FileItem, Item, TagItem, jsonl};
use crate::cli::graph::output::{Output, bytes, items, text};
use crate::cli::graph::places::mount_of_directory;
use crate::cli::graph::tag::tell;
use crate::cli::graph::{Ended, Outcome, catalogue, refused, xattr};

/// Relations from a file on; those to it are exported with the other one.
const OUTWARD: [&str; 4] = ["links-to", "sources", "versions", "related"];

/// Runs the command.
pub(crate) fn run(args: &ExportArgs, out: &mut Output<'_>) -> Ended {
    let directory = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let mount = mount_of_directory(&directory)?;
    match (args.format, &args.output) {
        (ExportFormat::Tmsu, Some(file)) => {
            let database = Database::create(file)?;
            let ended = export(&mount, &directory, Sink::Database(&database));
            database.finish()?;
            ended
        }
        (ExportFormat::Tmsu, None) => Err(refused("a database needs a file: --output")),
        (ExportFormat::Jsonl, Some(file)) => {
            let failed = |error: std::io::Error| refused(format!("write {}: {error}", file.display()));
            let mut writer = BufWriter::new(File::create_new(file).map_err(failed)?);
            let ended = export(&mount, &directory, Sink::Lines(&mut Output::new(&mut writer, false)));
            writer.flush().map_err(failed)?;
            ended
        }
        (ExportFormat::Jsonl, None) => export(&mount, &directory, Sink::Lines(out)),
    }
}

/// Where items go.
enum Sink<'a, 'o> {
    Lines(&'a mut Output<'o>),
    Database(&'a Database),
}

impl Sink<'_, '_> {
    fn put(&mut self, item: &Item, facts: Option<FileFacts>) -> Result<(), Failure> {
        match (self, item, facts) {
            (Self::Lines(out), item, _) => jsonl::line(item).map_or(Ok(()), |line| out.json(&line)),
            (Self::Database(database), Item::File(file), Some(facts)) if !file.tags.is_empty() => {
                database.add(file, facts)
            }
            (Self::Database(database), Item::Tag(tag), _) => database.imply(tag),
            // TMSU knows no comments, ratings, relations, and no names of queries.
            (Self::Database(_), Item::File(_) | Item::Saved(_, _) | Item::Problem(_), _) => Ok(()),
        }
    }
}

fn export(mount: &impl Ask, directory: &Path, mut sink: Sink<'_, '_>) -> Ended {
    if let Err(failure) = put_catalogue(mount, &mut sink) {
        tell(&format!("aliases, implications and saved queries are not exported: {}", failure.sentence));
    }
    let mut exporter = Exporter { mount, sink, found: 0, unread: 0, without_relations: false };
    walk(directory, &mut exporter)?;
    match exporter.unread {
        0 => Ok(Outcome::of(exporter.found > 0)),
        unread => Err(refused(format!("{unread} files or directories could not be read: they are not exported"))),
    }
}

/// Tags that have aliases or imply others, and saved queries.
fn put_catalogue(mount: &impl Ask, sink: &mut Sink<'_, '_>) -> Result<(), Failure> {
    for line in catalogue::all(mount)? {
        let words =
            |key: &str| items(&line, key).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let item = TagItem { tag: text(&line, "tag").to_owned(), aliases: words("aliases"), implies: words("implies") };
        if !item.aliases.is_empty() || !item.implies.is_empty() {
            sink.put(&Item::Tag(item), None)?;
        }
    }
    for line in mount.lines(&json!({ "saved": true }))? {
        let (name, expression) = (text(&line, "name"), text(&line, "expression"));
        sink.put(&Item::Saved(name.to_owned(), expression.to_owned()), None)?;
    }
    Ok(())
}

struct Exporter<'a, 's, 'o, A> {
    mount: &'a A,
    sink: Sink<'s, 'o>,
    found: u64,
    unread: u64,
    /// No index answers: asked once, not for every file.
    without_relations: bool,
}

impl<A: Ask> Visitor for Exporter<'_, '_, '_, A> {
    fn found(&mut self, found: &Found<'_>) -> Result<(), Failure> {
        let mut file = match said(found) {
            Ok(file) => file,
            Err(error) => return self.unread(format!("{}: {error}", found.path.display())),
        };
        if let Sink::Lines(_) = self.sink {
            file.relations = self.relations(found)?;
        }
        if file == (FileItem { path: file.path.clone(), ..FileItem::default() }) {
            return Ok(());
        }
        self.found += 1;
        let facts = FileFacts {
            mtime_secs: found.facts.mtime(),
            size: if found.facts.is_dir() { 0 } else { found.facts.len() },
            is_dir: found.facts.is_dir(),
        };
        self.sink.put(&Item::File(file), Some(facts))
    }

    fn unread(&mut self, sentence: String) -> Result<(), Failure> {
        tell(&sentence);
        self.unread += 1;
        Ok(())
    }
}

/// What the attributes of a file say.
fn said(found: &Found<'_>) -> std::io::Result<FileItem> {
    let tags = xattr::get(found.path, xattr::TAGS)?.unwrap_or_default();
    let tags = parse_csv(&tags).map_err(std::io::Error::other)?;
    let rating =
        xattr::get(found.path, xattr::RATING)?.and_then(|rating| std::str::from_utf8(&rating).ok()?.parse().ok());
    Ok(FileItem {
        path: found.below.to_owned(),
        tags: tags.iter().map(ToString::to_string).collect(),
        comment: xattr::get(found.path, xattr::COMMENT)?,
        rating: rating.filter(|rating: &u8| *rating <= 10),
        relations: Vec::new(),
    })
}

impl<A: Ask> Exporter<'_, '_, '_, A> {
    /// Relations that people made from a file. The attribute says cheaply that there are none.
    fn relations(&mut self, found: &Found<'_>) -> Result<Vec<(String, PathBuf)>, Failure> {
        let any = match xattr::get(found.path, xattr::RELATIONS) {
            Ok(Some(relations)) => relations != b"[]",
            Ok(None) => false,
            // Too long for an attribute: there are many.
            Err(error) => matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ERANGE)),
        };
        if !any || self.without_relations {
            return Ok(Vec::new());
        }
        match self.mount.lines(&json!({ "related": found.facts.ino() })) {
            Ok(lines) => Ok(self.outward(found, &lines)),
            Err(failure) => {
                self.without_relations = true;
                self.unread += 1;
                tell(&format!("relations are not exported: {}", failure.sentence));
                Ok(Vec::new())
            }
        }
    }

    fn outward(&mut self, found: &Found<'_>, lines: &[Value]) -> Vec<(String, PathBuf)> {
        let mut relations = Vec::new();
        for line in lines.iter().filter(|line| text(line, "source") == "user") {
            let relation = text(line, "relation");
            if !OUTWARD.contains(&relation) {
                continue;
            }
            match bytes(line, "path") {
                Some(path) => relations.push((relation.to_owned(), PathBuf::from(std::ffi::OsString::from_vec(path)))),
                None => {
                    self.unread += 1;
                    let (at, id) = (found.path.display(), text(line, "id"));
                    tell(&format!("{at}: {relation} {id} is not exported: that lies outside, or may not be seen"));
                }
            }
        }
        relations
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Exporter, Found, Sink, export};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;

    fn catalogue() -> [(Value, Vec<Value>); 2] {
        let tag = |name: &str, aliases: &[&str]| json!({ "tag": name, "id": 1, "count": 0, "aliases": aliases, "implies": [], "merged-into": null });
        [
            (json!({ "tags": null, "limit": 1024 }), vec![tag("a", &["b"]), tag("c", &[]), json!({ "end": true })]),
            (json!({ "saved": true }), vec![json!({ "name": "n", "expression": "a" })]),
        ]
    }

    #[test]
    fn what_nobody_said_anything_of_is_left_out_and_the_catalogue_is_written() {
        let directory = std::env::temp_dir().join(format!("dgfs-export-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("in")).unwrap();
        std::fs::write(directory.join("in/f"), "").unwrap();
        let fake = Fake::new(catalogue());
        let (text, ended) = printed(|out| export(&fake, &directory, Sink::Lines(out)));
        let refusing = Fake::new([(json!({ "tags": null, "limit": 1024 }), vec![json!({ "error": "no index" })])]);
        let (without, ended_without) = printed(|out| export(&refusing, &directory, Sink::Lines(out)));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(
            text,
            "{\"aliases\":[\"b\"],\"implies\":[],\"tag\":\"a\"}\n{\"expression\":\"a\",\"saved\":\"n\"}\n"
        );
        assert_eq!(
            (ended.unwrap(), without.as_str(), ended_without.unwrap()),
            (Outcome::Nothing, "", Outcome::Nothing)
        );
    }

    #[test]
    fn relations_made_by_hand_go_outward_only() {
        let line =
            |relation: &str, source: &str| json!({ "relation": relation, "source": source, "id": "~5", "path": "x" });
        let mut hidden = line("related", "user");
        hidden.as_object_mut().unwrap().remove("path");
        let lines = [line("links-to", "user"), line("linked-from", "user"), line("similar", "image"), hidden];
        let here = std::env::temp_dir();
        let facts = std::fs::metadata(&here).unwrap();
        let found = Found { path: &here, below: Path::new("."), facts: &facts };
        let (_, relations) = printed(|out| {
            let (fake, sink) = (Fake::default(), Sink::Lines(out));
            let mut exporter = Exporter { mount: &fake, sink, found: 0, unread: 0, without_relations: false };
            Ok((exporter.outward(&found, &lines), exporter.unread))
        });
        assert_eq!(relations.unwrap(), (vec![("links-to".to_owned(), "x".into())], 1));
    }
}
