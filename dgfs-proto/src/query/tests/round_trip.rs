//! Queries survive their two spellings and the codec.

use alloc::string::String;

use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use super::{is, query, tag};
use crate::codec::{decode, encode};
use crate::ids::Ino;
use crate::name::Name;
use crate::query::entry::Entry;
use crate::query::expr::parse_expr;
use crate::query::path::{Component, parse_component, parse_path};
use crate::query::show::{show_expr, show_path};
use crate::query::{Atom, Clause, Compare, Context, DatePrefix, Glob, Key, Query, Relation, Test, Value};
use crate::tag::Tag;

/// Another zone than UTC: what is shown does not depend on it.
const ELSEWHERE: Context = Context { utc_offset_secs: -12_600 };
/// Characters that mean something somewhere, and some that do not.
const TEXT: &str =
    "[a-c0-9 :/%,=<>!?@.()&|\"'\\\\*\\[\\]~_+-]{1,8}|(text|name|not):[a:]{1,3}|and|OR|not|[0-9]{2}|\\PC{1,6}";

pub(super) fn check(query: &Query) -> Result<(), TestCaseError> {
    prop_assert_eq!(query.check(), Ok(()));
    let expression = show_expr(query);
    prop_assert_eq!(parse_expr(&expression, &ELSEWHERE), Ok(query.clone()), "{}", expression);
    if let Some(path) = show_path(query) {
        prop_assert!(path.iter().all(|component| !component.is_empty() && !matches!(component.as_str(), "." | "..")));
        let path = path.join("/");
        prop_assert_eq!(parse_path(&path, &ELSEWHERE), Ok(query.clone()), "{}", path);
    } else {
        let rooted = |atom: &Atom| super::super::root::components(&atom.test, Entry::to_component).is_some();
        let alternatives = query.clauses.iter().any(|clause| clause.atoms.len() > 1 && clause.atoms.iter().any(rooted));
        prop_assert!(alternatives || expression.len() > 80, "no path: {}", expression);
    }
    prop_assert_eq!(decode(&encode(query).unwrap()), Ok(query.clone()));
    Ok(())
}

fn keys() -> BoxedStrategy<Key> {
    let reserved = proptest::sample::select(&crate::tag::RESERVED_KEYS[..]).prop_map(|key| Key::parse(key).unwrap());
    prop_oneof![reserved, TEXT.prop_filter_map("a key", |text| Key::parse(&text).ok())].boxed()
}

fn values() -> BoxedStrategy<String> {
    prop_oneof![
        TEXT,
        "[0-9]{1,4}[KMG]?|-?[0-9]{1,3}(\\.[0-9]{1,3})?(e-?[0-9]{1,2})?|[0-9]{1,3}[smhdw]",
        "(19|20)[0-9]{2}(-0[1-9](-[0-2][1-8](T[01][0-9](:[0-5][0-9])?)?)?)?(Z|[+-]0[0-9]:[0-5]0)?",
    ]
    .boxed()
}

fn value_tests() -> BoxedStrategy<Test> {
    let ops = [Compare::Equal, Compare::Differs, Compare::Less, Compare::AtMost, Compare::Greater, Compare::AtLeast];
    let read = |key: &Key, text: &str| Value::parse(key, text, &Context { utc_offset_secs: 28_800 }).ok();
    let compare = (keys(), proptest::sample::select(ops.to_vec()), values());
    let compare = compare.prop_filter_map("a value of that key", move |(key, op, text)| {
        let value = read(&key, &text)?;
        (!op.is_order() || value.check_ordered().is_ok()).then_some(Test::Compare { key, op, value })
    });
    let range = (keys(), proptest::option::of(values()), proptest::option::of(values()));
    let range = range.prop_filter_map("a range of that key", move |(key, low, high)| {
        let [low, high] = [low, high].map(|text| text.and_then(|text| read(&key, &text)));
        let good = super::super::value::check_range(&key, low.as_ref(), high.as_ref()).is_ok();
        good.then_some(Test::Range { key, low, high })
    });
    prop_oneof![3 => compare, 1 => range, 1 => keys().prop_map(Test::Has)].boxed()
}

fn entries() -> BoxedStrategy<Entry> {
    let names = proptest::collection::vec(any::<u8>(), 1..8);
    let names = prop_oneof![names, TEXT.prop_map(String::into_bytes)];
    prop_oneof![
        names.prop_filter_map("a name", |name| Name::new(&name).ok().map(Entry::Name)),
        (1..u64::MAX).prop_map(|raw| Entry::Ino(Ino::new(raw).unwrap())),
    ]
    .boxed()
}

fn root_tests() -> BoxedStrategy<Test> {
    let dates = (1_u16..=9999, proptest::option::of(1_u8..=12), proptest::option::of(1_u8..=28));
    prop_oneof![
        Just(Test::All),
        Just(Test::Untagged),
        Just(Test::Recent),
        (entries(), proptest::sample::select(&Relation::ALL[..]))
            .prop_map(|(of, relation)| Test::Related { of, relation }),
        TEXT.prop_map(Test::Saved).prop_filter("a name", |test| test.check().is_ok()),
        dates.prop_filter_map("a date", |(year, month, day)| DatePrefix::new(year, month, day).map(Test::Date)),
        (1..u64::MAX).prop_map(|raw| Test::File(Ino::new(raw).unwrap())),
    ]
    .boxed()
}

fn tests() -> BoxedStrategy<Test> {
    let words = proptest::collection::vec(TEXT, 1..4).prop_map(Test::Text);
    prop_oneof![
        3 => TEXT.prop_filter_map("a tag", |text| Tag::parse(&text).ok().map(Test::Tag)),
        3 => value_tests(),
        1 => words.prop_filter("words", |test| test.check().is_ok()),
        1 => TEXT.prop_filter_map("a glob", |text| Glob::parse(&text).ok().map(Test::Name)),
        2 => root_tests(),
    ]
    .boxed()
}

fn queries() -> impl Strategy<Value = Query> {
    let atom = (any::<bool>(), tests()).prop_map(|(negated, test)| Atom { negated, test });
    let one = atom.clone().prop_map(Clause::from);
    let more = proptest::collection::vec(atom, 2..4).prop_map(|atoms| Clause { atoms });
    proptest::collection::vec(prop_oneof![2 => one, 1 => more], 0..5).prop_map(|clauses| Query { clauses })
}

proptest! {
    #[test]
    fn the_component_of_a_tag_is_read_as_that_tag_or_as_its_value(text in TEXT, value in proptest::option::of(TEXT)) {
        let text = value.map_or(text.clone(), |value| text + "=" + &value);
        let Ok(tag) = Tag::parse(&text) else { return Ok(()) };
        let Ok(Component::Clause(clause)) = parse_component(&tag.to_component(), &ELSEWHERE) else {
            return Err(TestCaseError::fail(tag.to_component()));
        };
        match (tag.key_value(), &clause.atoms[0]) {
            (None, atom) => prop_assert_eq!(atom, &is(Test::Tag(tag.clone()))),
            (Some((key, value)), atom) => {
                let key = Key::parse(key).unwrap();
                let value = Value::parse(&key, value, &ELSEWHERE).unwrap();
                prop_assert_eq!(atom, &is(Test::Compare { key, op: Compare::Equal, value }));
                let settable = clause.settable_tag().unwrap();
                prop_assert!(settable.key_value().is_some());
            }
        }
    }

    #[test]
    fn every_query_survives_its_expression_its_path_and_its_bytes(query in queries()) {
        check(&query)?;
    }
}

#[test]
fn texts_are_canonical_and_readable() {
    let shown = |text: &str| {
        let query = super::read(text).unwrap();
        (show_expr(&query), show_path(&query).map(|path| path.join("/")))
    };
    for (text, expression, path) in [
        ("jpg,png and -draft size>10240K", "(jpg or png) -draft size>10M", Some("jpg,png/-draft/size>10M")),
        ("a or b", "a or b", Some("a,b")),
        ("mtime=2024-03 \"summer trip\"", "mtime=2024-03Z \"summer trip\"", Some("mtime=2024-03Z/summer trip")),
        ("mime=image/png ?x\\ y", "mime=\"image/png\" text:\"x y\"", Some("mime=image%2Fpng/text:x y")),
        ("@untagged -@of/f.txt/similar", "@untagged -@of/f.txt/similar", Some("@untagged/-@of/f.txt/similar")),
        ("@date/2024/03 09", "@date/2024/03 09", Some("@date/2024/03/%309")),
        ("@untagged,a", "@untagged or a", None),
        ("\"rating=5\" rating=5", "\"rating=5\" rating=5", Some("rating%3D5/rating=5")),
        ("name:*.MP4 \"-a\"", "name:*.MP4 \"-a\"", Some("name:*.MP4/%2Da")),
        ("", "", Some("")),
    ] {
        assert_eq!(shown(text), (expression.into(), path.map(String::from)), "{text}");
    }
}

#[test]
fn a_component_past_255_bytes_has_no_path_but_an_expression() {
    let slashes = |count: usize| query(&[&[is(tag(&"/".repeat(count)))]]);
    assert!(show_path(&slashes(85)).is_some());
    assert_eq!(show_path(&slashes(86)), None);
    assert_eq!(super::read(&show_expr(&slashes(86))), Ok(slashes(86)));
}
