//! Vertices as rows of parameters: what `write` stores and what `check` expects to find.
//!
//! One place says how a state looks in Neo4j, so that writing and checking cannot disagree. Never talks to a server.
//! Always: an edge has one row, however often the vertex lists it, and one identity ([`EdgeId`]).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::model::{Kind, Name, Tag, TagValue, Vertex};

/// From this many names on, the edges of a vertex are made anew instead of compared: the comparison is quadratic.
const NAMES_COMPARED_MAX: usize = 1_000;

/// What makes two edges of one vertex the same: type, other end, source, value. The other end is a number for an inode
/// and a text for everything else.
pub(super) type EdgeId = (String, String, String, String);

/// The label of a kind, and the labels that it must not have beside it.
pub(super) fn labels(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::File => ("File", "Unknown:Dir:Other"),
        Kind::Dir => ("Dir", "Unknown:File:Other"),
        Kind::Other => ("Other", "Unknown:File:Dir"),
    }
}

/// The properties of a vertex, without the epoch.
pub(super) fn properties(vertex: &Vertex) -> Map<String, Value> {
    let mut row = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            row.insert(key.to_owned(), value);
        }
    };
    put("id", json!(vertex.ino));
    put("name", json!(vertex.names.iter().min().map(|name| name.name.as_str())));
    put("size", if vertex.kind == Kind::Dir { Value::Null } else { json!(vertex.size) });
    put("mtime", json!(vertex.mtime));
    put("btime", json!(vertex.btime));
    put("ctime", json!(vertex.ctime));
    put("uid", json!(vertex.uid));
    put("gid", json!(vertex.gid));
    put("mode", json!(vertex.mode));
    put("nlink", json!(vertex.nlink));
    put("ext", json!(vertex.ext));
    put("mime", json!(vertex.mime));
    put("lang", json!(vertex.lang));
    put("class", json!(vertex.class));
    put("taken", json!(vertex.taken));
    put("title", json!(vertex.title));
    row
}

/// The exact bytes of a name in hex; empty when the text is exact.
pub(super) fn raw(name: &Name) -> String {
    name.raw.as_deref().map(hex).unwrap_or_default()
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash from its hex; none where it is none.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A tag's value as the text that tells two values of one tag apart.
pub(super) fn value_text(value: Option<&TagValue>) -> String {
    match value {
        Some(TagValue::Text(text)) => text.clone(),
        Some(TagValue::Number(number)) => number.to_string(),
        None => String::new(),
    }
}

/// Every edge of a vertex but its names, with its weight where it has one.
pub(super) fn edges(vertex: &Vertex) -> BTreeMap<EdgeId, Option<f64>> {
    let mut edges = BTreeMap::new();
    let mut put = |kind: &str, other: &str, source: &str, value: String, weight: Option<f64>| {
        edges.insert((kind.to_owned(), other.to_owned(), source.to_owned(), value), weight);
    };
    for tag in &vertex.tags {
        let value = value_text(tag.value.as_ref());
        put("TAGGED", &text_end(&tag.key), tag.source.as_str(), value, Some(tag.confidence));
    }
    for relation in &vertex.relations {
        let (kind, to) = (relation.kind.label(), relation.to.to_string());
        put(kind, &to, relation.source.as_str(), String::new(), Some(relation.score));
    }
    for (kind, key) in stars(vertex) {
        put(kind, &text_end(&key), "", String::new(), None);
    }
    edges
}

/// How the other end of an edge is told apart from an inode's number when both are texts.
pub(super) fn text_end(key: &str) -> String {
    format!("'{key}")
}

fn stars(vertex: &Vertex) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = Vec::new();
    all.extend(vertex.hash.iter().map(|hash| ("HAS_CONTENT", hex(hash))));
    all.extend(vertex.vetoes.iter().map(|key| ("REJECTED", key.clone())));
    all.extend(vertex.authors.iter().map(|name| ("AUTHORED_BY", name.clone())));
    all.extend(vertex.urls.iter().map(|url| ("DERIVED_FROM", url.clone())));
    all.extend(vertex.place.iter().map(|place| ("TAKEN_AT", place.clone())));
    all
}

/// What `DROP_NAMES` compares: the names that stay. `null` means that all go and are made anew.
pub(super) fn names_kept(vertex: &Vertex) -> Value {
    let keep = if vertex.names.len() > NAMES_COMPARED_MAX {
        Value::Null
    } else {
        vertex.names.iter().map(|name| json!([name.parent, name.name, raw(name)])).collect()
    };
    json!({ "id": vertex.ino, "keep": keep })
}

/// What `DROP_EDGES` compares: the edges that stay.
pub(super) fn edges_kept(vertex: &Vertex) -> Value {
    let keep: Vec<Value> = edges(vertex)
        .into_keys()
        .map(|(kind, other, source, value)| json!([kind, end_value(&other), source, value]))
        .collect();
    json!({ "id": vertex.ino, "keep": keep })
}

fn end_value(other: &str) -> Value {
    match other.strip_prefix('\'') {
        Some(key) => json!(key),
        None => other.parse::<u64>().map_or(Value::Null, |ino| json!(ino)),
    }
}

/// One row for each name.
pub(super) fn names(vertex: &Vertex) -> Vec<Value> {
    let mut names: Vec<&Name> = vertex.names.iter().collect();
    names.sort();
    names.dedup();
    let row = |name: &&Name| json!({ "id": vertex.ino, "dir": name.parent, "name": name.name, "raw": raw(name) });
    names.iter().map(row).collect()
}

/// One row for each tag; the last one wins where two have one identity.
pub(super) fn tags(vertex: &Vertex) -> Vec<Value> {
    let mut rows = BTreeMap::new();
    for tag in &vertex.tags {
        let val = value_text(tag.value.as_ref());
        let (num, text) = match &tag.value {
            Some(TagValue::Number(number)) => (json!(number), Value::Null),
            Some(TagValue::Text(text)) => (Value::Null, json!(text)),
            None => (Value::Null, Value::Null),
        };
        let k = tag.value.as_ref().map(|_| tag.key.as_str());
        let row = json!({
            "id": vertex.ino, "key": tag.key, "name": tag.name, "src": tag.source.as_str(), "conf": tag.confidence,
            "val": val, "k": k, "num": num, "str": text,
        });
        rows.insert((tag.key.clone(), tag.source.clone(), val), row);
    }
    rows.into_values().collect()
}

/// One row for each relation; the last one wins where two have one identity.
pub(super) fn relations(vertex: &Vertex) -> Vec<Value> {
    let mut rows = BTreeMap::new();
    for relation in &vertex.relations {
        let row = json!({
            "id": vertex.ino, "to": relation.to, "type": relation.kind.label(), "src": relation.source.as_str(),
            "score": relation.score,
        });
        rows.insert((relation.kind, relation.to, relation.source.clone()), row);
    }
    rows.into_values().collect()
}

/// Content, authors, addresses, place and vetoes in one row; none when the vertex has none of them.
pub(super) fn star_row(vertex: &Vertex) -> Option<Value> {
    if stars(vertex).is_empty() {
        return None;
    }
    let places: Vec<&String> = vertex.place.iter().collect();
    let hashes: Vec<String> = vertex.hash.iter().map(|hash| hex(hash)).collect();
    Some(json!({
        "id": vertex.ino, "size": vertex.size, "hashes": hashes, "vetoes": vertex.vetoes, "authors": vertex.authors,
        "urls": vertex.urls, "places": places, "prints": vertex.prints,
    }))
}

/// Where a tag points to: only the nearest name space, for that one points on.
pub(super) fn tag_links(tag: &Tag) -> Vec<(&'static str, &str)> {
    let mut links: Vec<(&'static str, &str)> = Vec::new();
    links.extend(tag.parents.first().map(|to| ("WITHIN", to.as_str())));
    links.extend(tag.implies.iter().map(|to| ("IMPLIES", to.as_str())));
    links.extend(tag.alias_of.iter().map(|to| ("ALIAS_OF", to.as_str())));
    links
}
