//! Compares the edges between like contents with what the index says is alike.
//!
//! Never asks which edge came first: there is one right set of them ([`crate::neo4j::alike`]). Always: contents come in the order of
//! their hashes, a page at a time, and a wrong edge is told once, whichever end shows it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::neo4j::alike::{Alike, CONSIDERED_MAX, Circle, Edge, Fault};
use crate::neo4j::check::{CheckError, CheckReport, SUSPECTS_MAX};
use crate::neo4j::liken::{self, Asked, State};
use crate::neo4j::link::{Link, LinkError, Statement};

/// Contents of one page.
const PAGE: usize = 200;
/// Like contents that are missed where they have no edge: fewer than are considered for one, because those that went since may have
/// stood before them.
const MISSED_MAX: usize = CONSIDERED_MAX / 2;
const ALL: &str = "MATCH (c:Content) WHERE c.hash > $after WITH c ORDER BY c.hash LIMIT $page RETURN c.hash AS row";
const SOME: &str = "MATCH (c:Content) WHERE c.hash > $after AND c.hash IN $some WITH c ORDER BY c.hash LIMIT $page \
    RETURN c.hash AS row";

/// Compares the edges of contents (all: none given); `alike` is what the index says of each. Call it when none is due.
///
/// # Errors
/// [`CheckError::Link`]: the server. [`CheckError::Index`]: `alike`.
pub async fn check_contents(
    link: &Link,
    some: Option<&BTreeSet<String>>,
    mut alike: impl FnMut(&Asked) -> Result<Vec<Alike>, String>,
    sentences_max: usize,
) -> Result<CheckReport, CheckError> {
    let (mut report, mut told, mut after) = (CheckReport::default(), BTreeSet::new(), String::new());
    loop {
        let page = page(link, some, &after).await?;
        let own = liken::states(link, &page).await?;
        let said = own.iter().map(|state| alike(&state.ask())).collect::<Result<Vec<_>, String>>();
        let said = said.map_err(CheckError::Index)?;
        let circle = liken::circle(link, &own, &said).await?;
        for (state, said) in own.iter().zip(&said) {
            report.compared += 1;
            for sentence in wrong(&circle, state, said, &mut told) {
                if report.contents.len() < SUSPECTS_MAX {
                    report.contents.insert(state.content.clone());
                }
                report.say(format!("content {}: {sentence}", state.content), sentences_max);
            }
        }
        match page.last() {
            Some(last) if page.len() >= PAGE => after.clone_from(last),
            Some(_) | None => return Ok(report),
        }
    }
}

async fn page(link: &Link, some: Option<&BTreeSet<String>>, after: &str) -> Result<BTreeSet<String>, LinkError> {
    let read = match some {
        Some(some) => Statement::new(SOME).with("some", json!(some)),
        None => Statement::new(ALL),
    };
    let rows = link.column(&read.with("after", after).with("page", PAGE), PAGE).await?;
    Ok(rows.iter().filter_map(|row| row.as_str().map(str::to_owned)).collect())
}

fn wrong(circle: &Circle, state: &State, said: &[Alike], told: &mut BTreeSet<Edge>) -> Vec<String> {
    if !state.had {
        return vec!["no file has it".to_owned()];
    }
    let mut new = |edge: &Edge| told.len() >= SUSPECTS_MAX || told.insert(edge.clone());
    let name = |edge: &Edge| {
        let other = if edge.less == state.content { &edge.greater } else { &edge.less };
        format!("the edge SIMILAR_TO to {other:?} (source {:?}, score {})", edge.source, f64::from(edge.permille) / 1e3)
    };
    let sentence = |fault: Fault| match fault {
        Fault::Missing(edge) => new(&edge).then(|| format!("{} is missing", name(&edge))),
        Fault::Untrue(edge) => new(&edge).then(|| format!("{} should not be there", name(&edge))),
        Fault::Crowded(source, count) => Some(format!("it has {count} edges SIMILAR_TO (source {source:?})")),
    };
    circle.faults(&state.content, said, MISSED_MAX).into_iter().filter_map(sentence).collect()
}
