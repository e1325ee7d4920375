//! Keys: what the system knows itself of a file, and those that people set.
//!
//! Never reads a value; `value` does. A [`Key::Other`] is folded, valid and none of the reserved ones.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::error::QueryError;
use super::value::{Kind, Value};
use crate::limits::TAG_BYTES_MAX;
use crate::tag::Tag;

/// Whose value is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Bytes of the content.
    Size,
    /// Last change of the content.
    Mtime,
    /// Last change of content or attributes.
    Ctime,
    /// Creation.
    Btime,
    /// When a picture or a recording was taken.
    Taken,
    /// Class of the content: `image`, `audio`, …; or `dir`, `symlink` and so on.
    Type,
    /// What is behind the last dot of the name.
    Ext,
    /// Media type, such as `image/png`.
    Mime,
    /// Language of the text or the program.
    Lang,
    /// User: number or name.
    Owner,
    /// Group: number or name.
    Group,
    /// Hard links.
    Nlink,
    /// Hash of the content.
    Hash,
    /// A key that people or taggers set.
    Other(OtherKey),
}

/// A key that is none of the reserved ones: folded, shaped as a tag without a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OtherKey(String);

impl OtherKey {
    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OtherKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match Key::parse(&text) {
            Ok(Key::Other(key)) if key.0 == text => Ok(key),
            Ok(_) | Err(_) => Err("not a key in its canonical spelling"),
        }
    }
}

impl From<OtherKey> for String {
    fn from(key: OtherKey) -> Self {
        key.0
    }
}

impl Key {
    /// Reads a key without `%XX`; case does not matter.
    ///
    /// # Errors
    /// `BadName` for what could not be a tag (or holds a `=`) or folds to more than [`TAG_BYTES_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let tag = Tag::parse(text).map_err(|error| QueryError::bad_name(0, format!("a key ({error})")))?;
        let folded = tag.fold();
        if folded.contains('=') || folded.len() > TAG_BYTES_MAX {
            return Err(QueryError::bad_name(0, format!("a key of at most {TAG_BYTES_MAX} bytes without \"=\"")));
        }
        Ok(match folded.as_str() {
            "size" => Self::Size,
            "mtime" => Self::Mtime,
            "ctime" => Self::Ctime,
            "btime" => Self::Btime,
            "taken" => Self::Taken,
            "type" => Self::Type,
            "ext" => Self::Ext,
            "mime" => Self::Mime,
            "lang" => Self::Lang,
            "owner" => Self::Owner,
            "group" => Self::Group,
            "nlink" => Self::Nlink,
            "hash" => Self::Hash,
            _ => Self::Other(OtherKey(folded)),
        })
    }

    /// Its folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Size => "size",
            Self::Mtime => "mtime",
            Self::Ctime => "ctime",
            Self::Btime => "btime",
            Self::Taken => "taken",
            Self::Type => "type",
            Self::Ext => "ext",
            Self::Mime => "mime",
            Self::Lang => "lang",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Nlink => "nlink",
            Self::Hash => "hash",
            Self::Other(key) => &key.0,
        }
    }

    /// What values it has.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Size => Kind::Size,
            Self::Mtime | Self::Ctime | Self::Btime | Self::Taken => Kind::Time,
            Self::Nlink => Kind::Count,
            Self::Owner | Self::Group => Kind::Account,
            Self::Type | Self::Ext | Self::Mime | Self::Lang | Self::Hash => Kind::Text,
            Self::Other(_) => Kind::Any,
        }
    }

    /// Is `value` one that this key can have, as a parser would give it?
    pub(super) fn check_value(&self, value: &Value) -> Result<(), QueryError> {
        if self.kind().fits(value) {
            Ok(())
        } else {
            Err(QueryError::syntax(0, format!("{} as the value of \"{}\"", self.kind().expected(), self.as_str())))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::query::key::Key;
    use crate::tag::RESERVED_KEYS;

    #[test]
    fn the_reserved_keys_are_those_that_tags_may_not_use() {
        for key in RESERVED_KEYS {
            let parsed = Key::parse(&key.to_uppercase()).unwrap();
            assert!(!matches!(parsed, Key::Other(_)), "{key}");
            assert_eq!(parsed.as_str(), key);
        }
        assert!(matches!(Key::parse("Rating"), Ok(Key::Other(key)) if key.as_str() == "rating"));
    }
}
