//! Compares the graph in Neo4j with a stream of vertices and says where they differ.
//!
//! Never mends anything: a rebuild does. Always: both sides are read in the order of inodes, a page at a time, so memory
//! does not grow with the graph, and the list of differences is bounded.

mod contents;
mod tags;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use serde_json::{Map, Value};
use thiserror::Error;

use super::link::{Link, LinkError, Statement};
use super::model::{Name, Vertex};
use super::rows::{self, EdgeId};

pub use contents::check_contents;
pub use tags::check_tags;

/// Vertices of one page.
const PAGE: usize = 500;
/// Inodes that are remembered because they differ: so many are compared once more.
pub const SUSPECTS_MAX: usize = 1_000;
/// Two weights that differ by less are the same: they came as decimal texts.
const WEIGHT_SLACK: f64 = 1e-9;

const PAGE_OF_ALL: &str = "MATCH (v:Inode) WHERE NOT v:Unknown AND v.id > $after WITH v ORDER BY v.id LIMIT $page";
const PAGE_OF_SOME: &str =
    "MATCH (v:Inode) WHERE NOT v:Unknown AND v.id > $after AND v.id IN $some WITH v ORDER BY v.id LIMIT $page";
const READ: &str = " RETURN {properties: properties(v), labels: labels(v), \
    names: [(d:Inode)-[c:CONTAINS]->(v) | [d.id, c.name, coalesce(c.raw, '')]], \
    edges: [(v)-[x:TAGGED|REJECTED|HAS_CONTENT|AUTHORED_BY|TAKEN_AT|DERIVED_FROM|LINKS_TO|VERSION_OF|SIMILAR_TO\
    |RELATED_TO]->(o) | [type(x), CASE WHEN o:Inode THEN toString(o.id) ELSE '\\'' + coalesce(o.key, o.hash) END, \
    coalesce(x.src, ''), coalesce(x.val, ''), coalesce(x.conf, x.score)]]} AS row";

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Vertices that both sides have; or contents, or tags.
    pub compared: u64,
    /// Sentences, the first ones.
    pub differences: Vec<String>,
    /// Differences beyond those.
    pub more: u64,
    /// Inodes where the differences are, those beyond included, ascending; at most [`SUSPECTS_MAX`].
    pub suspects: BTreeSet<u64>,
    /// Contents where they are, likewise.
    pub contents: BTreeSet<String>,
}

impl CheckReport {
    /// Nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }

    fn say(&mut self, sentence: String, sentences_max: usize) {
        if self.differences.len() < sentences_max {
            self.differences.push(sentence);
        } else {
            self.more += 1;
        }
    }
}

/// Why a check did not come to its end.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The server.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The vertices do not come in the order of their inodes.
    #[error("the index gives inode {then} after inode {first}; a check needs them in order")]
    Order {
        /// The earlier one.
        first: u64,
        /// The later one.
        then: u64,
    },
    /// What is in the index cannot be read.
    #[error("{0}")]
    Index(String),
}

/// Compares the graph with `expected`, which must come in the order of inodes. At most `sentences_max` differences are
/// told, the rest is counted.
///
/// # Errors
/// [`CheckError::Link`]: the server. [`CheckError::Order`]: `expected`.
pub async fn check(
    link: &Link,
    expected: impl Iterator<Item = Vertex>,
    sentences_max: usize,
) -> Result<CheckReport, CheckError> {
    compare(link, &Statement::new(format!("{PAGE_OF_ALL}{READ}")), expected, sentences_max).await
}

/// As [`check`], of the inodes `some` only; `expected` are those of them that there are.
///
/// # Errors
/// As [`check`].
pub async fn check_some(
    link: &Link,
    some: &BTreeSet<u64>,
    expected: impl Iterator<Item = Vertex>,
    sentences_max: usize,
) -> Result<CheckReport, CheckError> {
    let read = Statement::new(format!("{PAGE_OF_SOME}{READ}")).with("some", some.iter().copied().collect::<Vec<u64>>());
    compare(link, &read, expected, sentences_max).await
}

async fn compare(
    link: &Link,
    read: &Statement,
    expected: impl Iterator<Item = Vertex>,
    sentences_max: usize,
) -> Result<CheckReport, CheckError> {
    let mut checker =
        Checker { expected: expected.peekable(), last: None, report: CheckReport::default(), sentences_max };
    let mut after: i64 = -1;
    loop {
        let page = link.column(&read.clone().with("after", after).with("page", PAGE), PAGE).await?;
        for row in &page {
            let found = Found::read(row);
            after = after.max(i64::try_from(found.ino).unwrap_or(i64::MAX));
            checker.meet(&found)?;
        }
        if page.len() < PAGE {
            break;
        }
    }
    checker.finish()
}

struct Checker<I: Iterator<Item = Vertex>> {
    expected: Peekable<I>,
    last: Option<u64>,
    report: CheckReport,
    sentences_max: usize,
}

impl<I: Iterator<Item = Vertex>> Checker<I> {
    /// The next vertex of Neo4j: everything expected before it is missing there.
    fn meet(&mut self, found: &Found) -> Result<(), CheckError> {
        while let Some(vertex) = self.expected.next_if(|vertex| vertex.ino < found.ino) {
            self.in_order(vertex.ino)?;
            self.say(vertex.ino, format!("inode {} is missing in Neo4j", vertex.ino));
        }
        match self.expected.next_if(|vertex| vertex.ino == found.ino) {
            None => self.say(found.ino, format!("inode {} is in Neo4j but not in the index", found.ino)),
            Some(vertex) => {
                self.in_order(vertex.ino)?;
                self.report.compared += 1;
                for difference in found.differences(&vertex) {
                    self.say(vertex.ino, format!("inode {}: {difference}", vertex.ino));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<CheckReport, CheckError> {
        while let Some(vertex) = self.expected.next() {
            self.in_order(vertex.ino)?;
            self.say(vertex.ino, format!("inode {} is missing in Neo4j", vertex.ino));
        }
        Ok(self.report)
    }

    fn in_order(&mut self, ino: u64) -> Result<(), CheckError> {
        match self.last.replace(ino) {
            Some(first) if first >= ino => Err(CheckError::Order { first, then: ino }),
            Some(_) | None => Ok(()),
        }
    }

    fn say(&mut self, ino: u64, sentence: String) {
        if self.report.suspects.len() < SUSPECTS_MAX {
            self.report.suspects.insert(ino);
        }
        self.report.say(sentence, self.sentences_max);
    }
}

/// A vertex as Neo4j has it.
struct Found {
    ino: u64,
    labels: BTreeSet<String>,
    properties: Map<String, Value>,
    names: BTreeSet<(u64, String, String)>,
    edges: BTreeMap<EdgeId, Option<f64>>,
}

impl Found {
    fn read(row: &Value) -> Self {
        let list = |key: &str| row.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |row: &Value, at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut properties = row.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        properties.remove("ep");
        let name = |row: &Value| (row.get(0).and_then(Value::as_u64).unwrap_or(0), text(row, 1), text(row, 2));
        let edge = |row: &Value| {
            ((text(row, 0), text(row, 1), text(row, 2), text(row, 3)), row.get(4).and_then(Value::as_f64))
        };
        Self {
            ino: properties.get("id").and_then(Value::as_u64).unwrap_or(0),
            labels: list("labels").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            names: list("names").iter().map(name).collect(),
            edges: list("edges").iter().map(edge).collect(),
            properties,
        }
    }

    fn differences(&self, vertex: &Vertex) -> Vec<String> {
        let mut all = Vec::new();
        let (label, _) = rows::labels(vertex.kind);
        let labels: BTreeSet<String> = ["Inode", label].map(str::to_owned).into();
        if labels != self.labels {
            all.push(format!("its labels are {:?} instead of {labels:?}", self.labels));
        }
        let wanted = rows::properties(vertex);
        let keys: BTreeSet<&String> = wanted.keys().chain(self.properties.keys()).collect();
        for key in keys {
            let (have, want) = (self.properties.get(key), wanted.get(key));
            if have != want {
                all.push(format!("its {key} is {} instead of {}", shown(have), shown(want)));
            }
        }
        let exact = |name: &Name| (name.parent, name.name.clone(), rows::raw(name));
        let names: BTreeSet<_> = vertex.names.iter().map(exact).collect();
        for (parent, name, _) in names.difference(&self.names) {
            all.push(format!("its name {name:?} in directory {parent} is missing"));
        }
        for (parent, name, _) in self.names.difference(&names) {
            all.push(format!("it has a name {name:?} in directory {parent} that it should not have"));
        }
        self.edge_differences(vertex, &mut all);
        all
    }

    fn edge_differences(&self, vertex: &Vertex, all: &mut Vec<String>) {
        let wanted = rows::edges(vertex);
        for (id, weight) in &wanted {
            match self.edges.get(id) {
                None => all.push(format!("{} is missing", edge_name(id))),
                Some(have) if !same(*have, *weight) => {
                    all.push(format!("{} has weight {have:?} instead of {weight:?}", edge_name(id)));
                }
                Some(_) => {}
            }
        }
        for id in self.edges.keys().filter(|id| !wanted.contains_key(*id)) {
            all.push(format!("{} should not be there", edge_name(id)));
        }
    }
}

fn edge_name((kind, other, source, value): &EdgeId) -> String {
    let other = other.strip_prefix('\'').unwrap_or(other);
    format!("the edge {kind} to {other:?} (source {source:?}, value {value:?})")
}

fn same(have: Option<f64>, want: Option<f64>) -> bool {
    match (have, want) {
        (Some(have), Some(want)) => (have - want).abs() < WEIGHT_SLACK,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}
