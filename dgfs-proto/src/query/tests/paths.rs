//! The path language component by component, and whole paths.

use alloc::vec::Vec;

use super::{UTC, is, key, not, query, tag};
use crate::ids::Ino;
use crate::name::Name;
use crate::query::entry::{ino_id, parse_id};
use crate::query::path::{Partial, PathParser, Special, Step, component_text, parse_path};
use crate::query::{Atom, DatePrefix, Entry, Query, QueryError, QueryErrorKind, Relation, Test};
use crate::status::Status;
use crate::tag::Tag;

/// The last step of a path, and the query that it has made.
fn walk(components: &[&str]) -> Result<(Step, Query), QueryError> {
    let mut parser = PathParser::new(UTC);
    let mut last = Step::Query;
    for component in components {
        last = parser.push(component)?;
    }
    Ok((last, parser.into_query()))
}

fn date(year: u16, month: Option<u8>, day: Option<u8>) -> Test {
    Test::Date(DatePrefix::new(year, month, day).unwrap())
}

fn named(name: &str) -> Entry {
    Entry::Name(Name::new(name.as_bytes()).unwrap())
}

#[test]
fn each_component_says_what_the_path_is_now() {
    let similar = |negated: bool| Atom { negated, test: Test::Related { of: named("f"), relation: Relation::Similar } };
    for (components, step, clauses) in [
        (&[][..], Step::Query, query(&[])),
        (&["a", "-b"], Step::Query, query(&[&[is(tag("a"))], &[not(tag("b"))]])),
        (&["a", "@refine"], Step::Special(Special::Refine), query(&[&[is(tag("a"))]])),
        (&["@counts"], Step::Special(Special::Counts), query(&[])),
        (&["a", "@refine", "b%2Fc"], Step::Refinement(Tag::parse("b/c").unwrap()), query(&[&[is(tag("a"))]])),
        (&["a", "@of"], Step::Partial(Partial::Of), query(&[&[is(tag("a"))]])),
        (&["@of", "f"], Step::Partial(Partial::Relation(named("f"))), query(&[])),
        (&["@of", "50%25,-x=1"], Step::Partial(Partial::Relation(named("50%,-x=1"))), query(&[])),
        (&["@of", "f", "similar"], Step::Query, query(&[&[similar(false)]])),
        (&["-@of", "f", "similar", "a"], Step::Query, query(&[&[similar(true)], &[is(tag("a"))]])),
        (&["@saved", "-my,query"], Step::Query, query(&[&[is(Test::Saved("-my,query".into()))]])),
        (&["@file", "~10"], Step::Query, query(&[&[is(Test::File(Ino::new(32).unwrap()))]])),
        (&["@date"], Step::Partial(Partial::Date), query(&[])),
        (&["@date", "2024"], Step::Query, query(&[&[is(date(2024, None, None))]])),
        (&["@date", "2024", "03"], Step::Query, query(&[&[is(date(2024, Some(3), None))]])),
        (&["not:@date", "2024", "03", "09"], Step::Query, query(&[&[not(date(2024, Some(3), Some(9)))]])),
        (
            &["@date", "2024", "03", "09", "01"],
            Step::Query,
            query(&[&[is(date(2024, Some(3), Some(9)))], &[is(tag("01"))]]),
        ),
        (
            &["@date", "2024", "a", "03"],
            Step::Query,
            query(&[&[is(date(2024, None, None))], &[is(tag("a"))], &[is(tag("03"))]]),
        ),
        (&["@date", "2024", "%303"], Step::Query, query(&[&[is(date(2024, None, None))], &[is(tag("03"))]])),
        (&["@all", "@untagged"], Step::Query, query(&[&[is(Test::All)], &[is(Test::Untagged)]])),
    ] {
        assert_eq!(walk(components), Ok((step, clauses)), "{components:?}");
    }
}

#[test]
fn a_component_in_the_wrong_place_is_refused_and_the_path_stays() {
    for (before, component, expected) in [
        (&["@counts"][..], "a", "nothing below this entry"),
        (&["a", "@explain"], "@counts", "nothing below this entry"),
        (&["@refine", "a"], "b", "nothing below this entry"),
        (
            &["@of", "f"],
            "friends",
            "tags, similar, related, same-content, links-to, linked-from, derived, sources, versions or authors",
        ),
        (&["@of"], "~", "\"~\" and a file's id, such as ~1k3"),
        (&["@date"], "@refine", "a year of four digits, such as 2024"),
        (&["@date", "2024"], "00", "a month from 01 to 12"),
        (&["@date", "2024", "02"], "30", "a day of that month"),
        (&["a"], "b/c", "a component without \"/\" (%2F stands for it)"),
    ] {
        let mut parser = PathParser::new(UTC);
        before.iter().for_each(|component| drop(parser.push(component).unwrap()));
        let untouched = parser.clone();
        assert_eq!(parser.push(component).unwrap_err().expected, expected, "{before:?} {component}");
        assert_eq!(parser, untouched, "{before:?} {component}");
    }
}

#[test]
fn a_path_has_at_most_32_clauses() {
    let mut parser = PathParser::new(UTC);
    for _ in 0..32 {
        assert_eq!(parser.push("a"), Ok(Step::Query));
    }
    let error = parser.push("a").unwrap_err();
    assert_eq!((error.kind, error.status()), (QueryErrorKind::TooBig, Status::XattrTooBig));
    assert_eq!(parser.push("@recent").unwrap_err().kind, QueryErrorKind::TooBig);
    assert_eq!(parser.push("@refine"), Ok(Step::Special(Special::Refine)));
    assert_eq!(parser.push(&"a".repeat(256)).unwrap_err().status(), Status::NameTooLong);
}

#[test]
fn a_whole_path_is_a_saved_query_s_text() {
    let expected =
        query(&[&[is(tag("a"))], &[is(tag("b")), is(tag("c"))], &[not(tag("d"))], &[is(Test::Has(key("k")))]]);
    assert_eq!(parse_path("a/b,c/-d/k=", &UTC), Ok(expected.clone()));
    assert_eq!(parse_path("/a//b,c/-d/k=/", &UTC), Ok(expected));
    assert_eq!(parse_path("", &UTC), Ok(query(&[])));
    for (text, at, expected) in [
        ("a/size=x", 7, "a size such as 4096, 10M or 1.5GiB"),
        ("a/@refine", 2, "a query, not a view of one"),
        ("a/@of/f", 7, "\"/\" and a relation, such as tags or similar"),
    ] {
        let error = parse_path(text, &UTC).unwrap_err();
        assert_eq!((error.at, error.expected.as_ref()), (at, expected), "{text}");
    }
}

#[test]
fn a_clause_that_is_a_tag_can_be_given_to_a_file() {
    for (component, settable) in [
        ("beach", Some("beach")),
        ("Rating=5.0", Some("rating=5")),
        ("place=a b", Some("place=a b")),
        ("place=a%2Cb", None),
        ("size=5", None),
        ("rating>5", None),
        ("rating=1..5", None),
        ("rating=", None),
        ("-beach", None),
        ("a,b", None),
        ("@untagged", None),
        ("name:a", None),
    ] {
        let (_, query) = walk(&[component]).unwrap();
        let tag = query.clauses[0].settable_tag();
        assert_eq!(tag.as_ref().map(Tag::as_str), settable, "{component}");
    }
}

#[test]
fn a_date_spans_its_unit_where_the_reader_is() {
    const MARCH: i64 = 1_709_251_200;
    const DAY: i64 = 86_400;
    for (month, day, from, until) in [
        (None, None, MARCH - 60 * DAY, MARCH + 306 * DAY),
        (Some(2), None, MARCH - 29 * DAY, MARCH),
        (Some(2), Some(29), MARCH - DAY, MARCH),
    ] {
        let date = DatePrefix::new(2024, month, day).unwrap();
        let (start, end) = date.span(3600);
        assert_eq!((start.secs + 3600, end.secs + 3600), (from, until), "{date:?}");
    }
    for (year, month, day) in
        [(0, None, None), (10_000, None, None), (2024, Some(0), None), (2024, None, Some(1)), (2023, Some(2), Some(29))]
    {
        assert_eq!(DatePrefix::new(year, month, day), None);
    }
}

#[test]
fn names_that_are_no_text_become_components() {
    assert_eq!(component_text("é".as_bytes()), "é");
    assert_eq!(component_text(b"a\xff\xfe"), "a%FF%FE");
    for name in [&b"a\xff"[..], b"~a", b"50%", b"a,b", b"-x", b"\x01\n"] {
        let entry = Entry::Name(Name::new(name).unwrap());
        let (step, _) = walk(&["@of", &entry.to_component()]).unwrap();
        assert_eq!(step, Step::Partial(Partial::Relation(entry)));
    }
}

#[test]
fn ids_are_crockford_s_base_32() {
    for (raw, id) in [(1, "1"), (31, "z"), (32, "10"), (1 << 40, "10000000 0"), (u64::MAX, "fzzzzzzzzzzzz")] {
        let id: alloc::string::String = id.split(' ').collect();
        let ino = Ino::new(raw).unwrap();
        assert_eq!(ino_id(ino), id);
        assert_eq!(parse_id(&id.to_uppercase()), Some(ino));
    }
    assert_eq!(parse_id("oLi"), parse_id("011"));
    let refused: Vec<_> =
        ["", "0", "u", "-1", "g000000000000", "00000000000001", "é"].into_iter().filter_map(parse_id).collect();
    assert_eq!(refused, []);
}
