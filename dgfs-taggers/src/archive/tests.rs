//! Listings of archives made here, broken ones and bombs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::ArchiveTagger;
use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::kind_of;
use crate::tagger::{Tagger, TaggerError};
use crate::testing::zip_of;

fn examine(name: &str, bytes: &[u8]) -> (Findings, Result<(), TaggerError>) {
    let job = Job { name, size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
    let kind = kind_of(&job);
    assert!(ArchiveTagger.wants(&kind), "{kind:?}");
    let mut out = Findings::default();
    let outcome = ArchiveTagger.examine(&job, &kind, &mut out);
    (out, outcome)
}

fn members(findings: &Findings) -> Vec<&str> {
    let links = findings.links.iter().filter(|link| link.kind == LinkKind::Member);
    links.map(|link| link.target.as_str()).collect()
}

fn tar_entry(name: &str, size: u64, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn zip_and_tar_and_packed_tar_are_listed() {
    let zip = zip_of(&[("a/b.txt", b"hello"), ("c.bin", &[0; 5000])]);
    let (found, outcome) = examine("x.zip", &zip);
    assert_eq!((outcome, members(&found)), (Ok(()), vec!["a/b.txt", "c.bin"]));
    assert_eq!((found.number_of("members"), found.number_of("unpacked-size")), (Some(2.0), Some(5005.0)));

    let long = "d/".repeat(100) + "end.txt";
    let parts = [
        tar_entry("one.txt", 5, b'0', b"hello"),
        tar_entry("././@LongLink", long.len() as u64, b'L', long.as_bytes()),
        tar_entry("cut", 0, b'0', b""),
        vec![0; 1024],
    ];
    let tar = parts.concat();
    for bytes in [tar.clone(), gzip(&tar)] {
        let (found, outcome) = examine("x", &bytes);
        assert_eq!((outcome, members(&found)), (Ok(()), vec!["one.txt", long.as_str()]));
        assert!(found.notes.is_empty(), "{:?}", found.notes);
    }
}

#[test]
fn a_cut_archive_says_what_it_has_and_that_it_is_cut() {
    let zip = zip_of(&[("a", b"hello"), ("b", b"world")]);
    let (found, outcome) = examine("x.zip", &zip[..60]);
    assert_eq!((outcome, members(&found)), (Ok(()), vec!["a"]));
    assert!(found.notes[0].contains("goes on"), "{:?}", found.notes);
    let (_, outcome) = examine("x.zip", b"PK\x05\x06");
    assert!(outcome.is_err());
}

#[test]
fn a_bomb_costs_its_first_bytes_only() {
    let bomb = gzip(&vec![0; 64 << 20]);
    let (found, outcome) = examine("x.gz", &bomb);
    assert_eq!((outcome, members(&found)), (Ok(()), Vec::<&str>::new()));
    // A tar that says it has a member of eight exabytes, which is not there.
    let mut entry = tar_entry("huge", 0, b'0', b"");
    entry[124..136].copy_from_slice(&[0xff; 12]);
    entry[148..156].fill(b' ');
    let sum: u32 = entry.iter().map(|byte| u32::from(*byte)).sum();
    entry[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let (found, outcome) = examine("x.tar", &entry);
    assert_eq!((outcome, members(&found)), (Ok(()), vec!["huge"]));
}
