//! Tags by name (stand-in until the grammar lands).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A tag's canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(String);

/// Why a text is no tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagError;

impl Tag {
    /// Checks a text.
    ///
    /// # Errors
    /// It is empty.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        if text.is_empty() || text.contains(char::is_control) { Err(TagError) } else { Ok(Self(text.into())) }
    }

    /// The spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of uniqueness.
    #[must_use]
    pub fn fold(&self) -> String {
        self.0.to_lowercase()
    }
}

/// Tags of a comma list.
///
/// # Errors
/// One is none.
pub fn parse_csv(bytes: &[u8]) -> Result<Vec<Tag>, TagError> {
    let text = core::str::from_utf8(bytes).map_err(|_| TagError)?;
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Tag::parse).collect()
}

/// The comma list of tags.
#[must_use]
pub fn to_csv(tags: &[Tag]) -> Vec<u8> {
    tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(",").into_bytes()
}
