//! The graph: what of the truth it keeps, and what is asked of it.
//!
//! Never part of plain file work: a volume is whole without anybody who answers these. An answer is what the change log up
//! to [`GraphReply`]'s `seq` says, never part of a change.

pub mod answer;
pub mod request;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::attr::{Attr, FileKind, Timestamp};
use crate::ids::{Ino, TagId};
use crate::name::Name;
use crate::tag::Tag;

pub use answer::{GraphAnswer, GraphReply};
pub use request::{GraphCall, GraphRequest, Viewer};

/// What the graph keeps of an inode's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Bytes; of a directory its entries.
    pub size: u64,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of content or attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Grows with each change of the content.
    pub data_version: u64,
}

impl From<&Attr> for NodeFacts {
    fn from(attr: &Attr) -> Self {
        Self {
            ino: attr.ino,
            kind: attr.kind,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: attr.btime,
            data_version: attr.data_version,
        }
    }
}

/// A tag that people use, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagFacts {
    /// Its canonical spelling.
    pub name: Tag,
    /// Other names that mean it.
    pub aliases: Vec<Tag>,
    /// Who carries it carries these, too.
    pub implies: Vec<TagId>,
    /// It is this one now: inodes that carry it carry that one.
    pub merged_into: Option<TagId>,
    /// The user who made it: by name, or by tagging the first file with it.
    pub owner: u32,
}

/// A relation that people make by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HandRelation {
    /// Refers to it.
    LinksTo,
    /// Was made from it.
    DerivedFrom,
    /// Is an older or newer state of it.
    VersionOf,
    /// Has to do with it.
    RelatedTo,
}

/// An inode with all that the graph keeps of it: for building it anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Attributes.
    pub facts: NodeFacts,
    /// Directory and name of each link.
    pub names: Vec<(Ino, Name)>,
    /// Extended attributes that [`is_kept_xattr`] names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Tags that people set.
    pub tags: Vec<TagId>,
    /// What taggers are not to say of it.
    pub vetoes: Vec<Tag>,
    /// Relations from it that people made.
    pub related: Vec<(HandRelation, Ino)>,
}

/// A part of the catalogue: for building the graph anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Tags.
    pub tags: Vec<(TagId, TagFacts)>,
    /// Saved queries: name and expression. Only the first page carries them.
    pub saved: Vec<(String, String)>,
}

/// Does the graph keep the value of this extended attribute? Tags have events of their own.
#[must_use]
pub fn is_kept_xattr(name: &[u8]) -> bool {
    const KEPT: [&[u8]; 8] = [
        b"user.xdg.comment",
        b"user.xdg.origin.url",
        b"user.xdg.language",
        b"user.xdg.robots.index",
        b"user.baloo.rating",
        b"user.mime_type",
        b"user.charset",
        b"system.posix_acl_access",
    ];
    KEPT.contains(&name) || name.starts_with(b"user.dublincore.")
}
