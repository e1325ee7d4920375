//! One look at a file: what is known of it, and whether there is anything to look for.
//!
//! Never reads contents.

use std::time::Duration;

use dgfs_client::reader::Snapshot;
use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_taggers::Job;

use crate::store::{Readers, StoreError};

/// Bytes from which a kind is told. A file that is no longer is read as a whole.
pub(super) const KIND_BYTES_MAX: usize = 8 << 10;
/// How long reading one file may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// What kind of file it is.
    Kind,
    /// All that taggers say.
    Content,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) ino: Ino,
    /// Its base name, as text.
    pub(super) name: String,
    pub(super) mime: Option<String>,
    pub(super) charset: Option<String>,
    /// Whatever is known.
    pub(super) forced: bool,
}

impl Look {
    /// A look at `ino` for the `wanted` taggers (and their versions); none where there is nothing to look for.
    pub(super) fn of(
        readers: &Readers,
        ino: Ino,
        (wanted, forced): (&[(String, u32)], bool),
    ) -> Result<Option<Self>, StoreError> {
        let Some(vertex) = readers.vertex(ino)? else { return Ok(None) };
        let facts = &vertex.node.facts;
        let Some((_, name)) = vertex.node.names.first() else { return Ok(None) };
        if facts.kind != FileKind::File || vertex.derived.unindexed {
            return Ok(None);
        }
        let examination = readers.examination(ino)?;
        let is_current = examination.read.is_some_and(|(version, _)| version == facts.data_version);
        let has = |(tagger, version): &(String, u32)| {
            examination.findings.iter().any(|finding| finding.tagger == *tagger && finding.version == *version)
        };
        if is_current && wanted.iter().all(has) && !forced {
            return Ok(None);
        }
        let hint = |wanted: &[u8]| {
            let found = vertex.node.xattrs.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        Ok(Some(Self {
            ino,
            name: String::from_utf8_lossy(name.as_bytes()).into_owned(),
            mime: hint(b"user.mime_type"),
            charset: hint(b"user.charset"),
            forced,
        }))
    }

    /// The job of it.
    pub(super) fn job<'a>(&'a self, snapshot: &'a Snapshot) -> Job<'a> {
        Job {
            name: &self.name,
            size: snapshot.attr.size,
            bytes: &snapshot.bytes,
            mime_hint: self.mime.as_deref(),
            charset_hint: self.charset.as_deref(),
        }
    }
}
