//! Why a text is not a query: where, and what was expected there.
//!
//! Never repeats the text itself, which may be long; [`QueryError::caret`] draws the part around the place.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::limits::{QUERY_ATOMS_MAX, QUERY_CLAUSES_MAX};
use crate::status::Status;
use crate::tag::TagError;

/// Characters that [`QueryError::caret`] shows on either side of the place.
const CARET_CONTEXT: usize = 36;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Bytes from the start of the text; for [`super::Query::check`] the number of the clause.
    pub at: usize,
    /// What should have been there, to follow the word "expected".
    pub expected: Cow<'static, str>,
    /// For the caller's reply.
    pub kind: QueryErrorKind,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryErrorKind {
    /// The text does not follow the grammar.
    Syntax,
    /// Too many clauses, alternatives, words or parentheses.
    TooBig,
    /// An order or a range is asked of what has none, or a number was expected.
    NotANumber,
    /// A tag, a key, a file's name or the name of a saved query breaks its rules.
    BadName,
    /// The component or the text is too long.
    TooLong,
}

impl QueryError {
    pub(super) fn new(kind: QueryErrorKind, at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { at, expected: expected.into(), kind }
    }

    pub(super) fn syntax(at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::new(QueryErrorKind::Syntax, at, expected)
    }

    pub(super) fn not_a_number(at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::new(QueryErrorKind::NotANumber, at, expected)
    }

    pub(super) fn bad_name(at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::new(QueryErrorKind::BadName, at, expected)
    }

    pub(super) fn bad_escape(at: usize) -> Self {
        Self::syntax(at, "two hexadecimal digits behind \"%\" (%25 stands for the sign itself)")
    }

    pub(super) fn bad_tag(at: usize, error: &TagError) -> Self {
        Self::bad_name(at, format!("a tag ({error})"))
    }

    pub(super) fn too_many_clauses(at: usize) -> Self {
        Self::new(QueryErrorKind::TooBig, at, format!("at most {QUERY_CLAUSES_MAX} clauses joined by AND"))
    }

    pub(super) fn too_many_atoms(at: usize) -> Self {
        Self::new(QueryErrorKind::TooBig, at, format!("at most {QUERY_ATOMS_MAX} alternatives joined by OR"))
    }

    /// The same refusal, of a text that begins `by` bytes further on.
    pub(super) fn moved(mut self, by: usize) -> Self {
        self.at += by;
        self
    }

    /// The refusal that a system call sees.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.kind {
            QueryErrorKind::Syntax | QueryErrorKind::NotANumber | QueryErrorKind::BadName => Status::Invalid,
            QueryErrorKind::TooBig => Status::XattrTooBig,
            QueryErrorKind::TooLong => Status::NameTooLong,
        }
    }

    /// Two lines for a terminal: the part of `text` around the place, and a caret under it.
    ///
    /// White space and control characters are shown as blanks; the caret counts characters, not the columns of wide ones.
    #[must_use]
    pub fn caret(&self, text: &str) -> String {
        let before = text.char_indices().take_while(|(at, _)| *at < self.at).count();
        let skipped = before.saturating_sub(CARET_CONTEXT);
        let shown = text.chars().skip(skipped).take(2 * CARET_CONTEXT);
        let plain = |character: char| if character.is_whitespace() || character.is_control() { ' ' } else { character };
        let (start, indent) = if skipped > 0 { ("…", 1) } else { ("", 0) };
        let mut line = String::from(start);
        line.extend(shown.map(plain));
        if text.chars().count() > skipped + 2 * CARET_CONTEXT {
            line.push('…');
        }
        line.push('\n');
        line.extend(core::iter::repeat_n(' ', indent + before - skipped));
        line.push('^');
        line
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: expected {}", self.at, self.expected)
    }
}

impl core::error::Error for QueryError {}
