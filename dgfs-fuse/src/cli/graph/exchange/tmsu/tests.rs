//! Databases as TMSU makes them, and ours.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{Database, FileFacts, MAGIC, path, read, root};
use crate::cli::graph::exchange::{FileItem, Item, TagItem};

/// A file that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dgfs-tmsu-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn items(database: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    read(database, &mut |item| {
        items.push(item);
        Ok(())
    })
    .unwrap();
    items
}

fn file(path: &str, tags: &[&str]) -> FileItem {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    FileItem { path: path.into(), tags, ..FileItem::default() }
}

/// The tables of TMSU 0.6, whose implications had no values.
const OLD: &str = "
    CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE file (id INTEGER PRIMARY KEY, directory TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL,
        mod_time DATETIME NOT NULL, size INTEGER NOT NULL, is_dir BOOLEAN NOT NULL);
    CREATE TABLE value (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE file_tag (file_id INTEGER NOT NULL, tag_id INTEGER NOT NULL, value_id INTEGER NOT NULL);
    CREATE TABLE implication (tag_id INTEGER NOT NULL, implied_tag_id INTEGER NOT NULL);
    CREATE TABLE query (text TEXT PRIMARY KEY);
    INSERT INTO tag VALUES (1, 'beach'), (2, 'year'), (3, 'outside');
    INSERT INTO value VALUES (1, '2020');
    INSERT INTO file VALUES (7, './photos', 'a.jpg', '', '2020-01-01 00:00:00', 5, 0), (8, '.', 'b', '', '', 0, 1),
        (9, '/elsewhere', 'c', '', '', 0, 0);
    INSERT INTO file_tag VALUES (7, 2, 1), (7, 1, 0), (8, 1, 0), (9, 3, 0), (77, 1, 0);
    INSERT INTO implication VALUES (1, 3);
    INSERT INTO query VALUES ('beach and year > 2019');";

#[test]
fn a_database_of_an_older_version_is_read() {
    let scratch = Scratch::new("old");
    Connection::open(&scratch.0).unwrap().execute_batch(OLD).unwrap();
    let implies = TagItem { tag: "beach".into(), aliases: vec![], implies: vec!["outside".into()] };
    let all = items(&scratch.0);
    assert_eq!(
        all[..4],
        [
            Item::Tag(implies),
            Item::File(file("photos/a.jpg", &["beach", "year=2020"])),
            Item::File(file("b", &["beach"])),
            Item::File(file("/elsewhere/c", &["outside"])),
        ]
    );
    assert!(matches!(&all[4], Item::Problem(why) if why.starts_with("1 queries of TMSU")));
    assert_eq!(all.len(), 5);
    assert!(std::fs::read(&scratch.0).unwrap().starts_with(MAGIC));
}

#[test]
fn what_is_written_is_read_again_and_nothing_there_is_written_over() {
    let scratch = Scratch::new("new");
    let database = Database::create(&scratch.0).unwrap();
    let facts = FileFacts { mtime_secs: 0, size: 3, is_dir: false };
    database.add(&file("a/b/c.jpg", &["beach", "year=2020"]), facts).unwrap();
    database.add(&file("d", &["beach"]), facts).unwrap();
    let implies = TagItem { tag: "beach".into(), aliases: vec![], implies: vec!["in=side".into(), "out".into()] };
    database.imply(&implies).unwrap();
    database.finish().unwrap();
    let one = |other: &str| Item::Tag(TagItem { tag: "beach".into(), aliases: vec![], implies: vec![other.into()] });
    let files = [file("a/b/c.jpg", &["beach", "year=2020"]), file("d", &["beach"])].map(Item::File);
    let mut all = items(&scratch.0);
    all[..2].sort_by_key(|item| format!("{item:?}"));
    assert_eq!(all, [[one("in=side"), one("out")], files].concat());
    let stored: (String, String) = Connection::open(&scratch.0)
        .unwrap()
        .query_row("SELECT directory, mod_time FROM file WHERE name = 'c.jpg'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(stored, ("./a/b".to_owned(), "1970-01-01 00:00:00+00:00".to_owned()));
    assert!(Database::create(&scratch.0).is_err_and(|failure| failure.sentence.contains("exists")));
}

#[test]
fn what_is_no_database_of_tmsu_is_refused() {
    let scratch = Scratch::new("other");
    Connection::open(&scratch.0).unwrap().execute_batch("CREATE TABLE tag (id INTEGER)").unwrap();
    let failure = read(&scratch.0, &mut |_| Ok(())).unwrap_err();
    assert!(failure.sentence.ends_with("it has no table \"file\""), "{}", failure.sentence);
    std::fs::write(&scratch.0, [MAGIC, &[0xff; 4000]].concat()).unwrap();
    assert!(read(&scratch.0, &mut |_| Ok(())).is_err());
    assert!(read(Path::new("/nowhere/db"), &mut |_| Ok(())).is_err());
}

#[test]
fn paths_are_seen_from_the_directory_that_holds_the_database() {
    assert_eq!(root(Path::new("x/.tmsu/db")), Some("x".into()));
    assert_eq!(root(Path::new(".tmsu/db")), Some(".".into()));
    assert_eq!(root(Path::new("/tmp/db")), None);
    assert_eq!(path(b".", b"a"), Path::new("a"));
    assert_eq!(path(b"../x", b"a"), Path::new("../x/a"));
}
