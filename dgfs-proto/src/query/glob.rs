//! Globs on base names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that stands for itself.
//!
//! Never backtracks past the last `*`: a match takes at most (length of the name × length of the glob) steps, both bounded by 255.
//! Case does not matter (simple folding). Names are bytes: one that is not UTF-8 is a mixture of characters and single bytes, and
//! `?` takes either.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::CharIndices;

use serde::{Deserialize, Serialize};

use super::error::{QueryError, QueryErrorKind};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::spelling::fold_char;

/// A checked glob. Its text is kept as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    /// One character, folded.
    Is(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`: ranges, both ends included.
    In { negated: bool, ranges: Vec<(char, char)> },
}

/// A character of a name, or a byte that is part of none.
#[derive(Clone, Copy)]
enum Unit {
    Char(char),
    Byte,
}

impl Glob {
    /// Reads a glob, without `%XX`.
    ///
    /// # Errors
    /// `Syntax` for an empty one, a class without its end, a `\` at the end; `TooLong` past 255 bytes: no name matches those.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.is_empty() {
            return Err(QueryError::syntax(0, "a glob such as *.mp4"));
        }
        if text.len() > COMPONENT_BYTES_MAX {
            return Err(QueryError::new(QueryErrorKind::TooLong, 0, "a glob of at most 255 bytes"));
        }
        let mut parts = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            if character.is_control() {
                return Err(QueryError::syntax(at, "a glob without control characters"));
            }
            parts.push(match character {
                '*' => Part::Many,
                '?' => Part::One,
                '[' => class(at, &mut rest)?,
                '\\' => Part::Is(fold_char(escaped(at, &mut rest)?)),
                plain => Part::Is(fold_char(plain)),
            });
        }
        // Two stars match what one does.
        parts.dedup_by(|next, last| *next == Part::Many && *last == Part::Many);
        Ok(Self { text: text.into(), parts })
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does the whole of `name` match?
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut units = Vec::with_capacity(name.len());
        for chunk in name.utf8_chunks() {
            units.extend(chunk.valid().chars().map(Unit::Char));
            units.extend(chunk.invalid().iter().map(|_| Unit::Byte));
        }
        let (mut part, mut unit) = (0, 0);
        // The part behind the last star, and the first unit that the star has not taken yet.
        let mut star: Option<(usize, usize)> = None;
        while let Some(here) = units.get(unit) {
            match self.parts.get(part) {
                Some(Part::Many) => {
                    part += 1;
                    star = Some((part, unit));
                }
                Some(other) if other.takes(*here) => (part, unit) = (part + 1, unit + 1),
                Some(_) | None => {
                    let Some((behind, taken)) = star else { return false };
                    star = Some((behind, taken + 1));
                    (part, unit) = (behind, taken + 1);
                }
            }
        }
        self.parts.iter().skip(part).all(|rest| *rest == Part::Many)
    }
}

impl Part {
    fn takes(&self, unit: Unit) -> bool {
        match (self, unit) {
            (Self::Is(folded), Unit::Char(character)) => fold_char(character) == *folded,
            (Self::One | Self::Many, Unit::Char(_) | Unit::Byte) => true,
            (Self::In { negated, ranges }, Unit::Char(character)) => in_ranges(ranges, character) != *negated,
            (Self::In { negated, .. }, Unit::Byte) => *negated,
            (Self::Is(_), Unit::Byte) => false,
        }
    }
}

/// Is the character, folded or as a capital, in one of the ranges? So `[A-Z]` and `[a-z]` take the same letters.
fn in_ranges(ranges: &[(char, char)], character: char) -> bool {
    let mut upper = character.to_uppercase();
    let capital = if upper.len() == 1 { upper.next() } else { None };
    let cases = [character, fold_char(character), capital.unwrap_or(character)];
    cases.iter().any(|case| ranges.iter().any(|(low, high)| (low..=high).contains(&case)))
}

/// Reads what is behind a `[` at `open`. A `]` that comes first stands for itself, as POSIX has it.
fn class(open: usize, rest: &mut Peekable<CharIndices<'_>>) -> Result<Part, QueryError> {
    let unclosed = || QueryError::syntax(open, "a \"]\" for this \"[\" (\\[ stands for the sign itself)");
    let negated = rest.next_if(|(_, character)| *character == '!').is_some();
    let mut ranges = Vec::new();
    loop {
        let (at, character) = rest.next().ok_or_else(unclosed)?;
        let low = match character {
            ']' if !ranges.is_empty() => return Ok(Part::In { negated, ranges }),
            '\\' => escaped(at, rest)?,
            plain => plain,
        };
        let mut high = low;
        if let Some(dash) = rest.next_if(|(_, character)| *character == '-') {
            let (at, character) = rest.next().ok_or_else(unclosed)?;
            match character {
                // A "-" at the end stands for itself.
                ']' => {
                    ranges.extend([(low, low), ('-', '-')]);
                    return Ok(Part::In { negated, ranges });
                }
                '\\' => high = escaped(at, rest)?,
                plain => high = plain,
            }
            if high < low {
                return Err(QueryError::syntax(dash.0, "a range of characters that goes upwards, such as a-z"));
            }
        }
        ranges.push((low, high));
    }
}

fn escaped(at: usize, rest: &mut Peekable<CharIndices<'_>>) -> Result<char, QueryError> {
    let next = rest.next().map(|(_, character)| character);
    next.ok_or_else(|| QueryError::syntax(at, "a character behind \"\\\""))
}

impl TryFrom<String> for Glob {
    type Error = QueryError;

    fn try_from(text: String) -> Result<Self, QueryError> {
        Self::parse(&text)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.text
    }
}

#[cfg(test)]
mod tests;
