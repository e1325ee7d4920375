//! Tags: their spelling, and the comma list of `user.xdg.tags`.
//!
//! Never knows which tags exist, their aliases or who set them. A [`Tag`] is always valid and in its canonical spelling, also one
//! that came in a message.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::escape::{BadEscape, push_char, unescape};
use crate::limits::{TAG_BYTES_MAX, TAGS_PER_FILE_MAX};
use crate::spelling;
use crate::status::Status;

/// Keys that stand for what the system knows itself of a file; nobody sets them by hand.
pub const RESERVED_KEYS: [&str; 13] =
    ["size", "mtime", "ctime", "btime", "taken", "type", "ext", "mime", "lang", "owner", "group", "nlink", "hash"];
/// First segments that a component of a path reads as something else than a tag.
const PREFIXES: [&str; 3] = ["text:", "name:", "not:"];

/// A tag's canonical spelling: `segment(:segment)*`, or `key=value` (a tag with a value). NFC, 1 to 200 bytes.
///
/// Case is kept; two tags that differ in case only are one: compare [`Tag::fold`]. `Eq` and `Ord` compare the spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tag(String);

/// Why a text is not a tag, or a list not one of tags. Places are bytes from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TagError {
    /// No character at all.
    #[error("a tag needs at least one character")]
    Empty,
    /// More than [`TAG_BYTES_MAX`] bytes.
    #[error("a tag has at most {TAG_BYTES_MAX} bytes")]
    TooLong,
    /// `.` or `..` as a segment.
    #[error("\".\" and \"..\" are directories, not tags")]
    Dots,
    /// White space at an end of a segment, which lists would lose.
    #[error("neither a tag nor a part of it begins or ends with white space")]
    OuterSpace,
    /// A comma.
    #[error("at {at}: a tag has no \",\", which separates tags")]
    Comma {
        /// Where.
        at: usize,
    },
    /// A control character.
    #[error("at {at}: a tag has no control characters")]
    Control {
        /// Where.
        at: usize,
    },
    /// `::`, or a `:` at an end.
    #[error("at {at}: expected a name between \":\" and \":\" (or the end)")]
    EmptySegment {
        /// Where.
        at: usize,
    },
    /// Nothing, or what is no name, before the `=`.
    #[error("expected a key before the \"=\", such as in rating=5")]
    BadKey,
    /// Nothing behind the `=`.
    #[error("expected a value behind the \"=\", such as in rating=5")]
    NoValue,
    /// One of [`RESERVED_KEYS`].
    #[error("\"{key}\" says what the system itself knows of a file; expected another key")]
    ReservedKey {
        /// The key, folded.
        key: String,
    },
    /// A `%` without two digits.
    #[error("at {at}: expected two hexadecimal digits behind \"%\" (%25 stands for the sign itself)")]
    BadEscape {
        /// Where.
        at: usize,
    },
    /// Bytes that are no text.
    #[error("at {at}: expected UTF-8")]
    NotUtf8 {
        /// Where.
        at: usize,
    },
    /// More than [`TAGS_PER_FILE_MAX`].
    #[error("a file has at most {TAGS_PER_FILE_MAX} tags")]
    TooMany,
}

impl TagError {
    /// The refusal that a system call sees: `XattrTooBig` (E2BIG) for too many tags, `Invalid` for the rest.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::TooMany => Status::XattrTooBig,
            Self::Empty
            | Self::TooLong
            | Self::Dots
            | Self::OuterSpace
            | Self::Comma { .. }
            | Self::Control { .. }
            | Self::EmptySegment { .. }
            | Self::BadKey
            | Self::NoValue
            | Self::ReservedKey { .. }
            | Self::BadEscape { .. }
            | Self::NotUtf8 { .. } => Status::Invalid,
        }
    }
}

impl From<BadEscape> for TagError {
    fn from(bad: BadEscape) -> Self {
        Self::BadEscape { at: bad.at }
    }
}

impl Tag {
    /// Reads a tag as a person or a comma list writes it: no `%XX`, nothing trimmed; brought to NFC.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let name = spelling::nfc(text, TAG_BYTES_MAX).ok_or(TagError::TooLong)?;
        check(&name)?;
        Ok(Self(name))
    }

    /// Reads a tag from a component of a path: every `%XX` undone, then as [`Tag::parse`].
    ///
    /// # Errors
    /// The rule that `text` breaks; places are those of the text without `%XX`, but for `BadEscape`.
    pub fn from_component(text: &str) -> Result<Self, TagError> {
        let bytes = unescape(text)?;
        let text = core::str::from_utf8(&bytes).map_err(|error| TagError::NotUtf8 { at: error.valid_up_to() })?;
        Self::parse(text)
    }

    /// The component of a path that names this tag: `%XX` for what would be read as something else there.
    ///
    /// Up to three times as long as the tag: one that has many such characters may pass the bytes of a component and has then no
    /// path. The `=` of a tag with a value stays: as a query, such a component compares that key with that value.
    #[must_use]
    pub fn to_component(&self) -> String {
        name_component(self.as_str())
    }

    /// The spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of uniqueness: simple case folding of the NFC form, composed again.
    #[must_use]
    pub fn fold(&self) -> String {
        spelling::fold(&self.0)
    }

    /// Key and value of a tag that has them, parted at the first `=`.
    #[must_use]
    pub fn key_value(&self) -> Option<(&str, &str)> {
        self.0.split_once('=')
    }

    /// Is it `prefix` or below it? `place:cn:hefei` is within `Place:CN`, not within `place:c`. The `:` of a value parts nothing.
    #[must_use]
    pub fn is_within(&self, prefix: &Self) -> bool {
        let (own, prefix) = (self.fold(), prefix.fold());
        match own.strip_prefix(prefix.as_str()) {
            Some("") => true,
            Some(rest) => rest.starts_with(':') && !prefix.contains('='),
            None => false,
        }
    }

    /// The tags above it, the widest first: of `place:cn:hefei`, `place` and `place:cn`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let segments = self.key_value().map_or(self.as_str(), |(key, _)| key);
        segments.match_indices(':').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::parse(&text) {
            Ok(tag) if tag.0 == text => Ok(tag),
            Ok(_) | Err(_) => Err(serde::de::Error::custom("not a tag in its canonical spelling")),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The key of uniqueness of any text, tag or not: simple case folding, composed ([`Tag::fold`] for a tag).
#[must_use]
pub fn fold(text: &str) -> String {
    spelling::fold(text)
}

/// Reads the value of `user.xdg.tags`: a comma list. White space around items is dropped, so are empty items, and of tags that
/// differ in case only all but the first.
///
/// # Errors
/// The first item that is not a tag (places count from the item's start); `TooMany`; `NotUtf8`. Time and memory grow with the
/// length of `bytes`, which the caller bounds.
pub fn parse_csv(bytes: &[u8]) -> Result<Vec<Tag>, TagError> {
    let text = core::str::from_utf8(bytes).map_err(|error| TagError::NotUtf8 { at: error.valid_up_to() })?;
    let mut seen = BTreeSet::new();
    let mut tags = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let tag = Tag::parse(item)?;
        if !seen.insert(tag.fold()) {
            continue;
        }
        if tags.len() == TAGS_PER_FILE_MAX {
            return Err(TagError::TooMany);
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// The comma list of `tags`, as [`parse_csv`] reads it. Longer than Linux lets an attribute's value be (64 KiB) when there are
/// many long tags: whoever serves it says so.
#[must_use]
pub fn to_csv(tags: &[Tag]) -> Vec<u8> {
    let mut out = Vec::new();
    for tag in tags {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(tag.as_str().as_bytes());
    }
    out
}

fn check(name: &str) -> Result<(), TagError> {
    if name.is_empty() {
        return Err(TagError::Empty);
    }
    for (at, character) in name.char_indices() {
        if character == ',' {
            return Err(TagError::Comma { at });
        }
        if character.is_control() {
            return Err(TagError::Control { at });
        }
    }
    let Some((key, value)) = name.split_once('=') else { return check_segments(name) };
    check_key(key)?;
    let folded = spelling::fold(key);
    if RESERVED_KEYS.contains(&folded.as_str()) {
        return Err(TagError::ReservedKey { key: folded });
    }
    if value.is_empty() {
        return Err(TagError::NoValue);
    }
    if value.trim_end() == value { Ok(()) } else { Err(TagError::OuterSpace) }
}

/// Checks what stands before a `=`: segments as a tag has them.
fn check_key(key: &str) -> Result<(), TagError> {
    if key.is_empty() { Err(TagError::BadKey) } else { check_segments(key) }
}

fn check_segments(name: &str) -> Result<(), TagError> {
    let mut at = 0;
    for segment in name.split(':') {
        if segment.is_empty() {
            return Err(TagError::EmptySegment { at });
        }
        if matches!(segment, "." | "..") {
            return Err(TagError::Dots);
        }
        if segment.trim() != segment {
            return Err(TagError::OuterSpace);
        }
        at += segment.len() + 1;
    }
    Ok(())
}

/// The component of a path that a tag, or `key=value`, has as a tagger says it: its value may have what nobody can set by hand, such
/// as a comma. Whether the grammar reads it is for the caller to try.
#[must_use]
pub fn name_component(name: &str) -> String {
    match name.split_once('=') {
        None => key_component(name),
        Some((key, value)) => key_component(key) + "=" + &value_component(value),
    }
}

/// A key, or a tag without a value, in a component: `%XX` for what would be read as something else.
pub(crate) fn key_component(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let prefix = PREFIXES.iter().find(|prefix| key.starts_with(**prefix)).map(|prefix| prefix.len() - 1);
    for (at, character) in key.char_indices() {
        let escaped = match character {
            '%' | ',' | '/' | '=' | '<' | '>' => true,
            '-' | '@' | '?' | '.' => at == 0,
            ':' => prefix == Some(at),
            // Before an "=" it would make "differs from".
            '!' => at + 1 == key.len(),
            _ => character.is_control(),
        };
        push_char(&mut out, character, escaped);
    }
    out
}

/// A value behind a `=` in a component: `%XX` for what would end it or make it a range.
pub(crate) fn value_component(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut dots = false;
    for character in value.chars() {
        let escaped = matches!(character, '%' | ',' | '/') || character.is_control() || (dots && character == '.');
        push_char(&mut out, character, escaped);
        dots = character == '.' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests;
