//! Compares the edges between tags with the catalogue.
//!
//! Never looks at what carries a tag: the check of vertices does. Always: a node that is only a word of taggers lies in
//! its name space and points nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::neo4j::check::{CheckError, CheckReport};
use crate::neo4j::link::{Link, Statement};
use crate::neo4j::model::Tag;
use crate::neo4j::rows;

/// Tags of one page.
const PAGE: usize = 2_000;
const READ: &str = "MATCH (t:Tag) WHERE t.key > $after WITH t ORDER BY t.key LIMIT $page \
    RETURN {key: t.key, links: [(t)-[x:WITHIN|IMPLIES|ALIAS_OF]->(o) | [type(x), o.key]]} AS row";

type Links = BTreeSet<(String, String)>;

/// Compares tags with `expected`. At most `sentences_max` differences are told, the rest is counted.
///
/// # Errors
/// [`CheckError::Link`]: the server.
pub async fn check_tags(
    link: &Link,
    expected: impl Iterator<Item = Tag>,
    sentences_max: usize,
) -> Result<CheckReport, CheckError> {
    let expected = expected.map(|tag| (tag.key.clone(), tag)).collect();
    let mut checker = Checker { expected, report: CheckReport::default(), sentences_max };
    let mut after = String::new();
    loop {
        let page = link.column(&Statement::new(READ).with("after", after.as_str()).with("page", PAGE), PAGE).await?;
        for row in &page {
            let key = row.get("key").and_then(Value::as_str).unwrap_or_default();
            checker.meet(key, &links(row));
            key.clone_into(&mut after);
        }
        if page.len() < PAGE {
            break;
        }
    }
    for key in std::mem::take(&mut checker.expected).into_keys() {
        checker.say(format!("tag {key:?} is missing in Neo4j"));
    }
    Ok(checker.report)
}

fn links(row: &Value) -> Links {
    let text = |row: &Value, at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = row.get("links").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().map(|link| (text(link, 0), text(link, 1))).collect()
}

struct Checker {
    /// Those that were not met yet.
    expected: BTreeMap<String, Tag>,
    report: CheckReport,
    sentences_max: usize,
}

impl Checker {
    fn meet(&mut self, key: &str, have: &Links) {
        self.report.compared += 1;
        let want: Links = match &self.expected.remove(key) {
            Some(tag) => rows::tag_links(tag).into_iter().map(|(kind, to)| (kind.to_owned(), to.to_owned())).collect(),
            None => word(key, have),
        };
        for (kind, to) in want.difference(have) {
            self.say(format!("tag {key:?}: the edge {kind} to {to:?} is missing"));
        }
        for (kind, to) in have.difference(&want) {
            self.say(format!("tag {key:?}: the edge {kind} to {to:?} should not be there"));
        }
    }

    fn say(&mut self, sentence: String) {
        self.report.say(sentence, self.sentences_max);
    }
}

/// What a word of taggers may point to: the name space above it. It has that edge or not, for a word may be no tag.
fn word(key: &str, have: &Links) -> Links {
    let above = key.rsplit_once(':').map(|(above, _)| ("WITHIN".to_owned(), above.to_owned()));
    above.into_iter().filter(|link| have.contains(link)).collect()
}
