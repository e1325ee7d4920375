//! The bytes of version 7 of the messages, kept in `golden/v7.txt`.
//!
//! A line is `KIND NAME HEX`. `DGFS_BLESS=1` writes the file anew; that is right only before a first release, or for a file of a
//! new version.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use dgfs_proto::codec::{decode, encode};

use crate::graph::{graph_calls, graph_replies};
use crate::operators::{watch_calls, watch_replies};
use crate::values::{chunk_calls, chunk_replies, meta_calls, meta_replies};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/golden/v7.txt");

/// What to do when a message's bytes are not what they were.
const REMEDY: &str = "peers of other builds would misread it. If that is meant: raise the protocol's version (the ALPN names \
                      dgfs-meta/7 and dgfs-chunk/7, and FORMATS.md) and write golden/v7.txt with DGFS_BLESS=1";

/// The golden bytes by kind and name.
pub(crate) fn kept() -> BTreeMap<(String, String), Vec<u8>> {
    let text = std::fs::read_to_string(FILE).expect("tests/formats/golden/v7.txt is part of the tree");
    let line = |line: &str| {
        let [kind, name, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}: not KIND NAME HEX") };
        ((kind.to_owned(), name.to_owned()), bytes_of(hex))
    };
    text.lines().map(line).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn lines<T: Serialize>(kind: &str, values: &[(String, T)], out: &mut String) {
    for (name, value) in values {
        let hex = encode(value).unwrap().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(out, "{kind} {name} {hex}").unwrap();
    }
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: &str, values: &[(String, T)]) {
    let kept = kept();
    for (name, value) in values {
        let golden = kept.get(&(kind.to_owned(), name.clone()));
        let golden = golden.unwrap_or_else(|| panic!("{kind} {name} has no golden bytes yet: add its line"));
        assert!(
            decode::<T>(golden).as_ref() == Ok(value),
            "old bytes of {kind} {name} are read as something else: {REMEDY}"
        );
        assert!(encode(value).as_ref() == Ok(golden), "{kind} {name} is written differently: {REMEDY}");
    }
    let count = kept.keys().filter(|(of, _)| of == kind).count();
    assert_eq!(count, values.len(), "a {kind} with golden bytes is gone: {REMEDY}");
}

#[test]
fn every_message_has_the_bytes_of_version_2() {
    if std::env::var_os("DGFS_BLESS").is_some() {
        let mut out = String::new();
        lines("meta-call", &meta_calls(), &mut out);
        lines("meta-reply", &meta_replies(), &mut out);
        lines("chunk-call", &chunk_calls(), &mut out);
        lines("chunk-reply", &chunk_replies(), &mut out);
        lines("graph-call", &graph_calls(), &mut out);
        lines("graph-reply", &graph_replies(), &mut out);
        lines("watch-call", &watch_calls(), &mut out);
        lines("watch-reply", &watch_replies(), &mut out);
        std::fs::write(FILE, out).unwrap();
    }
    check("meta-call", &meta_calls());
    check("meta-reply", &meta_replies());
    check("chunk-call", &chunk_calls());
    check("chunk-reply", &chunk_replies());
    check("graph-call", &graph_calls());
    check("graph-reply", &graph_replies());
    check("watch-call", &watch_calls());
    check("watch-reply", &watch_replies());
}

#[test]
fn a_message_with_bytes_left_over_is_refused() {
    for ((kind, name), mut bytes) in kept().into_iter().filter(|((kind, _), _)| kind == "chunk-call") {
        bytes.push(0);
        assert!(decode::<dgfs_proto::chunk::ChunkCall>(&bytes).is_err(), "{kind} {name}");
    }
}
