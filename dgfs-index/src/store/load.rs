//! Everything in the tables, as steps for an empty graph in memory.

use rusqlite::Row;

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::{NodeFacts, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::name::Name;

use crate::graph::{ACL_XATTR, Graph};
use crate::step::Step;
use crate::store::derive::derived;
use crate::store::{Store, StoreError};

/// The kind that [`super::write::kind_code`] wrote.
pub(super) fn kind(code: u8) -> Result<FileKind, StoreError> {
    Ok(match code {
        0 => FileKind::File,
        1 => FileKind::Directory,
        2 => FileKind::Symlink,
        3 => FileKind::Fifo,
        4 => FileKind::Socket,
        5 => FileKind::CharDevice,
        6 => FileKind::BlockDevice,
        _ => return Err(StoreError::Damaged("an inode of no kind")),
    })
}

/// A positive number as an inode.
pub(super) fn ino(number: i64) -> Result<Ino, StoreError> {
    Ino::new(number.cast_unsigned()).ok_or(StoreError::Damaged("an inode of number 0"))
}

/// The columns of a node in the order of [`NODE_COLUMNS`].
pub(super) fn node(row: &Row<'_>) -> Result<NodeFacts, StoreError> {
    let time = |secs, nanos| -> Result<Timestamp, StoreError> {
        Ok(Timestamp { secs: row.get(secs)?, nanos: row.get::<_, u32>(nanos)? })
    };
    Ok(NodeFacts {
        ino: ino(row.get(0)?)?,
        kind: kind(row.get(1)?)?,
        mode: row.get(2)?,
        uid: row.get(3)?,
        gid: row.get(4)?,
        nlink: row.get(5)?,
        size: row.get::<_, i64>(6)?.cast_unsigned(),
        mtime: time(7, 8)?,
        ctime: time(9, 10)?,
        btime: time(11, 12)?,
        data_version: row.get::<_, i64>(13)?.cast_unsigned(),
    })
}

/// What [`node`] reads.
pub(super) const NODE_COLUMNS: &str = "node.ino, kind, mode, uid, gid, nlink, size, mtime_secs, mtime_nanos, ctime_secs, \
                                       ctime_nanos, btime_secs, btime_nanos, data_version";

/// A tag's facts.
pub(super) fn tag(row: &Row<'_>) -> Result<(TagId, TagFacts), StoreError> {
    let id = TagId::new(row.get::<_, i64>(0)?.cast_unsigned()).ok_or(StoreError::Damaged("a tag of number 0"))?;
    let facts = row.get_ref(1)?.as_bytes().ok().and_then(|bytes| postcard::from_bytes(bytes).ok());
    Ok((id, facts.ok_or(StoreError::Damaged("a tag that cannot be read"))?))
}

/// A file name.
pub(super) fn name(row: &Row<'_>, column: usize) -> Result<Name, StoreError> {
    let bytes = row.get_ref(column)?.as_bytes().unwrap_or_default();
    Name::new(bytes).map_err(|_| StoreError::Damaged("a name that is none"))
}

impl Store {
    /// The graph that the tables hold.
    ///
    /// # Errors
    /// Those of the engine, and values without a meaning.
    pub fn load(&self) -> Result<Graph, StoreError> {
        let mut graph = Graph::default();
        self.each("SELECT id, facts FROM tag", |row| {
            let (id, facts) = tag(row)?;
            graph.apply(&Step::Tag(id, Some(facts)));
            Ok(())
        })?;
        self.each(&format!("SELECT {NODE_COLUMNS} FROM node"), |row| {
            graph.apply(&Step::Node(node(row)?));
            Ok(())
        })?;
        self.each("SELECT parent, name, ino FROM name", |row| {
            let (parent, ino) = (ino(row.get(0)?)?, ino(row.get(2)?)?);
            graph.apply(&Step::Name { parent, name: name(row, 1)?, ino });
            Ok(())
        })?;
        self.load_tagged(&mut graph)?;
        self.each("SELECT name, expression FROM saved", |row| {
            graph.apply(&Step::Saved(row.get(0)?, Some(row.get(1)?)));
            Ok(())
        })?;
        self.each("SELECT ino, name, value FROM xattr WHERE name = CAST('system.posix_acl_access' AS BLOB)", |row| {
            let value: Vec<u8> = row.get(2)?;
            graph.apply(&Step::Xattr { ino: ino(row.get(0)?)?, name: ACL_XATTR.to_vec(), value: Some(value) });
            Ok(())
        })?;
        self.each("SELECT ino FROM content UNION SELECT ino FROM xattr", |row| {
            let ino = ino(row.get(0)?)?;
            graph.apply(&Step::Derived(ino, derived(&self.connection, ino)?));
            Ok(())
        })?;
        graph.applied = self.applied;
        Ok(graph)
    }

    fn load_tagged(&self, graph: &mut Graph) -> Result<(), StoreError> {
        let mut of: Option<(Ino, Vec<TagId>)> = None;
        self.each("SELECT ino, tag FROM file_tag ORDER BY ino, tag", |row| {
            let carrier = ino(row.get(0)?)?;
            let Some(tag) = TagId::new(row.get::<_, i64>(1)?.cast_unsigned()) else { return Ok(()) };
            match &mut of {
                Some((ino, tags)) if *ino == carrier => tags.push(tag),
                _ => {
                    if let Some((ino, tags)) = of.replace((carrier, vec![tag])) {
                        graph.apply(&Step::Tagged(ino, tags));
                    }
                }
            }
            Ok(())
        })?;
        if let Some((ino, tags)) = of {
            graph.apply(&Step::Tagged(ino, tags));
        }
        Ok(())
    }

    fn each(&self, sql: &str, mut work: impl FnMut(&Row<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            work(row)?;
        }
        Ok(())
    }
}
