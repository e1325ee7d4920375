//! What changed since a stamp: what was told stays told, and who is too far behind is told everything.

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::NodeFacts;
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::name::Name;

use crate::step::Step;
use crate::store::{Store, write};

/// A database that is gone with its owner.
struct Scratch {
    store: Store,
    dir: std::path::PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dgfs-index-store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { store: Store::open(&dir.join("graph.sqlite")).unwrap(), dir }
    }

    fn take(&mut self, steps: Vec<Step>) {
        self.store.prepare(steps, None).unwrap();
        self.store.commit().unwrap();
    }

    /// Stamp, inode and whether it is gone.
    fn changes(&self, after: u64) -> Vec<(u64, u64, bool)> {
        let changes = self.store.readers().changes_after(after, 100).unwrap();
        changes.into_iter().map(|changed| (changed.stamp, changed.ino.get(), changed.gone)).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn ino(number: u64) -> Ino {
    Ino::new(number).unwrap()
}

fn file(number: u64) -> [Step; 2] {
    let at = Timestamp::default();
    let facts = NodeFacts {
        ino: ino(number),
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        mtime: at,
        ctime: at,
        btime: at,
        data_version: 1,
    };
    let name = Name::new(format!("f{number}").as_bytes()).unwrap();
    [Step::Node(facts), Step::Name { parent: Ino::ROOT, name, ino: ino(number) }]
}

fn tagged(number: u64, tags: &[u64]) -> Step {
    Step::Tagged(ino(number), tags.iter().filter_map(|tag| TagId::new(*tag)).collect())
}

#[test]
fn changes_are_told_by_stamp_and_a_removed_vertex_once() {
    let mut scratch = Scratch::new("told");
    scratch.take([file(2), file(3), file(4)].concat());
    scratch.take(vec![tagged(3, &[1, 2])]);
    scratch.take(vec![tagged(3, &[2]), tagged(4, &[1])]);
    assert_eq!(scratch.changes(0), [(1, 2, false), (3, 3, false), (3, 4, false)], "each with its last stamp");
    assert_eq!(scratch.changes(2), [(3, 3, false), (3, 4, false)]);
    scratch.take(vec![Step::Gone(ino(3))]);
    assert_eq!(scratch.changes(0), [(1, 2, false), (3, 4, false), (4, 3, true)]);
    assert_eq!(scratch.changes(4), []);
}

#[test]
fn who_is_further_behind_than_changes_are_remembered_is_told_every_vertex() {
    let mut scratch = Scratch::new("behind");
    scratch.take([file(2), file(3)].concat());
    scratch.take(vec![tagged(3, &[1])]);
    scratch.take(vec![tagged(2, &[1])]);
    write::all_changed(&scratch.store.connection, 2).unwrap();
    assert_eq!(scratch.changes(1), [(2, 3, false), (3, 2, false)]);
    assert_eq!(scratch.changes(2), [(3, 2, false)]);
    let page = scratch.store.readers().changes_after(0, 1).unwrap();
    assert_eq!(page.len(), 2, "stamps are told whole, also where that is more than was asked for");
}

#[test]
fn only_tags_that_differ_are_written() {
    let mut scratch = Scratch::new("differ");
    scratch.take(file(2).to_vec());
    for tags in [&[1, 2, 3][..], &[2, 4], &[], &[5]] {
        scratch.take(vec![tagged(2, tags)]);
        let vertex = scratch.store.readers().vertex(ino(2)).unwrap().unwrap();
        let rows: i64 =
            scratch.store.connection.query_row("SELECT count(*) FROM file_tag", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, tags.len() as i64, "{tags:?}");
        assert!(vertex.node.tags.is_empty(), "none of these tags is in the catalogue");
    }
}
