//! Tests of tags: the rules of names one by one, escapes, lists, hostile bytes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{RESERVED_KEYS, Tag, TagError, parse_csv, to_csv};
use crate::codec::{decode, encode};
use crate::limits::{TAG_BYTES_MAX, TAGS_PER_FILE_MAX};
use crate::status::Status;

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

#[test]
fn names_that_are_tags_keep_their_spelling() {
    for text in [
        "a",
        "Beach",
        "summer trip",
        "place:cn:hefei",
        "-minus",
        ".hidden",
        "@home",
        "?",
        "a/b",
        "50%",
        "i<3u",
        "wow!",
        "照片:合肥",
        "rating=5",
        "a:b=c=d",
        "note=a..b",
        "text:x",
        "size",
        "...",
    ] {
        assert_eq!(tag(text).as_str(), text);
        assert_eq!(Tag::from_component(&tag(text).to_component()), Ok(tag(text)), "{text}");
    }
    assert_eq!(tag("e\u{301}te\u{301}").as_str(), "été");
    assert_eq!(tag(&"a".repeat(TAG_BYTES_MAX)).as_str().len(), TAG_BYTES_MAX);
}

#[test]
fn names_that_break_a_rule_are_refused_with_that_rule() {
    for (text, error) in [
        ("", TagError::Empty),
        (".", TagError::Dots),
        ("..", TagError::Dots),
        (" a", TagError::OuterSpace),
        ("a\u{3000}", TagError::OuterSpace),
        ("a,b", TagError::Comma { at: 1 }),
        ("é\n", TagError::Control { at: 2 }),
        ("a\0", TagError::Control { at: 1 }),
        ("a\u{85}b", TagError::Control { at: 1 }),
        ("a::b", TagError::EmptySegment { at: 2 }),
        (":a", TagError::EmptySegment { at: 0 }),
        ("a:", TagError::EmptySegment { at: 2 }),
        ("=5", TagError::BadKey),
        ("a =5", TagError::OuterSpace),
        ("a=5 ", TagError::OuterSpace),
        ("a: b", TagError::OuterSpace),
        ("a:..:b", TagError::Dots),
        ("..=5", TagError::Dots),
        ("a:=5", TagError::EmptySegment { at: 2 }),
        ("rating=", TagError::NoValue),
    ] {
        assert_eq!(Tag::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(Tag::parse(&"a".repeat(TAG_BYTES_MAX + 1)), Err(TagError::TooLong));
    assert_eq!(Tag::parse(&"é".repeat(TAG_BYTES_MAX / 2 + 1)), Err(TagError::TooLong));
    for key in RESERVED_KEYS {
        let upper = format!("{}=1", key.to_uppercase());
        assert_eq!(Tag::parse(&upper), Err(TagError::ReservedKey { key: key.to_string() }));
    }
    assert_eq!(Tag::from_component("a%"), Err(TagError::BadEscape { at: 1 }));
    assert_eq!(Tag::from_component("a%FF"), Err(TagError::NotUtf8 { at: 1 }));
    assert_eq!(Tag::from_component("a%2Cb"), Err(TagError::Comma { at: 1 }));
    assert_eq!((TagError::TooMany.status(), TagError::Empty.status()), (Status::XattrTooBig, Status::Invalid));
    assert_eq!(Tag::parse("a,b").unwrap_err().to_string(), "at 1: a tag has no \",\", which separates tags");
}

#[test]
fn a_component_escapes_what_it_would_read_as_something_else() {
    for (text, component) in [
        ("-a-b", "%2Da-b"),
        (".a.b", "%2Ea.b"),
        ("@a@", "%40a@"),
        ("?a?", "%3Fa?"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a<b>c", "a%3Cb%3Ec"),
        ("text:x:y", "text%3Ax:y"),
        ("textile:x", "textile:x"),
        ("not:x", "not%3Ax"),
        ("name:x=1", "name%3Ax=1"),
        ("wow!", "wow%21"),
        ("wow!=1", "wow%21=1"),
        ("a=b=c", "a=b=c"),
        ("a=1...2", "a=1.%2E.2"),
        ("a=b/c", "a=b%2Fc"),
    ] {
        assert_eq!(tag(text).to_component(), component);
    }
}

#[test]
fn within_is_at_the_border_of_a_segment_and_folded() {
    let hefei = tag("place:cn:hefei");
    for (prefix, within) in [
        ("place", true),
        ("PLACE:CN", true),
        ("place:cn:Hefei", true),
        ("place:c", false),
        ("place:cn:hefei:east", false),
        ("cn", false),
    ] {
        assert_eq!(hefei.is_within(&tag(prefix)), within, "{prefix}");
    }
    assert!(tag("a:b=c").is_within(&tag("a")));
    assert!(!tag("time=12:30").is_within(&tag("time=12")));
    assert_eq!(hefei.parents().collect::<Vec<_>>(), ["place", "place:cn"]);
    assert_eq!(tag("a:b=c:d").parents().collect::<Vec<_>>(), ["a"]);
    assert_eq!(tag("a").parents().count(), 0);
    assert_eq!(tag("a:b=c=d").key_value(), Some(("a:b", "c=d")));
}

#[test]
fn a_comma_list_is_read_as_other_tools_write_it() {
    let tags = parse_csv(" beach , ,Sea,BEACH,été,e\u{301}te\u{301},".as_bytes()).unwrap();
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["beach", "Sea", "été"]);
    assert_eq!(to_csv(&tags), "beach,Sea,été".as_bytes());
    assert_eq!(parse_csv(b""), Ok(Vec::new()));
    assert_eq!(parse_csv(b"a,\xff"), Err(TagError::NotUtf8 { at: 2 }));
    assert_eq!(parse_csv(b"a,size=3"), Err(TagError::ReservedKey { key: "size".to_string() }));
    let list = |count: usize| (0..count).map(|at| format!("t{at},")).collect::<String>();
    assert_eq!(parse_csv(list(TAGS_PER_FILE_MAX).as_bytes()).unwrap().len(), TAGS_PER_FILE_MAX);
    assert_eq!(parse_csv(list(TAGS_PER_FILE_MAX + 1).as_bytes()), Err(TagError::TooMany));
}

#[test]
fn a_message_cannot_bring_an_invalid_tag() {
    assert_eq!(decode::<Tag>(&encode(&tag("été")).unwrap()), Ok(tag("été")));
    for text in ["", "a,b", "size=1", "e\u{301}", "a::b"] {
        assert!(decode::<Tag>(&encode(&text.to_string()).unwrap()).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn every_tag_survives_its_component_and_its_list(text in any::<String>()) {
        let Ok(tag) = Tag::parse(&text) else { return Ok(()) };
        let component = tag.to_component();
        prop_assert!(!component.starts_with(['-', '@', '?', '.']) && !component.contains(['/', ',']));
        prop_assert_eq!(Tag::from_component(&component), Ok(tag.clone()));
        prop_assert_eq!(parse_csv(&to_csv(core::slice::from_ref(&tag))), Ok(alloc::vec![tag.clone()]));
        prop_assert_eq!(crate::spelling::fold(&tag.fold()), tag.fold());
        prop_assert!(tag.parents().all(|parent| tag.is_within(&Tag::parse(parent).unwrap())));
    }

    #[test]
    fn any_bytes_are_tags_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(tags) = parse_csv(&bytes) {
            prop_assert_eq!(parse_csv(&to_csv(&tags)), Ok(tags));
        }
        let _ = Tag::from_component(&String::from_utf8_lossy(&bytes));
    }
}
