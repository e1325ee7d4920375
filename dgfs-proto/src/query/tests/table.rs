//! The grammar of one component and of expressions: each form with its meaning, each refusal with its place and sentence.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{UTC, compare, equal, is, key, not, number, query, range, read, tag, text, time, words};
use crate::ids::Ino;
use crate::name::Name;
use crate::query::path::{Component, Partial, Special, parse_component};
use crate::query::{Atom, Clause, Compare, DatePrefix, Entry, Glob, Query, QueryErrorKind, Relation, Test};

const JANUARY: i64 = 1_704_067_200;
const MARCH: i64 = 1_709_251_200;
const DAY: i64 = 86_400;

fn glob(text: &str) -> Test {
    Test::Name(Glob::parse(text).unwrap())
}

fn size(bytes: u64) -> crate::query::Value {
    crate::query::Value::Size(bytes)
}

/// Components that mean one test.
fn tests_of_components() -> Vec<(&'static str, Test)> {
    let march = || time(MARCH, MARCH + 31 * DAY);
    let within = crate::query::Value::Within;
    alloc::vec![
        ("beach", tag("beach")),
        ("place:cn:hefei", tag("place:cn:hefei")),
        ("summer trip", tag("summer trip")),
        ("%2Dminus", tag("-minus")),
        ("a%2Fb", tag("a/b")),
        ("text%3Ax", tag("text:x")),
        ("rating%3D5", tag("rating=5")),
        ("e\u{301}", tag("é")),
        ("nothing", tag("nothing")),
        ("rating=", Test::Has(key("rating"))),
        ("Size=", Test::Has(key("size"))),
        ("rating=5", equal("rating", number(5.0))),
        ("RATING=5.0", equal("rating", number(5.0))),
        ("rating!=5", compare("rating", Compare::Differs, number(5.0))),
        ("rating>=4", compare("rating", Compare::AtLeast, number(4.0))),
        ("rating<4", compare("rating", Compare::Less, number(4.0))),
        ("nlink>1", compare("nlink", Compare::Greater, number(1.0))),
        ("size<=10M", compare("size", Compare::AtMost, size(10 << 20))),
        ("size=10M..", range("size", Some(size(10 << 20)), None)),
        ("size=..1.5GiB", range("size", None, Some(size(3 << 29)))),
        ("rating=-2..3.5", range("rating", Some(number(-2.0)), Some(number(3.5)))),
        ("mtime=2024-03", equal("mtime", march())),
        ("mtime=2024-01..2024-03", range("mtime", Some(time(JANUARY, JANUARY + 31 * DAY)), Some(march()))),
        ("taken=2024..2024-03", range("taken", Some(time(JANUARY, JANUARY + 366 * DAY)), Some(march()))),
        ("mtime=7d", equal("mtime", within(7 * 86_400))),
        ("ctime>12h", compare("ctime", Compare::Greater, within(43_200))),
        ("btime=2w..4w", range("btime", Some(within(1_209_600)), Some(within(2_419_200)))),
        ("mime=image%2Fpng", equal("mime", text("image/png"))),
        ("owner=anna", equal("owner", text("anna"))),
        ("owner=1000", equal("owner", number(1000.0))),
        ("note==a", equal("note", text("=a"))),
        ("note=a%2E.b", equal("note", text("a..b"))),
        ("note=-a", equal("note", text("-a"))),
        ("wow%21=x", equal("wow!", text("x"))),
        ("?two words", words(&["two", "words"])),
        ("text:two  words ", words(&["two", "words"])),
        ("text:a=b", words(&["a=b"])),
        ("name:*.mp4", glob("*.mp4")),
        ("name:a%2Cb=?", glob("a,b=?")),
        ("@all", Test::All),
        ("@untagged", Test::Untagged),
        ("@recent", Test::Recent),
    ]
}

#[test]
fn every_form_of_a_component_means_the_same_in_an_expression() {
    for (component, test) in tests_of_components() {
        for (text, negated) in [
            (component.to_string(), false),
            (alloc::format!("-{component}"), true),
            (alloc::format!("not:{component}"), true),
        ] {
            let clause: Clause = Atom { negated, test: test.clone() }.into();
            assert_eq!(parse_component(&text, &UTC), Ok(Component::Clause(clause.clone())), "{text}");
            // The shell's and the expression's white space: quoted by "\ " here.
            let word = text.replace(' ', "\\ ");
            assert_eq!(read(&word), Ok(Query { clauses: alloc::vec![clause] }), "{word}");
        }
    }
}

#[test]
fn a_component_may_have_alternatives_or_be_special_or_go_on() {
    let clause = |atoms: &[Atom]| Component::Clause(Clause { atoms: atoms.to_vec() });
    for (text, component) in [
        ("jpg,png", clause(&[is(tag("jpg")), is(tag("png"))])),
        ("-a,b", clause(&[not(tag("a")), is(tag("b"))])),
        ("a,not:b,size=,?x", clause(&[is(tag("a")), not(tag("b")), is(Test::Has(key("size"))), is(words(&["x"]))])),
        ("a,a", clause(&[is(tag("a")), is(tag("a"))])),
        ("@refine", Component::Special(Special::Refine)),
        ("@counts", Component::Special(Special::Counts)),
        ("@explain", Component::Special(Special::Explain)),
        ("@of", Component::Partial { negated: false, partial: Partial::Of }),
        ("-@saved", Component::Partial { negated: true, partial: Partial::Saved }),
        ("@date", Component::Partial { negated: false, partial: Partial::Date }),
        ("@file", Component::Partial { negated: false, partial: Partial::File }),
    ] {
        assert_eq!(parse_component(text, &UTC), Ok(component), "{text}");
    }
}

/// Component, place, kind, what was expected.
const REFUSED_COMPONENTS: &[(&str, usize, QueryErrorKind, &str)] = &[
    ("", 0, QueryErrorKind::Syntax, "a tag, key=value, text:words, name:glob or @…"),
    ("-", 1, QueryErrorKind::Syntax, "a tag, key=value, text:words, name:glob or @…"),
    ("a,", 2, QueryErrorKind::Syntax, "a tag, key=value, text:words, name:glob or @…"),
    ("a,,b", 2, QueryErrorKind::Syntax, "a tag, key=value, text:words, name:glob or @…"),
    ("--a", 1, QueryErrorKind::Syntax, "one \"-\" only (%2D stands for the sign itself)"),
    ("a,-not:b", 3, QueryErrorKind::Syntax, "one \"not:\" only (not%3A stands for a tag's first part)"),
    (".a", 0, QueryErrorKind::BadName, "a tag that does not begin with \".\" (write %2E for it)"),
    ("a::b", 0, QueryErrorKind::BadName, "a tag (at 2: expected a name between \":\" and \":\" (or the end))"),
    ("x,a%2Cb", 2, QueryErrorKind::BadName, "a tag (at 1: a tag has no \",\", which separates tags)"),
    ("a%4", 1, QueryErrorKind::Syntax, "two hexadecimal digits behind \"%\" (%25 stands for the sign itself)"),
    ("a%FF", 0, QueryErrorKind::Syntax, "UTF-8 behind the \"%\" signs"),
    ("=5", 0, QueryErrorKind::BadName, "a key before \"=\""),
    ("<5", 0, QueryErrorKind::BadName, "a key before \"<\""),
    ("a b,: =5", 4, QueryErrorKind::BadName, "a key (at 0: expected a name between \":\" and \":\" (or the end))"),
    ("a<", 2, QueryErrorKind::Syntax, "a value behind \"<\""),
    ("a!=", 3, QueryErrorKind::Syntax, "a value behind \"!=\""),
    ("size=big", 5, QueryErrorKind::NotANumber, "a size such as 4096, 10M or 1.5GiB"),
    ("nlink>x", 6, QueryErrorKind::NotANumber, "a whole number such as 2"),
    ("size=1..x", 8, QueryErrorKind::NotANumber, "a size such as 4096, 10M or 1.5GiB"),
    (
        "mtime=2024-13",
        6,
        QueryErrorKind::NotANumber,
        "a date such as 2024, 2024-03 or 2024-03-09T18:30, or an age such as 7d, 12h or 30m",
    ),
    ("ext>a", 4, QueryErrorKind::NotANumber, "a number here: texts have no order"),
    ("title=a..b", 6, QueryErrorKind::NotANumber, "a number here: texts have no order"),
    ("size=..", 5, QueryErrorKind::Syntax, "a bound before or behind \"..\""),
    ("size=2..1", 5, QueryErrorKind::Syntax, "the lower bound of a range before the upper one"),
    ("mtime=2024..7d", 6, QueryErrorKind::Syntax, "both bounds of a range to be of one kind (dates, or ages)"),
    ("k=1..a", 2, QueryErrorKind::NotANumber, "a number here: texts have no order"),
    ("size>1..2", 6, QueryErrorKind::Syntax, "a range behind \"=\" only (%2E%2E stands for two dots)"),
    ("?", 1, QueryErrorKind::Syntax, "at least one word to search for"),
    ("text: ", 5, QueryErrorKind::Syntax, "at least one word to search for"),
    ("?a%00", 1, QueryErrorKind::Syntax, "words without control characters"),
    ("name:", 5, QueryErrorKind::Syntax, "a glob such as *.mp4"),
    ("a,name:b[c", 8, QueryErrorKind::Syntax, "a \"]\" for this \"[\" (\\[ stands for the sign itself)"),
    ("@nobody", 0, QueryErrorKind::Syntax, "@all, @untagged, @recent, @of, @saved, @date or @file"),
    ("-@refine", 1, QueryErrorKind::Syntax, "@all, @untagged, @recent, @of, @saved, @date or @file"),
    ("@untagged,a", 9, QueryErrorKind::Syntax, "the end: what begins with \"@\" stands alone"),
    ("a,-@recent", 3, QueryErrorKind::Syntax, "what begins with \"@\" alone, not among alternatives"),
    ("a/b", 1, QueryErrorKind::Syntax, "a component without \"/\" (%2F stands for it)"),
];

#[test]
fn a_bad_component_is_refused_with_its_place_and_a_sentence() {
    for (text, at, kind, expected) in REFUSED_COMPONENTS {
        let error = parse_component(text, &UTC).unwrap_err();
        assert_eq!((error.at, error.kind, error.expected.as_ref()), (*at, *kind, *expected), "{text:?}");
    }
    let error = parse_component(&"a".repeat(256), &UTC).unwrap_err();
    assert_eq!((error.at, error.kind), (255, QueryErrorKind::TooLong));
    let alternatives = |count: usize| alloc::vec!["a"; count].join(",");
    assert!(parse_component(&alternatives(64), &UTC).is_ok());
    let error = parse_component(&alternatives(65), &UTC).unwrap_err();
    assert_eq!((error.at, error.kind), (128, QueryErrorKind::TooBig));
    let many: String = (0..33).map(|_| "w ").collect();
    assert_eq!(parse_component(&(String::from("?") + &many), &UTC).unwrap_err().kind, QueryErrorKind::TooBig);
}

/// Clauses of tags; a "-" negates.
fn joined(clauses: &[&[&str]]) -> Query {
    let atom = |text: &&str| text.strip_prefix('-').map_or_else(|| is(tag(text)), |text| not(tag(text)));
    Query { clauses: clauses.iter().map(|atoms| Clause { atoms: atoms.iter().map(atom).collect() }).collect() }
}

#[test]
fn expressions_join_tests() {
    for (text, clauses) in [
        ("", joined(&[])),
        (" \n ", joined(&[])),
        ("a b", joined(&[&["a"], &["b"]])),
        ("a and b", joined(&[&["a"], &["b"]])),
        ("a&&b", joined(&[&["a"], &["b"]])),
        ("a or b", joined(&[&["a", "b"]])),
        ("a OR b||c", joined(&[&["a", "b", "c"]])),
        ("a,b c", joined(&[&["a", "b"], &["c"]])),
        ("a or b c", joined(&[&["a", "b"], &["a", "c"]])),
        ("(a or b) c", joined(&[&["a", "b"], &["c"]])),
        ("(a b) or (c d)", joined(&[&["a", "c"], &["a", "d"], &["b", "c"], &["b", "d"]])),
        ("not a", joined(&[&["-a"]])),
        ("!a !!b", joined(&[&["-a"], &["b"]])),
        ("not (a b)", joined(&[&["-a", "-b"]])),
        ("-(a or b)", joined(&[&["-a"], &["-b"]])),
        ("not a,b", joined(&[&["-a"], &["-b"]])),
        ("not -a", joined(&[&["a"]])),
        ("-a,b", joined(&[&["-a", "b"]])),
        ("a a", joined(&[&["a"], &["a"]])),
        ("(a b) or (a b)", joined(&[&["a"], &["b"]])),
        ("(a b) or -a", joined(&[&["b", "-a"]])),
        ("(a b) or (a c)", joined(&[&["a"], &["b", "c"]])),
        ("((((a))))", joined(&[&["a"]])),
    ] {
        assert_eq!(read(text), Ok(clauses), "{text}");
    }
}

#[test]
fn quotes_take_every_special_meaning_away() {
    let by_name = |name: &[u8]| Entry::Name(Name::new(name).unwrap());
    for (text, test) in [
        ("\"summer trip\"", tag("summer trip")),
        ("'summer trip'", tag("summer trip")),
        ("summer\\ trip", tag("summer trip")),
        ("sum\"mer tr\"ip", tag("summer trip")),
        ("\"and\"", tag("and")),
        ("o\\r", tag("or")),
        ("\"-a\"", tag("-a")),
        ("\\-a", tag("-a")),
        ("\"a(b)\"", tag("a(b)")),
        ("\"text:x\"", tag("text:x")),
        ("\"rating=5\"", tag("rating=5")),
        ("\"a/b\"", tag("a/b")),
        ("\"50%\"", tag("50%")),
        ("\"a\\\"b\\\\c\\d\"", tag("a\"b\\c\\d")),
        ("'a\\b'", tag("a\\b")),
        ("wow!", tag("wow!")),
        ("R&B", tag("R&B")),
        ("a%20b", tag("a b")),
        ("mime=image/png", equal("mime", text_value("image/png"))),
        ("place=\"Hefei, China\"", equal("place", text_value("Hefei, China"))),
        ("?\"two words\"", words(&["two", "words"])),
        ("name:'\\*[a]'", glob("\\*[a]")),
        ("@of/\"a b,c\"/same-content", related(by_name(b"a b,c"), Relation::SameContent)),
        ("@of/%FF%7E/tags", related(by_name(b"\xff~"), Relation::Tags)),
        ("@of/%7Eid/tags", related(by_name(b"~id"), Relation::Tags)),
        ("@of/~1O/versions", related(Entry::Ino(Ino::new(32).unwrap()), Relation::Versions)),
        ("@saved/\"my query\"", Test::Saved("my query".into())),
        ("@date/2024", Test::Date(DatePrefix::new(2024, None, None).unwrap())),
        ("@date/2024/02/29", Test::Date(DatePrefix::new(2024, Some(2), Some(29)).unwrap())),
        ("@file/~fzzzzzzzzzzzz", Test::File(Ino::new(u64::MAX).unwrap())),
    ] {
        assert_eq!(read(text), Ok(query(&[&[is(test)]])), "{text}");
    }
    let mixed = query(&[&[is(Test::Untagged), not(Test::Saved("x".into())), is(tag("a"))]]);
    assert_eq!(read("@untagged,-@saved/x,a"), Ok(mixed));
}

fn text_value(value: &str) -> crate::query::Value {
    text(value)
}

fn related(of: Entry, relation: Relation) -> Test {
    Test::Related { of, relation }
}

/// Expression, and what its refusal says.
const REFUSED_EXPRESSIONS: &[(&str, &str)] = &[
    ("(a or b", "at 7: expected a closing \")\""),
    ("a)", "at 1: expected the end, or an opening \"(\" before this \")\""),
    ("a or", "at 4: expected a test, such as a tag or key=value, or \"(\""),
    ("a and or b", "at 6: expected a test, such as a tag or key=value, or \"(\""),
    ("()", "at 1: expected a test, such as a tag or key=value, or \"(\""),
    ("not", "at 3: expected a test, such as a tag or key=value, or \"(\""),
    ("a \"b", "at 2: expected the end of what \" begins"),
    ("a 'b\"", "at 2: expected the end of what ' begins"),
    ("ab\\", "at 2: expected a character behind \"\\\""),
    ("beach/sea", "at 5: expected a space for AND, or a quoted \"/\" for a tag with a slash in it"),
    ("a, b", "at 2: expected a tag, key=value, text:words, name:glob or @…"),
    ("é \"x y\",size=\"b c\"", "at 15: expected a size such as 4096, 10M or 1.5GiB"),
    ("x @of", "at 5: expected \"/\" and a file's name or ~id"),
    ("@of/a", "at 5: expected \"/\" and a relation, such as tags or similar"),
    (
        "@of/a/friends",
        "at 6: expected tags, similar, related, same-content, links-to, linked-from, derived, sources, versions or authors",
    ),
    ("@of/a/tags/b", "at 10: expected nothing behind this (AND is a space)"),
    ("@of/~0/tags", "at 4: expected \"~\" and a file's id, such as ~1k3"),
    ("@of/..%2F/tags", "at 4: expected the name of a file in this directory, or \"~\" and an id"),
    ("@saved", "at 6: expected \"/\" and the name of a saved query"),
    ("@saved/..", "at 7: expected the name of a saved query: 1 to 200 bytes without \"/\" and control characters"),
    ("@date/24", "at 6: expected a year of four digits, such as 2024"),
    ("@date/2024/13", "at 11: expected a month from 01 to 12"),
    ("@date/2023/02/29", "at 14: expected a day of that month"),
    ("@date/2024/1", "at 10: expected nothing behind this (AND is a space)"),
    ("@date/2024/01/01/01", "at 16: expected nothing behind this (AND is a space)"),
    ("@file/name", "at 6: expected \"~\" and a file's id, such as ~1k3"),
    ("@file/~gzzzzzzzzzzzz", "at 6: expected \"~\" and a file's id, such as ~1k3"),
    ("@refine", "at 0: expected @all, @untagged, @recent, @of, @saved, @date or @file"),
];

#[test]
fn a_bad_expression_is_refused_with_its_place_and_a_sentence() {
    for (text, sentence) in REFUSED_EXPRESSIONS {
        assert_eq!(read(text).unwrap_err().to_string(), *sentence, "{text:?}");
    }
}

#[test]
fn a_caret_stands_under_the_place() {
    let text = "(beach or sea";
    assert_eq!(read(text).unwrap_err().caret(text), "(beach or sea\n             ^");
    let text = "照\t片,";
    assert_eq!(read(text).unwrap_err().caret(text), "照 片,\n    ^");
    let long = "a ".repeat(20) + ") " + &"b ".repeat(40);
    let drawn = read(&long).unwrap_err().caret(&long);
    let (line, caret) = drawn.split_once('\n').unwrap();
    let column = caret.chars().count() - 1;
    assert!(line.starts_with('…') && line.ends_with('…') && line.chars().count() == 74, "{line}");
    assert_eq!((line.chars().nth(column), caret.trim()), (Some(')'), "^"));
}
