//! How many changes of each kind, up to a seq: counted and stored together, so
//! that no event is ever counted twice or left out.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use dgfs_proto::ids::Seq;
use dgfs_proto::log::{Change, Event};
use dgfs_runtime::disk;

/// Counts up to `seq`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The last event counted.
    pub seq: u64,
    /// Inodes made.
    pub made: u64,
    /// Names added to inodes that had one.
    pub linked: u64,
    /// Names removed.
    pub unlinked: u64,
    /// Names moved or exchanged.
    pub renamed: u64,
    /// Attribute changes.
    pub attributes: u64,
    /// Content changes.
    pub data: u64,
    /// Extended attributes set or removed.
    pub xattrs: u64,
    /// Inodes freed.
    pub freed: u64,
}

impl Counts {
    /// Where to go on.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.seq)
    }

    /// Counts one event; one that was counted before changes nothing.
    pub fn add(&mut self, event: &Event) {
        if event.seq.0 <= self.seq {
            return;
        }
        self.seq = event.seq.0;
        match &event.change {
            Change::Made { .. } => self.made += 1,
            Change::Linked { .. } => self.linked += 1,
            Change::Unlinked { .. } => self.unlinked += 1,
            Change::Renamed { .. } => self.renamed += 1,
            Change::AttrSet { .. } => self.attributes += 1,
            Change::Data(_) => self.data += 1,
            Change::Xattr { .. }
            | Change::KeptXattr { .. }
            | Change::Tagged { .. }
            | Change::TagsChanged(_)
            | Change::Related { .. }
            | Change::Saved { .. } => self.xattrs += 1,
            Change::Freed { .. } => self.freed += 1,
        }
    }
}

/// Counts in a file.
#[derive(Debug)]
pub struct CountsFile {
    path: PathBuf,
}

impl CountsFile {
    /// The file in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("counts.toml") }
    }

    /// What was stored; nothing yet, or a damaged file, starts from zero: it can be counted again.
    #[must_use]
    pub fn read(&self) -> Counts {
        std::fs::read_to_string(&self.path).ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
    }

    /// Stores counts and seq at once.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn write(&self, counts: &Counts) -> io::Result<()> {
        let text = toml::to_string(counts).map_err(io::Error::other)?;
        disk::write_atomically(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::ids::Ino;

    #[test]
    fn an_event_delivered_twice_counts_once() {
        let event = Event {
            seq: Seq(4),
            at: Timestamp::default(),
            session: None,
            change: Change::Freed { ino: Ino::ROOT },
            nodes: Vec::new(),
            continues: false,
        };
        let mut counts = Counts::default();
        counts.add(&event);
        counts.add(&event);
        assert_eq!(counts, Counts { seq: 4, freed: 1, ..Counts::default() });
    }
}
