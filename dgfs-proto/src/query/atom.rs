//! One test as it stands between commas, in a component of a path as in a word of an expression.
//!
//! Never reads what begins with `@`; `root` does. Places in errors are bytes of the text that the [`Piece`] was cut from.

use alloc::string::String;

use super::error::QueryError;
use super::glob::Glob;
use super::key::Key;
use super::value::{Value, check_range, check_words};
use super::{Compare, Context, Test};
use crate::escape::unescape;
use crate::spelling;
use crate::tag::Tag;

/// What may stand here, for errors.
const BASE: &str = "a tag, key=value, text:words, name:glob or @…";

/// A part of a text and where it begins in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Piece<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The parts between the separators.
    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut at = self.at;
        self.text.split(separator).map(move |text| {
            let piece = Self { text, at };
            at += text.len() + separator.len_utf8();
            piece
        })
    }

    /// What is behind `prefix`, when it is there.
    pub(super) fn behind(self, prefix: &str) -> Option<Self> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Self { text, at: self.at + prefix.len() })
    }

    /// What is before and behind the `len` bytes at `at`.
    fn around(self, at: usize, len: usize) -> (Self, Self) {
        let before = self.text.get(..at).unwrap_or_default();
        let behind = self.text.get(at + len..).unwrap_or_default();
        (Self { text: before, at: self.at }, Self { text: behind, at: self.at + at + len })
    }

    /// Parts a leading `-` or `not:`.
    pub(super) fn negation(self) -> (bool, Self) {
        match self.behind("-").or_else(|| self.behind("not:")) {
            Some(base) => (true, base),
            None => (false, self),
        }
    }

    /// The text with every `%XX` undone.
    pub(super) fn unescaped(self) -> Result<String, QueryError> {
        let bytes = unescape(self.text).map_err(|bad| QueryError::bad_escape(self.at + bad.at))?;
        String::from_utf8(bytes).map_err(|_| QueryError::syntax(self.at, "UTF-8 behind the \"%\" signs"))
    }
}

/// Reads a test that does not begin with `@`.
pub(super) fn parse_base(piece: Piece<'_>, context: &Context) -> Result<Test, QueryError> {
    if let Some(words) = piece.behind("?").or_else(|| piece.behind("text:")) {
        return parse_words(words);
    }
    if let Some(glob) = piece.behind("name:") {
        let text = glob.unescaped()?;
        return Glob::parse(&text).map(Test::Name).map_err(|error| error.moved(glob.at));
    }
    if let Some((at, op)) = find_operator(piece.text) {
        let (key, value) = piece.around(at, op.sign().len());
        return parse_comparison(key, op, value, context);
    }
    match piece.text.chars().next() {
        None => Err(QueryError::syntax(piece.at, BASE)),
        Some('-') => Err(QueryError::syntax(piece.at, "one \"-\" only (%2D stands for the sign itself)")),
        Some('.') => Err(QueryError::bad_name(piece.at, "a tag that does not begin with \".\" (write %2E for it)")),
        Some('@') => Err(QueryError::syntax(piece.at, "what begins with \"@\" alone, not among alternatives")),
        Some(_) if piece.text.starts_with("not:") => {
            Err(QueryError::syntax(piece.at, "one \"not:\" only (not%3A stands for a tag's first part)"))
        }
        Some(_) => Ok(Test::Tag(parse_tag(piece)?)),
    }
}

/// Reads a tag from a component: what [`Tag::to_component`] wrote.
pub(super) fn parse_tag(piece: Piece<'_>) -> Result<Tag, QueryError> {
    let text = piece.unescaped()?;
    Tag::parse(&text).map_err(|error| QueryError::bad_tag(piece.at, &error))
}

/// The first operator: at the first `=`, `<` or `>`, one byte earlier for `!=`.
fn find_operator(text: &str) -> Option<(usize, Compare)> {
    let at = text.find(['=', '<', '>'])?;
    let (before, rest) = text.split_at_checked(at)?;
    Some(match rest.as_bytes() {
        [b'=', ..] if before.ends_with('!') => (at - 1, Compare::Differs),
        [b'<', b'=', ..] => (at, Compare::AtMost),
        [b'>', b'=', ..] => (at, Compare::AtLeast),
        [b'<', ..] => (at, Compare::Less),
        [b'>', ..] => (at, Compare::Greater),
        _ => (at, Compare::Equal),
    })
}

fn parse_comparison(key: Piece<'_>, op: Compare, value: Piece<'_>, context: &Context) -> Result<Test, QueryError> {
    if key.text.is_empty() {
        return Err(QueryError::bad_name(key.at, alloc::format!("a key before \"{}\"", op.sign())));
    }
    let key = Key::parse(&key.unescaped()?).map_err(|error| error.moved(key.at))?;
    if value.text.is_empty() {
        return match op {
            Compare::Equal => Ok(Test::Has(key)),
            Compare::Differs | Compare::Less | Compare::AtMost | Compare::Greater | Compare::AtLeast => {
                Err(QueryError::syntax(value.at, alloc::format!("a value behind \"{}\"", op.sign())))
            }
        };
    }
    let read =
        |piece: Piece<'_>| Value::parse(&key, &piece.unescaped()?, context).map_err(|error| error.moved(piece.at));
    let Some(dots) = value.text.find("..") else {
        let parsed = read(value)?;
        if op.is_order() {
            parsed.check_ordered().map_err(|error| error.moved(value.at))?;
        }
        return Ok(Test::Compare { key, op, value: parsed });
    };
    if op != Compare::Equal {
        return Err(QueryError::syntax(value.at + dots, "a range behind \"=\" only (%2E%2E stands for two dots)"));
    }
    let (low, high) = value.around(dots, "..".len());
    let bound = |piece: Piece<'_>| if piece.text.is_empty() { Ok(None) } else { read(piece).map(Some) };
    let (low, high) = (bound(low)?, bound(high)?);
    check_range(&key, low.as_ref(), high.as_ref()).map_err(|error| error.moved(value.at))?;
    Ok(Test::Range { key, low, high })
}

fn parse_words(piece: Piece<'_>) -> Result<Test, QueryError> {
    let text = piece.unescaped()?;
    let words = text.split_whitespace();
    // A word that is too long to be kept stays as it is, and the check below refuses it.
    let words: alloc::vec::Vec<String> =
        words.map(|word| spelling::nfc(word, word.len() * 3).unwrap_or_else(|| word.into())).collect();
    check_words(&words).map_err(|error| error.moved(piece.at))?;
    Ok(Test::Text(words))
}
