//! Files that will probably be read next: where their bytes are is asked for together with one that is needed now.
//!
//! Never asks by itself, and never for what is open or known. Always: the more files of a directory were asked for one
//! after the other, the more come along.

use dgfs_proto::attr::{Attr, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::CONTENTS_MAX;
use dgfs_proto::meta;

use crate::cache::shards::Asked;
use crate::core::Core;
use crate::file::state::{Answered, content_of};

/// Names looked at for each file that may come along.
const LOOKED_AT: usize = 4;

impl Core {
    /// What of the same directory will be read after a file whose content has to be asked for.
    pub(crate) fn expected_next(&self, attr: &Attr) -> Vec<Ino> {
        if !self.may_cache() || attr.kind != FileKind::File {
            return Vec::new();
        }
        // The first one tells nothing; from the second on it is a habit.
        let most = match self.entries.content_missed(attr.parent) {
            0 | 1 => 0,
            2 => CONTENTS_MAX / 4,
            _ => CONTENTS_MAX,
        };
        if most == 0 {
            return Vec::new();
        }
        // Made after one another, mostly, and so read in this order, or in one that has little to do with any.
        let mut next = self.entries.behind(attr.parent, attr.ino, most * LOOKED_AT);
        next.retain(|ino| self.is_unread(*ino));
        next.truncate(most);
        next
    }

    fn is_unread(&self, ino: Ino) -> bool {
        let Some(attr) = self.attrs.get(ino) else { return false };
        attr.kind == FileKind::File
            && attr.size > 0
            && self.contents.get(&ino).is_none_or(|(version, _)| version != attr.data_version)
            && self.files.get(ino).is_none()
    }

    /// Files came along with an answer that may be kept.
    pub(crate) fn keep_contents(&self, attrs: Asked, contents: Asked, also: Vec<(Attr, meta::Content)>) {
        for (attr, content) in also {
            self.attrs.keep(attrs, &attr);
            let content = content_of(&attr, content, self.chunk_bytes(), Answered::Head);
            self.contents.keep(contents, attr.ino, (attr.data_version, content));
        }
    }
}
