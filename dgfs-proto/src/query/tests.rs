//! Tests of the query language: the whole grammar as tables, round trips of both spellings, normal forms against plain logic,
//! hostile texts and messages.

use alloc::vec::Vec;

use super::expr::parse_expr;
use super::{Atom, Clause, Compare, Context, Key, Number, Query, QueryError, Test, Value};
use crate::attr::Timestamp;
use crate::tag::Tag;

mod boolean;
mod hostile;
mod paths;
mod round_trip;
mod table;

/// UTC, so that dates in the tables are easy to check.
const UTC: Context = Context { utc_offset_secs: 0 };

fn read(text: &str) -> Result<Query, QueryError> {
    parse_expr(text, &UTC)
}

fn query(clauses: &[&[Atom]]) -> Query {
    Query { clauses: clauses.iter().map(|atoms| Clause { atoms: atoms.to_vec() }).collect() }
}

fn is(test: Test) -> Atom {
    test.into()
}

fn not(test: Test) -> Atom {
    Atom { negated: true, test }
}

fn tag(text: &str) -> Test {
    Test::Tag(Tag::parse(text).unwrap())
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn number(number: f64) -> Value {
    Value::Number(Number::new(number).unwrap())
}

fn compare(name: &str, op: Compare, value: Value) -> Test {
    Test::Compare { key: key(name), op, value }
}

fn equal(name: &str, value: Value) -> Test {
    compare(name, Compare::Equal, value)
}

fn range(name: &str, low: Option<Value>, high: Option<Value>) -> Test {
    Test::Range { key: key(name), low, high }
}

fn time(from: i64, until: i64) -> Value {
    let at = |secs: i64| Timestamp { secs, nanos: 0 };
    Value::Time { from: at(from), until: at(until) }
}

fn words(words: &[&str]) -> Test {
    Test::Text(words.iter().map(|word| (*word).into()).collect::<Vec<_>>())
}
