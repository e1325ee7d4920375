//! What the index keeps of what was found.
//!
//! Never more than the taggers' own bounds. Always: a content that was not read to its end has a hash that no other file has.

use dgfs_client::reader::Snapshot;
use dgfs_proto::ids::Ino;
use dgfs_runtime::clock::utc_seconds_text;
use dgfs_taggers::findings::{FactValue, Findings as Said};
use dgfs_taggers::protocol::Answer;
use dgfs_taggers::{Fingerprints, Job, Kind, Link, LinkKind, kind_of};

use crate::likeness::Print;
use crate::pointer::Pointer;
use crate::step::ContentHash;
use crate::store::{Finding, Findings, Hints};
use crate::tagging::look::Look;
use crate::tagging::{CONTENT, KIND, KIND_VERSION, content_version};

const SURE: u16 = 1000;

/// What findings are kept by: a content's hash, and what else takes part.
pub(super) type ContentKey = (ContentHash, Hints);

/// The BLAKE3 hash of a content that was read as a whole, now or before; else one of this version of this file alone.
pub(super) fn content_hash(look: &Look, snapshot: &Snapshot) -> ContentHash {
    let attr = &snapshot.attr;
    if snapshot.bytes.len() as u64 >= attr.size {
        return *blake3::hash(&snapshot.bytes).as_bytes();
    }
    let known = look.read.filter(|read| read.data_version == attr.data_version);
    known.map_or_else(|| own_hash(attr.ino, attr.data_version), |read| read.content)
}

/// The hash that stands for a content as long as nobody has read it as a whole.
pub(super) fn own_hash(ino: Ino, data_version: u64) -> ContentHash {
    let mut hasher = blake3::Hasher::new_derive_key("DGFS: a content that was not read to its end");
    hasher.update(&ino.get().to_le_bytes());
    hasher.update(&data_version.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// What of the hints takes part in what is found: nothing where the bytes alone say the same kind.
pub(super) fn content_key(look: &Look, snapshot: &Snapshot) -> ContentKey {
    let job = first(&look.job(snapshot));
    let plain = Job { name: "", mime_hint: None, ..job };
    let matter = look.charset.is_some() || kind_of(&plain) != kind_of(&job);
    (content_hash(look, snapshot), Hints { digest: look.hints, matter })
}

fn of(snapshot: &Snapshot, (content, hints): ContentKey, found: Vec<Finding>) -> Findings {
    let (ino, data_version) = (snapshot.attr.ino, snapshot.attr.data_version);
    Findings { ino, data_version, content, hints, found, edges: Vec::new() }
}

/// The kind of a file, from its beginning.
pub(super) fn kind(look: &Look, snapshot: &Snapshot) -> Findings {
    known(look, snapshot, content_key(look, snapshot))
}

fn kind_finding(kind: &Kind) -> Finding {
    let mut marks = vec![(format!("type={}", kind.class.as_str()), SURE), (format!("mime={}", kind.mime), SURE)];
    marks.extend(kind.lang.as_ref().map(|lang| (format!("lang={lang}"), SURE)));
    Finding { tagger: KIND.to_owned(), version: KIND_VERSION, marks, ..Finding::default() }
}

/// A content that the taggers know from another file, or from before.
pub(super) fn known(look: &Look, snapshot: &Snapshot, key: ContentKey) -> Findings {
    let kind = kind_of(&first(&look.job(snapshot)));
    of(snapshot, key, vec![kind_finding(&kind)])
}

/// As much of a job as tells its kind.
fn first<'a>(job: &Job<'a>) -> Job<'a> {
    let bytes = job.bytes.get(..super::look::KIND_BYTES_MAX).unwrap_or(job.bytes);
    Job { bytes, ..*job }
}

/// What the workers said.
pub(super) fn content(snapshot: &Snapshot, (key, answer): (ContentKey, Answer)) -> Findings {
    let mut found = vec![kind_finding(&answer.kind), done(None)];
    found.extend(answer.findings.into_iter().map(|one| finding(one.name, one.version, &one.findings)));
    for failure in answer.failures {
        let known = found.iter_mut().find(|finding| finding.tagger == failure.name);
        match known {
            Some(finding) => finding.failed = Some(failure.reason),
            None => found.push(Finding {
                tagger: failure.name,
                version: failure.version,
                failed: Some(failure.reason),
                ..Finding::default()
            }),
        }
    }
    of(snapshot, key, found)
}

/// The workers could not do it.
pub(super) fn failed(look: &Look, snapshot: &Snapshot, (key, reason): (ContentKey, String)) -> Findings {
    let kind = kind_of(&first(&look.job(snapshot)));
    of(snapshot, key, vec![kind_finding(&kind), done(Some(reason))])
}

fn done(failed: Option<String>) -> Finding {
    Finding { tagger: CONTENT.to_owned(), version: content_version(), failed, ..Finding::default() }
}

fn finding(tagger: String, version: u32, said: &Said) -> Finding {
    let permille = |confidence: f32| (confidence.clamp(0.0, 1.0) * f32::from(SURE)) as u16;
    let mut marks: Vec<(String, u16)> =
        said.marks.iter().map(|mark| (mark.tag.clone(), permille(mark.confidence))).collect();
    marks.extend(said.values.iter().map(|fact| (format!("{}={}", fact.key, value(&fact.value)), SURE)));
    let text = (!said.text.is_empty()).then(|| said.text.clone());
    let pointers = said.links.iter().filter_map(pointer).collect();
    Finding { tagger, version, marks, text, failed: None, prints: prints(&said.fingerprints), pointers }
}

fn prints(said: &Fingerprints) -> Vec<Print> {
    let text = said.text.as_deref().and_then(Print::text);
    let picture = said.image.and_then(Print::picture);
    let vector = said.embedding.as_deref().and_then(Print::vector);
    text.into_iter().chain(picture).chain(vector).collect()
}

/// Authors are words, and members of archives are no files of the volume.
fn pointer(link: &Link) -> Option<Pointer> {
    match link.kind {
        LinkKind::Hyperlink | LinkKind::Reference => Pointer::path(&link.target),
        LinkKind::Import => Pointer::import(&link.target),
        LinkKind::Author | LinkKind::Member => None,
    }
}

fn value(value: &FactValue) -> String {
    match value {
        FactValue::Text(text) => text.clone(),
        FactValue::Number(number) => number.to_string(),
        FactValue::Time(seconds) => utc_seconds_text(*seconds),
    }
}
