//! The query language's plan form (stand-in until the grammar lands).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::tag::Tag;

/// All of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// All of these.
    pub clauses: Vec<Clause>,
}

/// One of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// One of these.
    pub atoms: Vec<Atom>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Atom {
    /// It must fail.
    pub negated: bool,
    /// The test.
    pub test: Test,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// A tag or what is below it.
    Tag(Tag),
    /// Has any value.
    Has(Key),
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// Size.
    Size,
    /// Another.
    Other(String),
}
