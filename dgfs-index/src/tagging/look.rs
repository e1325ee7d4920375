//! One look at a file: what is known of it, and whether there is anything to look for.
//!
//! Never reads contents.

use std::time::Duration;

use dgfs_client::reader::Snapshot;
use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_taggers::{Job, said_by_name};

use crate::store::{Read, Readers, StoreError};

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
    /// Digest of what besides its bytes may take part in what is found.
    pub(super) hints: [u8; 8],
    /// What was read of the data that it has now, as far as the index knows.
    pub(super) read: Option<Read>,
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
        let hint = |wanted: &[u8]| {
            let found = vertex.node.xattrs.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        let (mime, charset) = (hint(b"user.mime_type"), hint(b"user.charset"));
        let hints = digest(&name, mime.as_deref(), charset.as_deref());
        let read = examination.read.filter(|read| read.data_version == facts.data_version);
        let is_current = read.is_some_and(|read| read.hints_seen == hints);
        let has = |(tagger, version): &(String, u32)| {
            examination.findings.iter().any(|finding| finding.tagger == *tagger && finding.version == *version)
        };
        if is_current && wanted.iter().all(has) && !forced {
            return Ok(None);
        }
        Ok(Some(Self { ino, name, mime, charset, hints, read, forced }))
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

/// Eight bytes of BLAKE3: two of one content that are taken for each other show each other's kind, no more.
fn digest(name: &str, mime: Option<&str>, charset: Option<&str>) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("DGFS: what takes part in what is found in a content");
    for part in [said_by_name(name).as_deref(), mime, charset] {
        let part = part.unwrap_or_default();
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut digest = [0; 8];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn names_that_say_the_same_of_a_kind_share_what_is_found() {
        assert_eq!(digest("a.jpg", None, None), digest("other.JPG", None, None));
        assert_eq!(digest("a", None, None), digest("b.unheard-of", None, None));
        assert_ne!(digest("a.md", None, None), digest("a.txt", None, None));
        assert_ne!(digest("a", Some("x"), None), digest("a", None, Some("x")));
        assert_ne!(digest("a.md", None, None), digest("a.md", Some("text/plain"), None));
    }
}
