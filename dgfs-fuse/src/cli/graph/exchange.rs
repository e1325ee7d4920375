//! Tags that come and go: files of `dgfs export`, databases of TMSU, the Finder's attributes.
//!
//! Never writes to what it reads. Always: what is read is a stream of [`Item`]s, what cannot be understood one of them, so that
//! nothing is dropped in silence.

mod bplist;
pub(crate) mod export;
pub(crate) mod import;
mod jsonl;
mod macos;
mod tmsu;
mod walk;

use std::path::PathBuf;

use crate::cli::Failure;

/// What is said of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileItem {
    /// From the directory that is exported or imported into.
    pub(crate) path: PathBuf,
    pub(crate) tags: Vec<String>,
    pub(crate) comment: Option<Vec<u8>>,
    /// As Baloo has it: 0 to 10.
    pub(crate) rating: Option<u8>,
    /// Name of the relation, and the other file.
    pub(crate) relations: Vec<(String, PathBuf)>,
}

/// What is said of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagItem {
    pub(crate) tag: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) implies: Vec<String>,
}

/// One thing that is exported or imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A file.
    File(FileItem),
    /// A tag of the catalogue.
    Tag(TagItem),
    /// A saved query: name and expression.
    Saved(String, String),
    /// What could not be understood, in a sentence.
    Problem(String),
}

/// Takes items one by one.
type Take<'a> = &'a mut dyn FnMut(Item) -> Result<(), Failure>;
