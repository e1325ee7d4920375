//! Tests of values: sizes, ages, numbers, texts by the type of their key.

use alloc::string::ToString;

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Number, Value, duration_text, parse_duration, parse_size, size_text};
use crate::query::{Context, Key, QueryErrorKind};

fn read(key: &str, text: &str) -> Result<Value, QueryErrorKind> {
    Value::parse(&Key::parse(key).unwrap(), text, &Context::default()).map_err(|error| error.kind)
}

fn number(number: f64) -> Value {
    Value::Number(Number::new(number).unwrap())
}

#[test]
fn sizes_are_in_powers_of_1024() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("10M", 10 << 20),
        ("10m", 10 << 20),
        ("10MB", 10 << 20),
        ("1.5GiB", 3 << 29),
        ("1.5gib", 3 << 29),
        ("0.1K", 102),
        ("7B", 7),
        ("1.9", 1),
        ("15E", 15 << 60),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in [
        "",
        "M",
        "-1",
        "+1",
        ".5M",
        "1.M",
        "1.2.3M",
        "1iB",
        "10X",
        "10 M",
        "1KK",
        "1KiBB",
        "16E",
        "18446744073709551616",
    ] {
        assert_eq!(parse_size(text), None, "{text}");
    }
    assert_eq!(parse_size("1.0000000000000000000K"), None, "19 decimals");
}

#[test]
fn ages_have_a_unit() {
    for (text, secs) in [("7d", 604_800), ("12h", 43_200), ("2w", 1_209_600), ("30m", 1800), ("90s", 90), ("0s", 0)] {
        assert_eq!(parse_duration(text), Some(secs), "{text}");
    }
    for text in ["", "d", "7", "-7d", "7 d", "1.5d", "7y", "18446744073709551615w"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
    assert_eq!(
        (duration_text(1_209_600), duration_text(90_000), duration_text(0)),
        ("2w".into(), "25h".into(), "0s".into())
    );
}

#[test]
fn the_key_says_the_type() {
    assert_eq!(read("nlink", "2"), Ok(number(2.0)));
    assert_eq!(read("nlink", "2.5"), Err(QueryErrorKind::NotANumber));
    assert_eq!(read("nlink", "4294967296"), Err(QueryErrorKind::NotANumber));
    assert_eq!(read("size", "large"), Err(QueryErrorKind::NotANumber));
    assert_eq!(read("mtime", "yesterday"), Err(QueryErrorKind::NotANumber));
    assert_eq!(read("mtime", "7d"), Ok(Value::Within(604_800)));
    assert_eq!(read("owner", "1000"), Ok(number(1000.0)));
    assert_eq!(read("owner", "anna"), Ok(Value::Text("anna".into())));
    assert_eq!(read("ext", "7"), Ok(Value::Text("7".into())));
    assert_eq!(read("rating", "-4.50"), Ok(number(-4.5)));
    assert_eq!(read("rating", "1e3"), Ok(number(1000.0)));
    assert_eq!(read("rating", "-0"), Ok(number(0.0)));
    for text in ["inf", "NaN", "-inf", ".5", "5.", "1e999", "0x10", "1_000", "five", "--5", "1e"] {
        assert_eq!(read("rating", text), Ok(Value::Text(text.into())), "{text}");
    }
    assert_eq!(read("rating", "e\u{301}"), Ok(Value::Text("é".into())));
    assert_eq!(read("rating", "a\nb"), Err(QueryErrorKind::Syntax));
    assert_eq!(read("rating", &"a".repeat(201)), Err(QueryErrorKind::Syntax));
}

#[test]
fn numbers_are_ordered_and_finite() {
    assert_eq!(Number::new(f64::NAN), None);
    assert_eq!(Number::new(f64::NEG_INFINITY), None);
    assert!(Number::new(-1.0) < Number::new(0.0) && Number::new(0.0) == Number::new(-0.0));
    for number in [0.0, 1e-7, 1e15, 1e16, f64::MAX, f64::MIN_POSITIVE, -f64::MAX, 0.1] {
        let text = Number::new(number).unwrap().to_text();
        assert!(text.len() < 30, "{text}");
        assert_eq!(Number::parse(&text).map(Number::get), Some(number));
    }
}

proptest! {
    #[test]
    fn numbers_sizes_and_ages_survive_their_text(bits: u64) {
        prop_assert_eq!(parse_size(&size_text(bits)), Some(bits));
        prop_assert_eq!(parse_duration(&duration_text(bits)), Some(bits));
        if let Some(number) = Number::new(f64::from_bits(bits)) {
            prop_assert_eq!(Number::parse(&number.to_text()), Some(number));
        }
    }

    #[test]
    fn any_text_is_a_value_or_refused(text in any::<alloc::string::String>()) {
        for key in ["size", "mtime", "nlink", "owner", "ext", "rating"] {
            let key = Key::parse(key).unwrap();
            if let Ok(value) = Value::parse(&key, &text, &Context::default()) {
                prop_assert_eq!(key.check_value(&value), Ok(()));
                prop_assert_eq!(Value::parse(&key, &value.to_text(), &Context { utc_offset_secs: 3600 }), Ok(value.clone()), "{}", value.to_text().to_string());
            }
        }
    }
}
