//! What JSON lines show of hits, tags, relations and events.
//!
//! Never loses a name: bytes that are no text are shown as text with replacements, and beside it in hexadecimal.

use std::fmt::Write as _;

use serde_json::{Value, json};

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::answer::{Facet, Hit, IndexStatus, Mark, RelatedTo, Told};
use dgfs_proto::graph::{HandRelation, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::name::Name;
use dgfs_proto::query::Entry;

/// A kind's word.
const fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "dir",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "char-device",
        FileKind::BlockDevice => "block-device",
    }
}

pub(crate) fn id(ino: Ino) -> String {
    Entry::Ino(ino).to_component()
}

/// 0 to 1.
pub(crate) fn confidence(permille: u16) -> f64 {
    f64::from(permille) / 1000.0
}

fn insert_bytes(object: &mut Value, key: &str, bytes: &[u8]) {
    let Some(object) = object.as_object_mut() else { return };
    object.insert(key.to_owned(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        object.insert(format!("{key}-hex"), json!(hex));
    }
}

/// A path of names.
pub(crate) fn insert_path(object: &mut Value, names: &[Name]) {
    let path = names.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/');
    insert_bytes(object, "path", &path);
}

pub(crate) fn hit(hit: &Hit) -> Value {
    let mut line =
        json!({ "ino": hit.ino, "id": id(hit.ino), "kind": kind(hit.kind), "rank": confidence(hit.permille) });
    insert_bytes(&mut line, "name", hit.name.as_bytes());
    line
}

pub(crate) fn facet(facet: &Facet) -> Value {
    json!({ "name": facet.name, "count": facet.count })
}

pub(crate) fn mark(mark: &Mark) -> Value {
    json!({ "tag": mark.name, "tagger": mark.tagger, "version": mark.version, "confidence": confidence(mark.permille) })
}

pub(crate) fn relation(related: &RelatedTo) -> Value {
    json!({ "relation": related.relation, "ino": related.ino, "id": id(related.ino), "source": related.source })
}

pub(crate) fn tag(id: TagId, facts: &TagFacts, count: u64) -> Value {
    json!({
        "tag": facts.name.as_str(),
        "id": id.get(),
        "count": count,
        "aliases": facts.aliases,
        "implies": facts.implies,
        "merged-into": facts.merged_into,
        "owner": facts.owner,
    })
}

pub(crate) fn time(at: Timestamp) -> Value {
    json!({ "secs": at.secs, "nanos": at.nanos })
}

pub(crate) fn status(status: &IndexStatus) -> Value {
    json!({
        "seq": status.seq, "head": status.head, "building": status.building, "inodes": status.inodes,
        "tags": status.tags, "edges": status.edges, "jobs": status.jobs, "failed": status.failed,
        "memory-bytes": status.memory_bytes, "disk-bytes": status.disk_bytes,
        "neo4j": status.neo4j.as_ref().map(|(seq, error)| json!({ "seq": seq, "error": error })),
        "applied-at": time(status.applied_at),
    })
}

const fn hand(relation: HandRelation) -> &'static str {
    match relation {
        HandRelation::LinksTo => "links-to",
        HandRelation::DerivedFrom => "sources",
        HandRelation::VersionOf => "versions",
        HandRelation::RelatedTo => "related",
    }
}

/// A change, and a line for each inode that does not fit any more.
pub(crate) fn told(told: &Told) -> Vec<Value> {
    let mut lines: Vec<Value> = told.event.iter().map(event).collect();
    if let Some(line) = lines.last_mut().and_then(Value::as_object_mut)
        && !told.retagged.is_empty()
    {
        let tags = told.retagged.iter();
        let tags = tags.map(|one| json!({ "ino": one.ino, "given": one.given, "taken": one.taken }));
        line.insert("tags".to_owned(), tags.collect());
    }
    for ino in &told.left {
        let mut line = json!({ "change": "left", "ino": ino, "seq": told.seq, "at": time(told.at) });
        if let Some((parent, name)) = told.event.as_ref().and_then(|event| old_place(event, *ino)) {
            if let Some(line) = line.as_object_mut() {
                line.insert("parent".to_owned(), json!(parent));
            }
            insert_bytes(&mut line, "name", name.as_bytes());
        }
        lines.push(line);
    }
    lines
}

/// Where an inode was before an event that took it from there.
fn old_place(event: &Event, of: Ino) -> Option<(Ino, &Name)> {
    match &event.change {
        Change::Unlinked { ino, parent, name, .. } | Change::Renamed { ino, parent, name, .. } if *ino == of => {
            Some((*parent, name))
        }
        Change::Renamed { new_parent, new_name, replaced, .. } if *replaced == Some(of) => {
            Some((*new_parent, new_name))
        }
        _ => None,
    }
}

/// An event: what changed, not how.
fn event(event: &Event) -> Value {
    let named = |what: &str, ino: Ino, parent: Ino, name: &Name| {
        let mut line = json!({ "change": what, "ino": ino, "parent": parent });
        insert_bytes(&mut line, "name", name.as_bytes());
        line
    };
    let attribute = |ino: Ino, name: &[u8]| {
        let mut line = json!({ "change": "attribute", "ino": ino });
        insert_bytes(&mut line, "attribute", name);
        line
    };
    let mut line = match &event.change {
        Change::Made { ino, parent, name, kind: made } => {
            let mut line = named("made", *ino, *parent, name);
            if let Some(object) = line.as_object_mut() {
                object.insert("kind".to_owned(), json!(kind(*made)));
            }
            line
        }
        Change::Linked { ino, parent, name } => named("linked", *ino, *parent, name),
        Change::Unlinked { ino, parent, name, .. } => named("unlinked", *ino, *parent, name),
        Change::Renamed { ino, new_parent, new_name, .. } => named("renamed", *ino, *new_parent, new_name),
        Change::AttrSet { ino } => json!({ "change": "attributes", "ino": ino }),
        Change::Data(data) => json!({ "change": "content", "ino": data.ino, "size": data.new_size }),
        Change::Xattr { ino, name } | Change::KeptXattr { ino, name, .. } => attribute(*ino, name),
        Change::Freed { ino } => json!({ "change": "freed", "ino": ino }),
        Change::Tagged { tags, vetoes, .. } => {
            let mut inos: Vec<Ino> =
                tags.iter().map(|(ino, _)| *ino).chain(vetoes.iter().map(|(ino, _)| *ino)).collect();
            inos.sort_unstable();
            inos.dedup();
            json!({ "change": "tagged", "inos": inos })
        }
        Change::TagsChanged(tags) => {
            let names =
                tags.iter().map(|(id, facts)| json!({ "id": id, "tag": facts.as_ref().map(|facts| &facts.name) }));
            json!({ "change": "tags", "tags": names.collect::<Vec<_>>() })
        }
        Change::Related { ino, to } => {
            let to = to.iter().map(|(relation, ino)| json!({ "relation": hand(*relation), "ino": ino }));
            json!({ "change": "related", "ino": ino, "to": to.collect::<Vec<_>>() })
        }
        Change::Saved { name, expression } => json!({ "change": "saved", "name": name, "expression": expression }),
    };
    if let Some(object) = line.as_object_mut() {
        object.insert("seq".to_owned(), json!(event.seq));
        object.insert("at".to_owned(), time(event.at));
    }
    line
}
