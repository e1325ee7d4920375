//! Which tags count for a tag that a query names: those below it, those that imply it, its other names.
//!
//! Never guesses: a tag that the graph does not have stands for itself and is told apart. Always: aliases, implications
//! and name spaces may form circles; the walk visits each tag once and has an end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use dgfs_proto::query::{Query, Test};

use super::FindError;
use crate::neo4j::link::{Link, LinkError, Statement};

/// Steps from a tag to one that counts for it.
const STEPS_MAX: usize = 16;
/// Tags that may count for the tags of one query.
const TAGS_MAX: usize = 10_000;

// Another name and its tag mean the same: that edge is walked both ways.
const BELOW: &str = "MATCH (o:Tag)<-[:WITHIN|IMPLIES|ALIAS_OF]-(t:Tag) WHERE o.key IN $keys RETURN [o.key, t.key] AS row \
    UNION MATCH (o:Tag)-[:ALIAS_OF]->(t:Tag) WHERE o.key IN $keys RETURN [o.key, t.key] AS row";
const DEGREES: &str = "MATCH (t:Tag) WHERE t.key IN $keys RETURN [t.key, COUNT { (t)<-[:TAGGED]-() }] AS row";

/// What one tag of a query stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Keys of the tags that count; at least the tag's own.
    pub keys: Vec<String>,
    /// Edges that they have together.
    pub degree: u64,
    /// The graph has the tag.
    pub known: bool,
}

/// The tags of a query by folded key.
pub type ResolvedTags = BTreeMap<String, Resolved>;

/// Looks up the tags that `query` names.
///
/// # Errors
/// The server's, or more than ten thousand tags count.
pub async fn resolve(link: &Link, query: &Query) -> Result<ResolvedTags, FindError> {
    let named: BTreeSet<String> = tags(query).collect();
    if named.is_empty() {
        return Ok(ResolvedTags::new());
    }
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen: BTreeSet<String> = named.clone();
    let mut front = seen.clone();
    for _ in 0..STEPS_MAX {
        if front.is_empty() {
            break;
        }
        let mut next = BTreeSet::new();
        for (above, key) in pairs(link, BELOW, &front).await? {
            let Some(key) = key.as_str() else { continue };
            below.entry(above).or_default().insert(key.to_owned());
            if seen.insert(key.to_owned()) {
                next.insert(key.to_owned());
            }
        }
        if seen.len() > TAGS_MAX {
            return Err(FindError::Query(format!("more than {TAGS_MAX} tags count for the tags of this query")));
        }
        front = next;
    }
    let degrees: BTreeMap<String, u64> =
        pairs(link, DEGREES, &seen).await?.into_iter().map(|(key, n)| (key, n.as_u64().unwrap_or(0))).collect();
    let one = |key: String| {
        let keys = closure(&key, &below);
        let degree = keys.iter().filter_map(|key| degrees.get(key)).sum();
        let known = degrees.contains_key(&key);
        (key, Resolved { keys: keys.into_iter().collect(), degree, known })
    };
    Ok(named.into_iter().map(one).collect())
}

/// The folded keys of the tags that a query names.
fn tags(query: &Query) -> impl Iterator<Item = String> {
    query.clauses.iter().flat_map(|clause| &clause.atoms).filter_map(|atom| match &atom.test {
        Test::Tag(tag) if tag.key_value().is_none() => Some(tag.fold()),
        _ => None,
    })
}

fn closure(root: &str, below: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::from([root.to_owned()]);
    let mut front = vec![root.to_owned()];
    // Each tag enters once, and there are at most TAGS_MAX.
    while let Some(key) = front.pop() {
        for next in below.get(&key).into_iter().flatten() {
            if found.insert(next.clone()) {
                front.push(next.clone());
            }
        }
    }
    found
}

async fn pairs(link: &Link, text: &str, keys: &BTreeSet<String>) -> Result<Vec<(String, Value)>, LinkError> {
    let statement = Statement::new(text).with("keys", json!(keys));
    // One row beyond the bound is enough to see that it is passed; degrees have at most one row for each tag.
    let rows = link.column(&statement, 2 * TAGS_MAX).await?;
    let pair = |row: Value| {
        let key = row.get(0).and_then(Value::as_str)?.to_owned();
        Some((key, row.get(1).cloned().unwrap_or(Value::Null)))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}
