//! What begins with `@`: tests of one component, and tests that go on in the components behind.
//!
//! Never reads a special (`@refine`, …); `path` does. The same steps read `@of/a/tags` as three components and as one word.

use alloc::string::String;
use alloc::vec::Vec;

use super::Test;
use super::atom::Piece;
use super::date::DatePrefix;
use super::entry::{Entry, ID_EXPECTED, Relation, parse_id, saved_name};
use super::error::QueryError;
use super::time::number;
use crate::escape::unescape;

const NAMES: &str = "@all, @untagged, @recent, @of, @saved, @date or @file";
const RELATIONS: &str =
    "tags, similar, related, same-content, links-to, linked-from, derived, sources, versions or authors";

/// A test that lacks its next component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partial {
    /// `@of`: a name in the directory, or `~id`.
    Of,
    /// `@of/entry`: the name of a relation.
    Relation(Entry),
    /// `@saved`: the name of a saved query.
    Saved,
    /// `@date`: a year.
    Date,
    /// `@file`: `~id`.
    File,
}

/// What a component led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Done(Test),
    Partial(Partial),
}

/// Reads a first component, such as `@of`.
pub(super) fn begin(piece: Piece<'_>) -> Result<Reading, QueryError> {
    Ok(match piece.text {
        "@all" => Reading::Done(Test::All),
        "@untagged" => Reading::Done(Test::Untagged),
        "@recent" => Reading::Done(Test::Recent),
        "@of" => Reading::Partial(Partial::Of),
        "@saved" => Reading::Partial(Partial::Saved),
        "@date" => Reading::Partial(Partial::Date),
        "@file" => Reading::Partial(Partial::File),
        _ => return Err(QueryError::syntax(piece.at, NAMES)),
    })
}

impl Partial {
    /// Reads the component behind.
    pub(super) fn advance(self, piece: Piece<'_>) -> Result<Reading, QueryError> {
        match self {
            Self::Of => entry(piece).map(|entry| Reading::Partial(Self::Relation(entry))),
            Self::Relation(of) => {
                let relation = Relation::parse(piece.text);
                let relation = relation.ok_or_else(|| QueryError::syntax(piece.at, RELATIONS))?;
                Ok(Reading::Done(Test::Related { of, relation }))
            }
            Self::Saved => {
                let name = saved_name(&piece.unescaped()?).map_err(|error| error.moved(piece.at))?;
                Ok(Reading::Done(Test::Saved(name)))
            }
            Self::Date => {
                let year = number(piece.text, 4).and_then(|year| DatePrefix::new(year, None, None));
                let year = year.ok_or_else(|| QueryError::syntax(piece.at, "a year of four digits, such as 2024"))?;
                Ok(Reading::Done(Test::Date(year)))
            }
            Self::File => {
                let ino = piece.text.strip_prefix('~').and_then(parse_id);
                let ino = ino.ok_or_else(|| QueryError::bad_name(piece.at, ID_EXPECTED))?;
                Ok(Reading::Done(Test::File(ino)))
            }
        }
    }

    /// What is expected next.
    pub(super) const fn expected(&self) -> &'static str {
        match self {
            Self::Of => "\"/\" and a file's name or ~id",
            Self::Relation(_) => "\"/\" and a relation, such as tags or similar",
            Self::Saved => "\"/\" and the name of a saved query",
            Self::Date => "\"/\" and a year, such as 2024",
            Self::File => "\"/\" and a file's ~id",
        }
    }
}

fn entry(piece: Piece<'_>) -> Result<Entry, QueryError> {
    let (text, id) = match piece.text.strip_prefix('~') {
        Some(text) => (text, true),
        None => (piece.text, false),
    };
    let bytes: Vec<u8> = unescape(text).map_err(|bad| QueryError::bad_escape(piece.at + usize::from(id) + bad.at))?;
    Entry::read(&bytes, id).map_err(|error| error.moved(piece.at))
}

/// Reads a month or a day behind a date that can take one. `None` when the component is not two digits, and so no part of the
/// date.
pub(super) fn narrow(date: DatePrefix, piece: Piece<'_>) -> Option<Result<DatePrefix, QueryError>> {
    if date.day().is_some() {
        return None;
    }
    let next = number(piece.text, 2)? as u8;
    let expected = if date.month().is_none() { "a month from 01 to 12" } else { "a day of that month" };
    Some(date.narrowed(next).ok_or_else(|| QueryError::syntax(piece.at, expected)))
}

/// Reads a whole test from one word, such as `@of/a/tags`.
pub(super) fn parse_word(piece: Piece<'_>) -> Result<Test, QueryError> {
    let end = piece.at + piece.text.len();
    let mut components = piece.split('/').peekable();
    let first = components.next().unwrap_or(piece);
    let mut reading = begin(first)?;
    let mut test = loop {
        match reading {
            Reading::Done(test) => break test,
            Reading::Partial(partial) => {
                let Some(next) = components.next() else { return Err(QueryError::syntax(end, partial.expected())) };
                reading = partial.advance(next)?;
            }
        }
    };
    while let (Test::Date(date), Some(next)) = (&test, components.peek()) {
        let Some(narrowed) = narrow(*date, *next) else { break };
        test = Test::Date(narrowed?);
        components.next();
    }
    match components.next() {
        None => Ok(test),
        Some(more) => Err(QueryError::syntax(more.at.saturating_sub(1), "nothing behind this (AND is a space)")),
    }
}

/// The components of a test that begins with `@`; `None` of another test.
pub(super) fn components(test: &Test, entry: impl Fn(&Entry) -> String) -> Option<Vec<String>> {
    let list = |parts: &[&str]| Some(parts.iter().map(|part| String::from(*part)).collect());
    match test {
        Test::All => list(&["@all"]),
        Test::Untagged => list(&["@untagged"]),
        Test::Recent => list(&["@recent"]),
        Test::Related { of, relation } => list(&["@of", &entry(of), relation.as_str()]),
        Test::Date(date) => Some(core::iter::once(String::from("@date")).chain(date.components()).collect()),
        Test::File(ino) => list(&["@file", &Entry::Ino(*ino).to_component()]),
        // The caller writes the name: the two spellings escape differently.
        Test::Saved(_) => list(&["@saved"]),
        Test::Tag(_) | Test::Has(_) | Test::Compare { .. } | Test::Range { .. } | Test::Text(_) | Test::Name(_) => None,
    }
}
