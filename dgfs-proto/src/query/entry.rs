//! Files that a query names, their short ids, relations between files, and the names of saved queries.
//!
//! Never looks a file up.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::error::QueryError;
use crate::escape::{push_char, push_escaped};
use crate::ids::Ino;
use crate::limits::TAG_BYTES_MAX;
use crate::name::Name;
use crate::spelling;

/// Crockford's Base32 in small letters: no i, l, o or u, so that an id survives being read aloud or copied by hand.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of a 64-bit number at most.
const ID_DIGITS_MAX: usize = 13;

/// A file that a query names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A name in the directory that holds `.tags`.
    Name(Name),
    /// A number, written as `~id`.
    Ino(Ino),
}

/// What a file is to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Relation {
    /// Has one of its tags.
    Tags,
    /// Looks or reads alike (computed).
    Similar,
    /// Shares rare tags or is joined by any other relation.
    Related,
    /// Has the same bytes (computed).
    SameContent,
    /// The other links to it.
    LinksTo,
    /// It links to the other.
    LinkedFrom,
    /// Was made from the other.
    Derived,
    /// The other was made from it.
    Sources,
    /// Is another version.
    Versions,
    /// Has an author in common.
    Authors,
}

impl Relation {
    /// All of them, as a directory lists them.
    pub const ALL: [Self; 10] = [
        Self::Tags,
        Self::Similar,
        Self::Related,
        Self::SameContent,
        Self::LinksTo,
        Self::LinkedFrom,
        Self::Derived,
        Self::Sources,
        Self::Versions,
        Self::Authors,
    ];

    /// Its name in a path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Similar => "similar",
            Self::Related => "related",
            Self::SameContent => "same-content",
            Self::LinksTo => "links-to",
            Self::LinkedFrom => "linked-from",
            Self::Derived => "derived",
            Self::Sources => "sources",
            Self::Versions => "versions",
            Self::Authors => "authors",
        }
    }

    /// The relation of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|relation| relation.as_str() == name)
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Entry {
    /// Reads an entry from bytes without `%XX`; `id` says that a `~` stood in front, and is not part of `bytes`.
    pub(super) fn read(bytes: &[u8], id: bool) -> Result<Self, QueryError> {
        if id {
            let text = core::str::from_utf8(bytes).unwrap_or_default();
            return parse_id(text).map(Self::Ino).ok_or_else(|| QueryError::bad_name(0, ID_EXPECTED));
        }
        let bad = || QueryError::bad_name(0, "the name of a file in this directory, or \"~\" and an id");
        Name::new(bytes).map(Self::Name).map_err(|_| bad())
    }

    /// The component of a path that names it: `~id`, or the name with `%XX` for `%`, for a leading `~`, and for bytes that are not
    /// text.
    #[must_use]
    pub fn to_component(&self) -> String {
        self.escaped(|_| false)
    }

    /// As [`Entry::to_component`], with `%XX` also for the characters that `also` picks.
    pub(super) fn escaped(&self, also: impl Fn(char) -> bool) -> String {
        let name = match self {
            Self::Ino(ino) => return format_id(*ino),
            Self::Name(name) => name,
        };
        let mut out = String::new();
        for chunk in name.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                let leading = character == '~' && out.is_empty();
                push_char(&mut out, character, leading || character == '%' || also(character));
            }
            chunk.invalid().iter().for_each(|byte| push_escaped(&mut out, *byte));
        }
        out
    }
}

pub(super) const ID_EXPECTED: &str = "\"~\" and a file's id, such as ~1k3";

/// `~id` of an inode.
fn format_id(ino: Ino) -> String {
    let mut out = String::from("~");
    out.push_str(&ino_id(ino));
    out
}

/// A file's number in Crockford's Base32, small letters, without leading zeros: what stands behind `~`.
///
/// Douglas Crockford, "Base 32" (<https://www.crockford.com/base32.html>), without its check digit.
#[must_use]
pub fn ino_id(ino: Ino) -> String {
    let mut digits = Vec::with_capacity(ID_DIGITS_MAX);
    let mut rest = ino.get();
    while rest > 0 {
        digits.push(DIGITS.get((rest % 32) as usize).map_or('0', |digit| char::from(*digit)));
        rest /= 32;
    }
    digits.into_iter().rev().collect()
}

/// The number that [`ino_id`] wrote. Capital letters count as small ones, `i` and `l` as 1, `o` as 0.
#[must_use]
pub fn parse_id(text: &str) -> Option<Ino> {
    if text.is_empty() || text.len() > ID_DIGITS_MAX {
        return None;
    }
    let mut raw = 0_u64;
    for character in text.bytes() {
        let plain = match character.to_ascii_lowercase() {
            b'i' | b'l' => b'1',
            b'o' => b'0',
            other => other,
        };
        let digit = DIGITS.iter().position(|digit| *digit == plain)? as u64;
        raw = raw.checked_mul(32)?.checked_add(digit)?;
    }
    Ino::new(raw)
}

/// Reads the name of a saved query, without `%XX`.
pub(super) fn saved_name(text: &str) -> Result<String, QueryError> {
    let name = spelling::nfc(text, TAG_BYTES_MAX).unwrap_or_default();
    check_saved(&name)?;
    Ok(name)
}

pub(super) fn check_saved(name: &str) -> Result<(), QueryError> {
    let plain = |character: char| character != '/' && !character.is_control();
    let good = !matches!(name, "" | "." | "..") && name.chars().all(plain) && name.len() <= TAG_BYTES_MAX;
    if good && spelling::is_nfc(name) {
        Ok(())
    } else {
        Err(QueryError::bad_name(0, "the name of a saved query: 1 to 200 bytes without \"/\" and control characters"))
    }
}
