//! Tests of globs: a table, a slow and plain matcher to compare with, worst cases.

use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Glob, Part, Unit};
use crate::codec::{decode, encode};

fn matches(glob: &str, name: &[u8]) -> bool {
    Glob::parse(glob).unwrap().matches(name)
}

#[test]
fn globs_match_whole_names_in_any_case() {
    for (glob, name, expected) in [
        ("*.mp4", "Film.MP4", true),
        ("*.mp4", "film.mp4.part", false),
        ("IMG_????.*", "img_0042.jpg", true),
        ("IMG_????.*", "img_042.jpg", false),
        ("[a-c]x", "Bx", true),
        ("[A-C]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[!a-c]x", "dx", true),
        ("[]x]", "]", true),
        ("[!]]", "]", false),
        ("[a-]", "-", true),
        ("[\\]-]", "]", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("*", "", true),
        ("?", "é", true),
        ("straße", "STRAẞE", true),
        ("*合*", "在合肥.txt", true),
        ("a**b", "ab", true),
        ("*a*b", "xaybzb", true),
        ("*a*b", "xaybz", false),
    ] {
        assert_eq!(matches(glob, name.as_bytes()), expected, "{glob} {name}");
    }
}

#[test]
fn bytes_that_are_no_text_are_each_taken_by_a_question_mark() {
    assert!(matches("a??b", b"a\xff\xfeb"));
    assert!(matches("*.txt", b"\xe5\x90.txt"));
    assert!(matches("[!a]", b"\xff"));
    assert!(!matches("[a]", b"\xff"));
    assert!(!matches("a?b", b"ab"));
}

#[test]
fn bad_globs_are_refused_with_their_place() {
    for (glob, at, expected) in [
        ("", 0, "a glob such as *.mp4"),
        ("ab[c", 2, "a \"]\" for this \"[\" (\\[ stands for the sign itself)"),
        ("[", 0, "a \"]\" for this \"[\" (\\[ stands for the sign itself)"),
        ("[a-", 0, "a \"]\" for this \"[\" (\\[ stands for the sign itself)"),
        ("[]", 0, "a \"]\" for this \"[\" (\\[ stands for the sign itself)"),
        ("[z-a]", 2, "a range of characters that goes upwards, such as a-z"),
        ("é\\", 2, "a character behind \"\\\""),
        ("[\\", 1, "a character behind \"\\\""),
        ("a\nb", 1, "a glob without control characters"),
    ] {
        let error = Glob::parse(glob).unwrap_err();
        assert_eq!((error.at, error.expected.as_ref()), (at, expected), "{glob:?}");
    }
    assert!(Glob::parse(&"a".repeat(256)).is_err());
    assert!(decode::<Glob>(&encode(&String::from("[a")).unwrap()).is_err());
    let glob = Glob::parse("*.[a-z]?").unwrap();
    assert_eq!(decode(&encode(&glob).unwrap()), Ok(glob));
}

/// Which lengths of the name each number of parts can match: no cleverness.
fn slow(parts: &[Part], units: &[Unit]) -> bool {
    let mut reached = alloc::vec![false; units.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = alloc::vec![false; units.len() + 1];
        for at in (0..=units.len()).filter(|at| reached[*at]) {
            match part {
                Part::Many => next[at..].fill(true),
                other => next[(at + 1).min(units.len())] |= at < units.len() && other.takes(units[at]),
            }
        }
        reached = next;
    }
    reached[units.len()]
}

proptest! {
    #[test]
    fn matching_agrees_with_a_plain_matcher(glob in "[ab*?]{1,12}|[ab*?!\\[\\]\\\\-]{1,10}", name in "[abB-]{0,12}") {
        let Ok(glob) = Glob::parse(&glob) else { return Ok(()) };
        let units: Vec<Unit> = name.chars().map(Unit::Char).collect();
        prop_assert_eq!(glob.matches(name.as_bytes()), slow(&glob.parts, &units), "{} {}", glob.as_str(), name);
    }

    #[test]
    fn any_glob_meets_any_name(glob in any::<String>(), name in proptest::collection::vec(any::<u8>(), 0..300)) {
        let Ok(glob) = Glob::parse(&glob) else { return Ok(()) };
        let mut units: Vec<Unit> = Vec::new();
        for chunk in name.utf8_chunks() {
            units.extend(chunk.valid().chars().map(Unit::Char));
            units.extend(chunk.invalid().iter().map(|_| Unit::Byte));
        }
        prop_assert_eq!(glob.matches(&name), slow(&glob.parts, &units));
    }
}
