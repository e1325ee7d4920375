//! What a statement starts with, that no word of the user is in it, and what is refused.

use std::collections::BTreeMap;

use dgfs_proto::query::{Context, Query};

use super::resolve::{Resolved, ResolvedTags};
use super::{FindError, Moment, Page, compile};
use crate::neo4j::link::Statement;

const MOMENT: Moment = Moment { now_us: 1_000_000_000, utc_offset_secs: 0, recent_secs: 60 };
const PAGE: Page = Page { after: 0, limit: 100 };

fn parsed(text: &str) -> Query {
    dgfs_proto::query::expr::parse_expr(text, &Context::default()).unwrap()
}

fn compiled(text: &str) -> Result<Statement, FindError> {
    let tag = |key: &str, degree| {
        (key.to_owned(), Resolved { keys: vec![key.to_owned(), format!("{key}:below")], degree, known: true })
    };
    let tags: ResolvedTags = BTreeMap::from([tag("common", 5_000), tag("rare", 3), tag("middle", 900)]);
    compile(&parsed(text), &tags, MOMENT, PAGE)
}

#[test]
fn a_statement_starts_at_the_rarest_tag_that_must_hold() {
    let statement = compiled("common rare middle").unwrap();
    assert!(statement.text.starts_with("MATCH (t:Tag)<-[x:TAGGED]-(f:Inode) WHERE t.key IN $p0"), "{}", statement.text);
    assert_eq!(statement.params["p0"], serde_json::json!(["rare", "rare:below"]));
    let either = compiled("common (rare or middle)").unwrap();
    assert_eq!(either.params["p0"].as_array().unwrap().len(), 4);
}

#[test]
fn a_file_comes_before_a_tag_and_a_negation_starts_nothing() {
    assert!(compiled("rare @file/~1").unwrap().text.starts_with("MATCH (f:Inode {id: $p0})"));
    assert!(
        compiled("common @of/~1/similar")
            .unwrap()
            .text
            .starts_with("MATCH (o:Inode {id: $p0}) MATCH (o)-[:SIMILAR_TO]-")
    );
    assert!(compiled("rare @of/~1/similar").unwrap().text.starts_with("MATCH (t:Tag)"));
    for text in ["not rare", "rare or size>1", "", "@of/~1/related"] {
        assert!(compiled(text).unwrap().text.starts_with("MATCH (f:Inode) WHERE"), "{text}");
    }
}

#[test]
fn words_of_the_user_are_parameters() {
    let hostile = "\"it's a 'tag' }) DETACH DELETE n\" name:\"x' OR true //*\" by=\"'; DROP\" ext=\"e'x\" hash=\"h'x\"";
    let statement = compiled(hostile).unwrap();
    for word in ["it's", "DETACH", "DROP", "e'x", "h'x", "OR true"] {
        assert!(!statement.text.contains(word), "{word} in {}", statement.text);
    }
    let params: Vec<String> = statement.params.values().map(ToString::to_string).collect();
    assert!(params.iter().any(|value| value.contains("it's a 'tag' }) detach delete n")), "{params:?}");
}

#[test]
fn what_neo4j_does_not_have_is_refused_with_a_sentence() {
    for (text, why) in [
        ("text:words", "full text"),
        ("@saved/mine", "saved query"),
        ("@of/name/similar", "inode"),
        ("owner=ada", "by number"),
    ] {
        let refused = compiled(text).unwrap_err().to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}
