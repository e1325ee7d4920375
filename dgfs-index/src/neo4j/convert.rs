//! A vertex of the index as one of Neo4j.
//!
//! Never asks anything: what is not in the rows it is given is not in the graph. Always the same for the same rows, so that
//! writing and checking agree; lists are cut to what a batch may hold.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::TagFacts;
use dgfs_proto::query::Number;
use dgfs_proto::tag::fold;

use super::catalogue::Catalogue;
use super::model::{Kind, Name, Relation, RelationKind, Source, TagEdge, TagValue, VERTEX_EDGES_MAX, Vertex};
use crate::graph::names::extension;
use crate::step::nanoseconds;
use crate::store::{EdgeRow, Examination, Vertex as Row, tidy};

const NS_PER_US: i64 = 1_000;
/// Who says what is in extended attributes: people and programs, but not as tags.
const ATTRIBUTES: &str = "attributes";
/// Keys whose values are people that made a file.
const AUTHOR_KEYS: [&str; 3] = ["creator", "author", "artist"];
/// The key of an address that a file came from.
const ORIGIN: &str = "origin";
/// The key of the place where it was taken.
const PLACE: &str = "place";
/// The key of its title.
const TITLE: &str = "title";

/// The whole state of an inode.
pub(super) fn vertex(row: &Row, examination: &Examination, catalogue: &Catalogue) -> Vertex {
    let node = &row.node;
    let facts = &node.facts;
    let mut vertex = Vertex {
        size: facts.size,
        mtime: micros(nanoseconds(facts.mtime)),
        btime: micros(nanoseconds(facts.btime)),
        ctime: micros(nanoseconds(facts.ctime)),
        uid: facts.uid,
        gid: facts.gid,
        mode: u32::from(facts.mode),
        nlink: facts.nlink,
        names: node.names.iter().map(|(parent, name)| name_of(parent.get(), name.as_bytes())).collect(),
        ext: node.names.iter().find_map(|(_, name)| extension(name.as_bytes())),
        taken: row.derived.taken_ns.map(micros),
        hash: row.derived.content,
        vetoes: node.vetoes.iter().map(dgfs_proto::tag::Tag::fold).collect(),
        relations: relations(&row.edges),
        tags: node.tags.iter().filter_map(|id| catalogue.facts(*id)).map(tag_of_person).collect(),
        ..Vertex::new(facts.ino.get(), kind(facts.kind))
    };
    words(&mut vertex, row, examination);
    vertex.class = vertex.class.or_else(|| other_kind(facts.kind).map(str::to_owned));
    vertex.tags.truncate(VERTEX_EDGES_MAX);
    vertex.vetoes.truncate(VERTEX_EDGES_MAX);
    vertex
}

/// Relations from an inode, whoever said so: the strongest ones where there are more than a batch may hold.
fn relations(edges: &[EdgeRow]) -> Vec<Relation> {
    let kind = |kind: &str| {
        Some(match kind {
            "links-to" => RelationKind::LinksTo,
            "derived-from" => RelationKind::DerivedFrom,
            "version-of" => RelationKind::VersionOf,
            "similar" => RelationKind::SimilarTo,
            "related-to" => RelationKind::RelatedTo,
            // A later version of the tables may know more of them than the graph shows.
            _ => return None,
        })
    };
    let mut edges: Vec<&EdgeRow> = edges.iter().collect();
    edges.sort_by(|one, other| {
        (other.permille, one.to, &one.kind, &one.source).cmp(&(one.permille, other.to, &other.kind, &other.source))
    });
    let relation = |edge: &EdgeRow| {
        let (to, score) = (edge.to.get(), f64::from(edge.permille) / 1000.0);
        Some(Relation { kind: kind(&edge.kind)?, to, source: source(&edge.source), score })
    };
    edges.into_iter().filter_map(relation).take(VERTEX_EDGES_MAX).collect()
}

fn source(word: &str) -> Source {
    if word == Source::User.as_str() { Source::User } else { Source::Tagger(word.to_owned()) }
}

const fn micros(ns: i64) -> i64 {
    ns.div_euclid(NS_PER_US)
}

fn name_of(parent: u64, bytes: &[u8]) -> Name {
    match std::str::from_utf8(bytes) {
        Ok(name) => Name { parent, name: name.to_owned(), raw: None },
        Err(_) => {
            let name = String::from_utf8_lossy(bytes).into_owned();
            Name { parent, name, raw: Some(bytes.to_vec()) }
        }
    }
}

const fn kind(kind: FileKind) -> Kind {
    match kind {
        FileKind::File => Kind::File,
        FileKind::Directory => Kind::Dir,
        FileKind::Symlink | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            Kind::Other
        }
    }
}

/// What an inode is that is neither a file nor a directory, in the word of the query language.
const fn other_kind(kind: FileKind) -> Option<&'static str> {
    match kind {
        FileKind::File | FileKind::Directory => None,
        FileKind::Symlink => Some("symlink"),
        FileKind::Fifo => Some("fifo"),
        FileKind::Socket => Some("socket"),
        FileKind::CharDevice | FileKind::BlockDevice => Some("device"),
    }
}

fn tag_of_person(facts: &TagFacts) -> TagEdge {
    let said = Said { source: Source::User, confidence: 1.0 };
    match facts.name.key_value() {
        Some((key, value)) => valued(key, value, said),
        None => plain(facts.name.as_str(), said),
    }
}

/// Who says something, and how sure that is.
#[derive(Clone)]
struct Said {
    source: Source,
    confidence: f64,
}

fn plain(name: &str, said: Said) -> TagEdge {
    let (source, confidence) = (said.source, said.confidence);
    TagEdge { key: fold(name), name: name.to_owned(), source, confidence, value: None }
}

fn valued(key: &str, value: &str, said: Said) -> TagEdge {
    let number = Number::parse(value).map(|number| TagValue::Number(number.get()));
    let value = number.unwrap_or_else(|| TagValue::Text(value.to_owned()));
    TagEdge { value: Some(value), ..plain(key, said) }
}

/// Puts words of attributes and taggers where they belong: what has a property becomes one, everything else a tag; people,
/// places and addresses are nodes besides.
fn words(vertex: &mut Vertex, row: &Row, examination: &Examination) {
    let said = said_by(examination);
    let mut authors = BTreeSet::new();
    let mut urls = BTreeSet::new();
    for word in &row.derived.words {
        let attributes = [Said { source: Source::Tagger(ATTRIBUTES.to_owned()), confidence: 1.0 }];
        let by = said.get(&fold(word)).map_or(attributes.as_slice(), Vec::as_slice);
        let Some((key, value)) = word.split_once('=') else {
            vertex.tags.extend(by.iter().map(|said| plain(word, said.clone())));
            continue;
        };
        let folded = fold(key);
        let property = match folded.as_str() {
            "mime" => Some(&mut vertex.mime),
            "type" => Some(&mut vertex.class),
            "lang" => Some(&mut vertex.lang),
            _ => None,
        };
        if let Some(property) = property {
            property.get_or_insert_with(|| fold(value));
            continue;
        }
        match folded.as_str() {
            TITLE => drop(vertex.title.get_or_insert_with(|| value.to_owned())),
            PLACE => drop(vertex.place.get_or_insert_with(|| value.to_owned())),
            ORIGIN => drop(urls.insert(value.to_owned())),
            key if AUTHOR_KEYS.contains(&key) => drop(authors.insert(value.to_owned())),
            _ => {}
        }
        vertex.tags.extend(by.iter().map(|said| valued(key, value, said.clone())));
    }
    vertex.authors = authors.into_iter().collect();
    vertex.urls = urls.into_iter().collect();
}

/// By folded word: the taggers that say it.
fn said_by(examination: &Examination) -> BTreeMap<String, Vec<Said>> {
    let mut said: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    for finding in &examination.findings {
        for (mark, permille) in &finding.marks {
            let by = Said {
                source: Source::Tagger(finding.tagger.clone()),
                confidence: f64::from((*permille).min(1000)) / 1000.0,
            };
            said.entry(fold(&tidy(mark))).or_default().push(by);
        }
    }
    said
}

#[cfg(test)]
mod tests;
