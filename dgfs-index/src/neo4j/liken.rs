//! Gives contents their edges to like ones: those that are *due* because they or what they were tied to came, changed or went.
//!
//! Never looks up more than [`LOOKUPS_MAX`] contents for one transaction, and decides nothing: [`super::alike`] does. Always: who is
//! due is marked in the transaction that made him so, and the mark goes in the one that settles him, so a kill at any moment loses
//! nothing; a content that no file has any more goes with its edges.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::alike::{Alike, Circle, Edge, Settlement};
use super::link::{Link, LinkError, Statement};
use super::write::{WriteError, Writer};

/// Look-ups for one transaction: each takes about a millisecond, in a crowd of a thousand copies some ten.
pub const LOOKUPS_MAX: usize = 100;
/// Rows of one statement.
const STATEMENT_ROWS: usize = 5_000;

const STATE: &str = "{hash: c.hash, had: EXISTS { (c)<-[:HAS_CONTENT]-() }, \
    edges: [(c)-[s:SIMILAR_TO]-(o:Content) | [o.hash, s.src, s.score]]} AS row";
const DUE: &str = "MATCH (c:Content) WHERE c.due = true WITH c LIMIT $page RETURN ";
const NAMED: &str = "UNWIND $rows AS r MATCH (c:Content {hash: r}) RETURN ";
const FENCE: &str = "MATCH (a:Applied {id: $volume}) SET a.lock = 1 RETURN a.epoch AS row";
const DROP: &str = "UNWIND $rows AS r \
    MATCH (:Content {hash: r.less})-[s:SIMILAR_TO {src: r.src}]-(:Content {hash: r.greater}) DELETE s";
const MAKE: &str = "UNWIND $rows AS r MATCH (a:Content {hash: r.less}) MATCH (b:Content {hash: r.greater}) \
    MERGE (a)-[s:SIMILAR_TO {src: r.src}]->(b) SET s.score = r.score";
const SETTLED: &str = "UNWIND $rows AS r MATCH (c:Content {hash: r}) SET c.due = null";
const MARK: &str = "UNWIND $rows AS r MATCH (c:Content {hash: r}) SET c.due = true";
// A file may have it again since it was looked at.
const FORGET: &str = "UNWIND $rows AS r MATCH (c:Content {hash: r}) WHERE NOT EXISTS { (c)<-[:HAS_CONTENT]-() } \
    FOREACH (o IN [(c)-[:SIMILAR_TO]-(o) | o] | SET o.due = true) DETACH DELETE c";

/// A content as the graph has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its hash in hex.
    pub content: String,
    /// A file has it.
    pub had: bool,
    /// Its edges, both ways.
    pub edges: Vec<Alike>,
}

/// What is asked of the index: what is alike to `content`, and whether `linked` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its hash in hex.
    pub content: String,
    /// Contents that it has edges to.
    pub linked: BTreeSet<String>,
}

impl State {
    /// Reads a row of [`STATE`]; what is no hash, or no score, is nothing that we wrote.
    fn read(row: &Value) -> Option<Self> {
        let content = row.get("hash")?.as_str()?.to_owned();
        let edges = row.get("edges").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let edge = |row: &Value| {
            let text = |at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let score = row.get(2).and_then(Value::as_f64).unwrap_or(0.0);
            // A cast of what is no number gives 0.
            Alike { other: text(0), source: text(1), permille: (score * 1000.0).round() as u16 }
        };
        let had = row.get("had").and_then(Value::as_bool).unwrap_or(false);
        Some(Self { content, had, edges: edges.iter().map(edge).collect() })
    }

    /// The question to the index.
    #[must_use]
    pub fn ask(&self) -> Asked {
        let linked = self.edges.iter().map(|edge| edge.other.clone()).collect();
        Asked { content: self.content.clone(), linked }
    }
}

/// Contents that are due, [`LOOKUPS_MAX`] at most; none: the edges are as they are to be.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn due(link: &Link) -> Result<Vec<State>, LinkError> {
    let read = Statement::new(format!("{DUE}{STATE}")).with("page", LOOKUPS_MAX);
    let rows = link.column(&read, LOOKUPS_MAX).await?;
    Ok(rows.iter().filter_map(State::read).collect())
}

/// These contents as the graph has them; those that it has not are left out.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn states(link: &Link, contents: &BTreeSet<String>) -> Result<Vec<State>, LinkError> {
    let contents: Vec<&String> = contents.iter().collect();
    let mut all = Vec::new();
    for chunk in contents.chunks(STATEMENT_ROWS) {
        let read = Statement::new(format!("{NAMED}{STATE}")).with("rows", json!(chunk));
        all.extend(link.column(&read, STATEMENT_ROWS).await?.iter().filter_map(State::read));
    }
    Ok(all)
}

/// The circle of `own` with all that `alike` names.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn circle(link: &Link, own: &[State], alike: &[Vec<Alike>]) -> Result<Circle, LinkError> {
    let mut circle = Circle::default();
    let own_names: BTreeSet<&String> = own.iter().map(|state| &state.content).collect();
    let others = alike.iter().flatten().map(|one| &one.other).filter(|other| !own_names.contains(other));
    let others = states(link, &others.cloned().collect()).await?;
    for state in own.iter().chain(&others).filter(|state| state.had) {
        circle.add(&state.content, &state.edges);
    }
    for state in own.iter().chain(&others).filter(|state| !state.had) {
        circle.forget(&state.content);
    }
    Ok(circle)
}

/// Settles contents that are due: `alike` is what the index says of each.
///
/// # Errors
/// [`WriteError::Fenced`] and [`WriteError::Link`]; who was due is due still, or settled.
pub async fn settle(writer: &Writer<'_>, due: &[State], alike: &[Vec<Alike>]) -> Result<(), WriteError> {
    let link = writer.link();
    let mut circle = circle(link, due, alike).await?;
    for (state, alike) in due.iter().zip(alike) {
        circle.settle(&state.content, alike);
    }
    let mut work = link.begin().await?;
    let fence = work.first(&Statement::new(FENCE).with("volume", writer.volume())).await?;
    let theirs = fence.as_ref().and_then(Value::as_u64).unwrap_or(0);
    if theirs != writer.epoch() {
        work.rollback().await?;
        return Err(WriteError::Fenced { ours: writer.epoch(), theirs });
    }
    for statement in statements(due, circle.finish()) {
        work.run(&statement).await?;
    }
    work.commit().await?;
    Ok(())
}

fn statements(due: &[State], settlement: Settlement) -> Vec<Statement> {
    let edges = |edges: BTreeSet<Edge>| -> Vec<Value> {
        let row = |edge: Edge| {
            let score = f64::from(edge.permille) / 1000.0;
            json!({ "less": edge.less, "greater": edge.greater, "src": edge.source, "score": score })
        };
        edges.into_iter().map(row).collect()
    };
    let lost = due.iter().filter(|state| !state.had).map(|state| json!(state.content));
    let all = [
        (DROP, edges(settlement.dropped)),
        (MAKE, edges(settlement.made)),
        (SETTLED, due.iter().map(|state| json!(state.content)).collect()),
        (MARK, settlement.due.into_iter().map(Value::String).collect()),
        (FORGET, lost.collect()),
    ];
    let chunked = |(text, rows): (&str, Vec<Value>)| -> Vec<Statement> {
        rows.chunks(STATEMENT_ROWS).map(|rows| Statement::new(text).with("rows", rows)).collect()
    };
    all.into_iter().flat_map(chunked).collect()
}
