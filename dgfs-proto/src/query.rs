//! A question to the graph: AND of clauses, each an OR of tests or their negations (conjunctive normal form).
//!
//! Two spellings of it: components of a path below `.tags` ([`path`]) and the expressions of the command line ([`expr`]);
//! [`show`] writes both. `docs/TAGS.md` is the language. Never answers a question and knows no file. What the parsers return
//! passes [`Query::check`]; what a message brought is checked by its reader.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::Ino;
use crate::limits::{QUERY_ATOMS_MAX, QUERY_CLAUSES_MAX};
use crate::tag::Tag;

mod atom;
mod cnf;
pub mod date;
pub mod entry;
pub mod error;
pub mod expr;
pub mod glob;
pub mod key;
mod lexer;
pub mod path;
mod root;
pub mod show;
mod time;
pub mod value;

pub use date::DatePrefix;
pub use entry::{Entry, Relation};
pub use error::{QueryError, QueryErrorKind};
pub use glob::Glob;
pub use key::Key;
pub use value::{Number, Value};

/// What a reader of a query must know besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Of times that name no zone: seconds east of UTC, within 18 hours either way (more is taken as 18 hours). Cut to whole
    /// minutes, as a zone in a text has no seconds.
    pub utc_offset_secs: i32,
}

/// All of `clauses` hold. Without clauses: every file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Query {
    /// At most [`QUERY_CLAUSES_MAX`].
    pub clauses: Vec<Clause>,
}

/// One of `atoms` holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Clause {
    /// Never empty, at most [`QUERY_ATOMS_MAX`].
    pub atoms: Vec<Atom>,
}

/// A test, or that it fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Atom {
    /// Files that do not pass.
    pub negated: bool,
    /// What is asked of a file.
    pub test: Test,
}

/// What may be asked of one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Test {
    /// It has the tag or one below it.
    Tag(Tag),
    /// It has any value of the key.
    Has(Key),
    /// Its value of the key compares so; see [`Compare`] for times.
    Compare {
        /// Whose value.
        key: Key,
        /// How.
        op: Compare,
        /// With what; of the type that the key has.
        value: Value,
    },
    /// Its value is between the bounds, both included. Never both `None`; of one type; not the wrong way round.
    ///
    /// A date counts as its whole unit: `2024-01..2024-03` ends with March. Durations are ages: `2w..4w` is from two to four weeks
    /// old.
    Range {
        /// Whose value.
        key: Key,
        /// The least.
        low: Option<Value>,
        /// The greatest.
        high: Option<Value>,
    },
    /// Its text has all the words: 1 to [`crate::limits::QUERY_WORDS_MAX`], none with white space in it.
    Text(Vec<String>),
    /// Its base name (one of them) matches.
    Name(Glob),
    /// It stands in a relation to another file.
    Related {
        /// The other file.
        of: Entry,
        /// How it is related to that.
        relation: Relation,
    },
    /// Every file.
    All,
    /// No person has tagged it.
    Untagged,
    /// Changed lately; how lately is for the index to say.
    Recent,
    /// It passes the query saved under this name: 1 to 200 bytes in NFC, no `/`, no control character, not `.` or `..`.
    Saved(String),
    /// Taken (or, where that is not known, changed) on that date.
    Date(DatePrefix),
    /// It is this file.
    File(Ino),
}

/// How a value is compared.
///
/// A date is its whole unit: `=` is inside it, `<` before it, `<=` before its end, `>` from its end on, `>=` from its start on.
/// A duration compares the age: `=`, `<` and `<=` are younger (or as old), `>` and `>=` older, `!=` not within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Compare {
    /// `=`
    Equal,
    /// `!=`: has a value, and it is another.
    Differs,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Compare {
    /// Its sign.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Differs => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Asks for an order, which texts do not have.
    const fn is_order(self) -> bool {
        match self {
            Self::Equal | Self::Differs => false,
            Self::Less | Self::AtMost | Self::Greater | Self::AtLeast => true,
        }
    }
}

impl Clause {
    /// The tag that a file must be given to pass, where there is exactly one that a person may set: of `beach` and `rating=5`;
    /// none of alternatives, negations, ranges, reserved keys and what begins with `@`.
    #[must_use]
    pub fn settable_tag(&self) -> Option<Tag> {
        let [Atom { negated: false, test }] = self.atoms.as_slice() else { return None };
        match test {
            Test::Tag(tag) => Some(tag.clone()),
            Test::Compare { key: key @ Key::Other(_), op: Compare::Equal, value } => {
                Tag::parse(&alloc::format!("{}={}", key.as_str(), value.to_text())).ok()
            }
            Test::Has(_)
            | Test::Compare { .. }
            | Test::Range { .. }
            | Test::Text(_)
            | Test::Name(_)
            | Test::Related { .. }
            | Test::All
            | Test::Untagged
            | Test::Recent
            | Test::Saved(_)
            | Test::Date(_)
            | Test::File(_) => None,
        }
    }
}

impl From<Atom> for Clause {
    fn from(atom: Atom) -> Self {
        Self { atoms: alloc::vec![atom] }
    }
}

impl From<Test> for Atom {
    fn from(test: Test) -> Self {
        Self { negated: false, test }
    }
}

impl Query {
    /// Checks what the types cannot hold: bounds, values of their key's type. Whoever receives a query calls it first.
    ///
    /// # Errors
    /// The first rule broken; `at` is the number of the clause.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.clauses.len() > QUERY_CLAUSES_MAX {
            return Err(QueryError::too_many_clauses(QUERY_CLAUSES_MAX));
        }
        for (at, clause) in self.clauses.iter().enumerate() {
            if clause.atoms.is_empty() {
                return Err(QueryError::syntax(at, "at least one alternative"));
            }
            if clause.atoms.len() > QUERY_ATOMS_MAX {
                return Err(QueryError::too_many_atoms(at));
            }
            for atom in &clause.atoms {
                atom.test.check().map_err(|error| error.moved(at))?;
            }
        }
        Ok(())
    }
}

impl Test {
    fn check(&self) -> Result<(), QueryError> {
        match self {
            Self::Tag(_)
            | Self::Has(_)
            | Self::Name(_)
            | Self::Related { .. }
            | Self::All
            | Self::Untagged
            | Self::Recent
            | Self::Date(_)
            | Self::File(_) => Ok(()),
            Self::Compare { key, op, value } => {
                key.check_value(value)?;
                if op.is_order() { value.check_ordered() } else { Ok(()) }
            }
            Self::Range { key, low, high } => value::check_range(key, low.as_ref(), high.as_ref()),
            Self::Text(words) => value::check_words(words),
            Self::Saved(name) => entry::check_saved(name),
        }
    }
}

#[cfg(test)]
mod tests;
