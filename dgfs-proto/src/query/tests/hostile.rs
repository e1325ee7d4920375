//! Bounds, worst cases, and bytes that nobody meant.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{UTC, compare, equal, is, query, range, read, tag, text, time, words};
use crate::codec::{decode, encode};
use crate::limits::EXPRESSION_BYTES_MAX;
use crate::query::path::{PathParser, component_text, parse_path};
use crate::query::{Clause, Compare, Query, QueryErrorKind, Test, Value};

fn kind(text: &str) -> QueryErrorKind {
    read(text).unwrap_err().kind
}

#[test]
fn bounds_are_met_exactly() {
    let join = |count: usize, by: &str| (0..count).map(|at| format!("t{at}")).collect::<Vec<_>>().join(by);
    assert_eq!(read(&join(32, " ")).unwrap().clauses.len(), 32);
    assert_eq!(kind(&join(33, " ")), QueryErrorKind::TooBig);
    assert_eq!(read(&join(64, ",")).unwrap().clauses[0].atoms.len(), 64);
    assert_eq!(kind(&join(65, " or ")), QueryErrorKind::TooBig);
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    assert!(read(&nested(64)).is_ok());
    assert_eq!(read(&nested(65)).unwrap_err().to_string(), "at 64: expected at most 64 parentheses inside each other");
    assert!(read(&format!("{}a", " ".repeat(EXPRESSION_BYTES_MAX - 1))).is_ok());
    assert_eq!(kind(&" ".repeat(EXPRESSION_BYTES_MAX + 1)), QueryErrorKind::TooLong);
}

#[test]
fn what_would_grow_exponentially_is_refused_as_soon_as_it_does() {
    // (a0 b0) or (a1 b1) or … has 2^n clauses; five of them are a query's bound.
    let pairs = |count: usize| (0..count).map(|at| format!("(a{at} b{at})")).collect::<Vec<_>>().join(" or ");
    assert_eq!(read(&pairs(5)).unwrap().clauses.len(), 32);
    assert_eq!(kind(&pairs(6)), QueryErrorKind::TooBig);
    assert_eq!(kind(&pairs(3000)), QueryErrorKind::TooBig);
    assert_eq!(kind(&format!("-({})", pairs(3000).replace(" or ", " ").replace("b", "or b"))), QueryErrorKind::TooBig);
    // Work that leads nowhere: the same 32 clauses again and again.
    let again = format!("({}){}", pairs(5), " or (a0 b0)".repeat(5000));
    let error = read(&again).unwrap_err();
    assert!(error.expected.starts_with("a simpler expression"), "{error}");
    assert!(read(&("not ".repeat(10_000) + "a")).is_ok());
    assert!(read(&("!".repeat(60_000) + "a")).is_ok());
    assert_eq!(kind(&"(".repeat(60_000)), QueryErrorKind::TooBig);
    assert_eq!(kind(&("@of/".repeat(16_000))), QueryErrorKind::Syntax);
    assert_eq!(kind(&("\u{301}".repeat(30_000))), QueryErrorKind::BadName);
    assert_eq!(kind(&(String::from("?") + &"\u{301}\u{323}".repeat(15_000))), QueryErrorKind::TooLong);
}

#[test]
fn a_message_s_query_is_checked() {
    let clause = |test: Test| query(&[&[is(test)]]);
    let untyped = |value: Value| clause(Test::Compare { key: super::key("size"), op: Compare::Equal, value });
    for (bad, reason) in [
        (Query { clauses: alloc::vec![Clause { atoms: Vec::new() }] }, "at least one alternative"),
        (
            Query { clauses: alloc::vec![Clause { atoms: alloc::vec![is(Test::All); 65] }] },
            "at most 64 alternatives joined by OR",
        ),
        (Query { clauses: alloc::vec![is(Test::All).into(); 33] }, "at most 32 clauses joined by AND"),
        (untyped(text("a")), "a size such as 4096, 10M or 1.5GiB as the value of \"size\""),
        (untyped(Value::Within(1)), "a size such as 4096, 10M or 1.5GiB as the value of \"size\""),
        (
            clause(equal("rating", text("5"))),
            "a number, or a text of 1 to 200 bytes without control characters as the value of \"rating\"",
        ),
        (
            clause(equal("rating", text("e\u{301}"))),
            "a number, or a text of 1 to 200 bytes without control characters as the value of \"rating\"",
        ),
        (clause(equal("nlink", super::number(0.5))), "a whole number such as 2 as the value of \"nlink\""),
        (
            clause(equal("mtime", time(0, 2))),
            "a date such as 2024, 2024-03 or 2024-03-09T18:30, or an age such as 7d, 12h or 30m as the value of \"mtime\"",
        ),
        (clause(compare("ext", Compare::Less, text("a"))), "a number here: texts have no order"),
        (clause(range("size", None, None)), "a bound before or behind \"..\""),
        (
            clause(range("size", Some(Value::Size(2)), Some(Value::Size(1)))),
            "the lower bound of a range before the upper one",
        ),
        (clause(words(&[])), "at least one word to search for"),
        (clause(words(&["a b"])), "words without control characters"),
        (
            clause(Test::Saved("a/b".into())),
            "the name of a saved query: 1 to 200 bytes without \"/\" and control characters",
        ),
    ] {
        assert_eq!(bad.check().unwrap_err().expected, reason, "{bad:?}");
    }
    let mut second = clause(tag("a"));
    second.clauses.push(Clause { atoms: Vec::new() });
    assert_eq!(second.check().unwrap_err().at, 1);
    // Types that check themselves: a key with a capital, a date that is none, a number that is none.
    assert!(decode::<super::super::key::OtherKey>(&encode(&"Rating".to_string()).unwrap()).is_err());
    assert!(decode::<super::super::key::OtherKey>(&encode(&"size".to_string()).unwrap()).is_err());
    assert!(decode::<super::super::DatePrefix>(&encode(&(2023_u16, Some(2_u8), Some(29_u8))).unwrap()).is_err());
    assert!(decode::<super::super::Number>(&encode(&f64::NAN).unwrap()).is_err());
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_refused_inside_it(text in any::<String>()) {
        check_text(&text)?;
    }

    #[test]
    fn any_text_of_the_grammar_s_signs_is_a_query_or_refused_inside_it(
        parts in proptest::collection::vec(
            proptest::sample::select(&[
                "a", "b", "é", "照", " ", ",", "-", "not:", "not ", "and ", " or ", "(", ")", "\"", "'", "\\", "%", "%41", "%FF",
                "/", "@of", "@date", "@saved", "2024", "-03", "~1", "tags", "=", "<", ">", "!", "..", "size", "mtime", "10M", "7d",
                "text:", "name:", "?", "*", "[", "]", ":", ".", "&&", "||", "T05", "Z", "+08:00", "\u{301}", "\0",
            ][..]),
            0..24,
        ),
    ) {
        check_text(&parts.concat())?;
    }

    #[test]
    fn any_bytes_are_a_query_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(query) = decode::<Query>(&bytes) && query.check().is_ok() {
            super::round_trip::check(&query)?;
        }
        let mut parser = PathParser::new(UTC);
        for component in bytes.split(|byte| *byte == b'/') {
            let before = parser.clone();
            if parser.push(&component_text(component)).is_err() {
                prop_assert_eq!(&parser, &before);
            }
        }
    }
}

/// Accepted texts are queries that pass the check and survive their spelling; a refusal is inside the text and can be drawn.
fn check_text(text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
    for read in [read(text), parse_path(text, &UTC)] {
        match read {
            Ok(query) => super::round_trip::check(&query)?,
            Err(error) => {
                prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at), "{}: {}", text, error);
                prop_assert!(error.caret(text).ends_with('^'));
            }
        }
    }
    Ok(())
}
