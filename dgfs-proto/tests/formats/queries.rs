//! Hostile expressions and hostile queries: each is answered soon, whatever it is made of.
//!
//! Measures the clock, which the crate itself has not. The bound is far above what a text takes (some ten milliseconds), so that a
//! loaded machine passes, and far below what anything quadratic would take.

use std::time::{Duration, Instant};

use dgfs_proto::codec::{decode, encode};
use dgfs_proto::limits::EXPRESSION_BYTES_MAX;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::path::parse_path;
use dgfs_proto::query::{Context, Glob, Query};

/// For one text of 64 KiB.
const TIME_MAX: Duration = Duration::from_secs(2);

/// `unit` again and again, up to the bound of an expression.
fn filled(start: &str, unit: &str, end: &str) -> String {
    let room = EXPRESSION_BYTES_MAX - start.len() - end.len();
    start.to_owned() + &unit.repeat(room / unit.len()) + end
}

fn pairs(count: usize) -> String {
    (0..count).map(|at| format!("(a{at} b{at})")).collect::<Vec<_>>().join(" or ")
}

fn worst_cases() -> Vec<(&'static str, String)> {
    let wide = (0..32).map(|at| format!("(x{at} or y{at})")).collect::<Vec<_>>().join(" ");
    let alternatives = (0..63).map(|at| format!("z{at}")).collect::<Vec<_>>().join(",");
    let broad = (0..32).map(|at| format!("{alternatives},w{at}")).collect::<Vec<_>>().join(" ");
    vec![
        ("one word", filled("", "a", "")),
        ("words", filled("", "a ", "")),
        ("commas", filled("", "a,", "")),
        ("many pairs", filled("(a b)", " or (a b)", "")),
        ("wide or itself", filled(&format!("({wide})"), " or (x0 y0)", "")),
        ("wide or wide", filled("", &format!("({wide}) or "), "a")),
        ("distributed again and again", filled(&pairs(5), " or (a0 b0)", "")),
        ("broad or broad", format!("({broad}) or ({broad})")),
        ("negated wide", filled("-(", &format!("-({wide}) "), "a)")),
        ("open", filled("", "(", "")),
        ("closed", filled("", ")", "")),
        ("not", filled("", "!", "a")),
        ("not and open", filled("", "!(", "")),
        ("quotes", filled("", "\"\"", "")),
        ("unclosed", filled("\"", "a", "")),
        ("escapes", filled("", "%", "")),
        ("backslashes", filled("", "\\", "")),
        ("quoted percents", filled("\"", "%", "\"")),
        ("slashes", filled("@of/", "/", "")),
        ("marks", filled("", "\u{301}\u{323}", "")),
        ("marks to search for", filled("?a", "\u{301}\u{323}", "")),
        ("colons", filled("a", ":a", "")),
        ("dots", filled("a=", ".", "")),
        ("digits", filled("a=", "9", "")),
        ("stars", filled("name:", "*", "")),
        ("a size", filled("size=1.", "0", "")),
        ("operators", filled("", "a=<>!", "")),
    ]
}

#[test]
fn no_expression_and_no_path_takes_long() {
    let context = Context::default();
    for (name, text) in worst_cases() {
        let start = Instant::now();
        let read = parse_expr(&text, &context);
        let refused = read.as_ref().err().map(|error| (error.to_string(), error.caret(&text).len()));
        let shown = read.as_ref().ok().map(|query| query.to_string().len());
        let path = parse_path(&text, &context).is_ok();
        let took = start.elapsed();
        println!("{name}: {took:?}, {shown:?} {path} {refused:?}");
        assert!(took < TIME_MAX, "{name}: {took:?}");
    }
}

#[test]
fn the_worst_glob_meets_the_worst_name_soon() {
    let glob = Glob::parse(&("*".to_owned() + &"a".repeat(127) + "b")).unwrap();
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(!glob.matches(&[b'a'; 255]));
    }
    let took = start.elapsed();
    println!("1000 names: {took:?}");
    assert!(took < TIME_MAX);
}

#[test]
fn a_query_of_a_whole_frame_is_refused() {
    // A list of very many clauses that are nearly nothing: a length, and as many empty lists.
    let mut bytes = vec![0xff, 0xff, 0x3f];
    bytes.resize(3 + 0xf_ffff, 0);
    let start = Instant::now();
    let query = decode::<Query>(&bytes[..3 + 0xf_f000]);
    assert!(query.is_err(), "a list that is shorter than it says");
    let short = Query { clauses: Vec::new() };
    assert_eq!(decode(&encode(&short).unwrap()), Ok(short));
    let mut bytes = vec![0xff, 0x7f];
    bytes.resize(2 + 0x3fff, 0);
    let query: Query = decode(&bytes).unwrap();
    assert_eq!(query.clauses.len(), 0x3fff);
    assert_eq!(query.check().unwrap_err().to_string(), "at 32: expected at most 32 clauses joined by AND");
    assert!(start.elapsed() < TIME_MAX);
}
