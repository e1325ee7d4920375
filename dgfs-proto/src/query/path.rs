//! The path language: one component after the other, as the directories below `.tags` are looked up.
//!
//! Never knows which tags exist. Components are joined by AND, alternatives in one by `,`; `-` or `not:` negates. A component is
//! text without `/`; [`component_text`] makes text of a name that is not UTF-8.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::atom::{Piece, parse_base, parse_tag};
use super::error::{QueryError, QueryErrorKind};
use super::root::{self, Reading};
use super::{Atom, Clause, Context, Query, Test};
use crate::escape::push_escaped;
use crate::limits::{COMPONENT_BYTES_MAX, QUERY_ATOMS_MAX, QUERY_CLAUSES_MAX};
use crate::tag::Tag;

pub use super::root::Partial;

/// What one component is by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// A clause; `@all`, `@untagged` and `@recent` are clauses, too.
    Clause(Clause),
    /// A view of the query before it.
    Special(Special),
    /// The beginning of a test that goes on in the components behind.
    Partial {
        /// Files that do not pass.
        negated: bool,
        /// What must follow.
        partial: Partial,
    },
}

/// Views of a query; only at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `@refine`: a directory of the tags that narrow the query further.
    Refine,
    /// `@counts`: a text of those with their counts.
    Counts,
    /// `@explain`: a text of how the query is answered.
    Explain,
}

impl Special {
    /// All of them, as a directory lists them.
    pub const ALL: [Self; 3] = [Self::Refine, Self::Counts, Self::Explain];

    /// Its name in a path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refine => "@refine",
            Self::Counts => "@counts",
            Self::Explain => "@explain",
        }
    }
}

/// Where programs ask: a file that only `.tags` itself has, and that is never listed.
pub const ASK: &str = "@ask";

/// Is it the name of a view, or of the way to ask? A file that is called so is shown with its id: `@counts~1k`.
#[must_use]
pub fn is_view_name(name: &[u8]) -> bool {
    Special::ALL.into_iter().map(Special::as_str).chain([ASK]).any(|view| view.as_bytes() == name)
}

/// Reads one component by itself.
///
/// # Errors
/// Where and what was expected; `TooLong` past 255 bytes, `TooBig` past 64 alternatives.
pub fn parse_component(text: &str, context: &Context) -> Result<Component, QueryError> {
    check_length(text)?;
    let piece = Piece::new(text);
    if let Some(special) = Special::ALL.into_iter().find(|special| special.as_str() == text) {
        return Ok(Component::Special(special));
    }
    let (negated, base) = piece.negation();
    if base.text.starts_with('@') {
        if let Some(comma) = base.text.find(',') {
            return Err(QueryError::syntax(base.at + comma, "the end: what begins with \"@\" stands alone"));
        }
        return Ok(match root::begin(base)? {
            Reading::Done(test) => Component::Clause(Atom { negated, test }.into()),
            Reading::Partial(partial) => Component::Partial { negated, partial },
        });
    }
    let mut atoms = Vec::new();
    for alternative in piece.split(',') {
        if atoms.len() == QUERY_ATOMS_MAX {
            return Err(QueryError::too_many_atoms(alternative.at));
        }
        let (negated, base) = alternative.negation();
        atoms.push(Atom { negated, test: parse_base(base, context)? });
    }
    Ok(Component::Clause(Clause { atoms }))
}

fn check_length(text: &str) -> Result<(), QueryError> {
    if text.len() > COMPONENT_BYTES_MAX {
        return Err(QueryError::new(QueryErrorKind::TooLong, COMPONENT_BYTES_MAX, "a component of at most 255 bytes"));
    }
    match text.find('/') {
        Some(at) => Err(QueryError::syntax(at, "a component without \"/\" (%2F stands for it)")),
        None => Ok(()),
    }
}

/// A name from the kernel as the text of a component: bytes that are not UTF-8 become `%XX`.
#[must_use]
pub fn component_text(name: &[u8]) -> Cow<'_, str> {
    match core::str::from_utf8(name) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::new();
            for chunk in name.utf8_chunks() {
                text.push_str(chunk.valid());
                chunk.invalid().iter().for_each(|byte| push_escaped(&mut text, *byte));
            }
            Cow::Owned(text)
        }
    }
}

/// What a path is after a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A query: [`PathParser::query`] has it. A year or a month of `@date` is one, too, though its next component may narrow it.
    Query,
    /// A view of that query.
    Special(Special),
    /// An entry of `@refine`: leads to the query with one more clause.
    Refinement(Tag),
    /// A test that lacks its next component.
    Partial(Partial),
}

/// Reads a path component by component. A copy for each directory: pushing to it is looking up in that directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParser {
    context: Context,
    query: Query,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Query,
    Partial { negated: bool, partial: Partial },
    Refine,
    End,
}

impl PathParser {
    /// At `.tags` itself: the query that every file passes.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self { context, query: Query { clauses: Vec::new() }, state: State::Query }
    }

    /// The query that the complete components make.
    #[must_use]
    pub const fn query(&self) -> &Query {
        &self.query
    }

    /// The same, given away.
    #[must_use]
    pub fn into_query(self) -> Query {
        self.query
    }

    /// Goes one component down and says what the path is there.
    ///
    /// # Errors
    /// As [`parse_component`], with places inside this component; `TooBig` past 32 clauses. The path stays where it was.
    pub fn push(&mut self, component: &str) -> Result<Step, QueryError> {
        check_length(component)?;
        let piece = Piece::new(component);
        match &self.state {
            State::Query => self.push_to_query(piece),
            State::Partial { negated, partial } => {
                let (negated, partial) = (*negated, partial.clone());
                let reading = partial.advance(piece)?;
                self.take(negated, reading)
            }
            State::Refine => {
                let tag = parse_tag(piece)?;
                self.state = State::End;
                Ok(Step::Refinement(tag))
            }
            State::End => Err(QueryError::syntax(0, "nothing below this entry")),
        }
    }

    fn push_to_query(&mut self, piece: Piece<'_>) -> Result<Step, QueryError> {
        if let Some(date) = self.date()
            && let Some(narrowed) = root::narrow(*date, piece)
        {
            *date = narrowed?;
            return Ok(Step::Query);
        }
        match parse_component(piece.text, &self.context)? {
            Component::Clause(clause) => self.add(clause),
            Component::Partial { negated, partial } => self.take(negated, Reading::Partial(partial)),
            Component::Special(special) => {
                self.state = match special {
                    Special::Refine => State::Refine,
                    Special::Counts | Special::Explain => State::End,
                };
                Ok(Step::Special(special))
            }
        }
    }

    /// The date that the last component belongs to, when it was one.
    fn date(&mut self) -> Option<&mut super::DatePrefix> {
        match self.query.clauses.last_mut()?.atoms.as_mut_slice() {
            [Atom { test: Test::Date(date), .. }] => Some(date),
            _ => None,
        }
    }

    fn take(&mut self, negated: bool, reading: Reading) -> Result<Step, QueryError> {
        match reading {
            Reading::Done(test) => self.add(Atom { negated, test }.into()),
            Reading::Partial(partial) => {
                self.state = State::Partial { negated, partial: partial.clone() };
                Ok(Step::Partial(partial))
            }
        }
    }

    fn add(&mut self, clause: Clause) -> Result<Step, QueryError> {
        if self.query.clauses.len() == QUERY_CLAUSES_MAX {
            return Err(QueryError::too_many_clauses(0));
        }
        self.query.clauses.push(clause);
        self.state = State::Query;
        Ok(Step::Query)
    }
}

/// Reads a whole path: components between `/`, empty ones left out (as the kernel does), a query at its end. The text of a saved
/// query, such as `a/b,c/-d`.
///
/// # Errors
/// As [`PathParser::push`], with places in `text`; `Syntax` when the path ends in a special or in the middle of a test.
pub fn parse_path(text: &str, context: &Context) -> Result<Query, QueryError> {
    let mut parser = PathParser::new(*context);
    for piece in Piece::new(text).split('/').filter(|piece| !piece.text.is_empty()) {
        match parser.push(piece.text).map_err(|error| error.moved(piece.at))? {
            Step::Query | Step::Partial(_) => {}
            Step::Special(_) | Step::Refinement(_) => {
                return Err(QueryError::syntax(piece.at, "a query, not a view of one"));
            }
        }
    }
    match &parser.state {
        State::Partial { partial, .. } => Err(QueryError::syntax(text.len(), partial.expected())),
        State::Query | State::Refine | State::End => Ok(parser.query),
    }
}
