//! Which kind each beginning and name gives, and how long that takes.

use std::time::Instant;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

use super::{Class, kind_of};
use crate::job::Job;

fn job<'a>(name: &'a str, bytes: &'a [u8]) -> Job<'a> {
    Job { name, size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None }
}

fn zip_entry(name: &str, data: &[u8]) -> Vec<u8> {
    let mut entry = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    entry.extend((data.len() as u32).to_le_bytes());
    entry.extend((data.len() as u32).to_le_bytes());
    entry.extend((name.len() as u16).to_le_bytes());
    entry.extend([0, 0]);
    entry.extend(name.as_bytes());
    entry.extend(data);
    entry
}

#[test]
fn content_decides_before_the_name() {
    let pe = [&b"MZ\x90\0"[..], &[0; 80]].concat();
    let docx = [zip_entry("[Content_Types].xml", b"<x/>"), zip_entry("word/document.xml", b"<x/>")].concat();
    let epub = zip_entry("mimetype", b"application/epub+zip");
    let tar = [&[b'a'; 100][..], &[0; 157], b"ustar\x0000", &[0; 200]].concat();
    let mail = b"From: a@b\r\nTo: c@d\r\nSubject: x\r\nDate: today\r\n\r\nHi";
    let cases: &[(&str, &[u8], Class, &str)] = &[
        ("a.txt", b"\x89PNG\r\n\x1a\n", Class::Image, "image/png"),
        ("a.jpg", b"just words", Class::Text, "text/plain"),
        ("a.txt", b"%PDF-1.7\n", Class::Document, "application/pdf"),
        ("a.png", &pe, Class::Executable, "application/vnd.microsoft.portable-executable"),
        ("a", &docx, Class::Document, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.zip", &epub, Class::Document, "application/epub+zip"),
        ("a", &zip_entry("x", b""), Class::Archive, "application/zip"),
        ("a", &tar, Class::Archive, "application/x-tar"),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", Class::Image, "image/webp"),
        ("a", b"\0\0\0\x18ftypheic", Class::Image, "image/heic"),
        ("a", b"\0\0\0\x18ftypisom", Class::Video, "video/mp4"),
        ("a", b"\xff\xfb\x90\x64\0\0", Class::Audio, "audio/mpeg"),
        ("a", b"\xff\xfeH\0i\0", Class::Text, "text/plain"),
        ("a", mail, Class::Document, "message/rfc822"),
        ("a", b"#!/usr/bin/env python3\nprint()", Class::Code, "text/x-python"),
        ("a.md", b"# Title", Class::Text, "text/markdown"),
        ("a.rs", b"<html>", Class::Code, "text/x-rust"),
        ("a", b" <!DOCTYPE html><p>", Class::Document, "text/html"),
        ("a.txt", b"<?xml version='1.0'?><svg/>", Class::Image, "image/svg+xml"),
        ("a", b"{\"a\": 1}", Class::Data, "application/json"),
        ("a", b"[1] Knuth, The Art", Class::Text, "text/plain"),
        ("a.py", b"\0\x01\x02\x03binary", Class::Data, "application/octet-stream"),
        ("a.mp3", b"\0\0\0\0", Class::Audio, "audio/mpeg"),
        ("a.png", b"\0\0\0\0", Class::Data, "application/octet-stream"),
        ("a.rs", b"", Class::Code, "text/x-rust"),
        ("a.png", b"", Class::Data, "inode/x-empty"),
        ("\u{4e2d}.txt", b"\xd6\xd0\xb9\xfa\xc8\xcb", Class::Text, "text/plain"),
        ("a", &[0xff; 64], Class::Data, "application/octet-stream"),
    ];
    for (name, bytes, class, mime) in cases {
        let kind = kind_of(&job(name, bytes));
        assert_eq!((kind.class, kind.mime.as_str()), (*class, *mime), "{name} {bytes:?}");
    }
}

#[test]
fn a_hint_replaces_what_the_content_looks_like_unless_it_is_no_media_type() {
    let hinted = |hint| kind_of(&Job { mime_hint: Some(hint), ..job("a", b"words") });
    assert_eq!(hinted("text/markdown; charset=utf-8").mime, "text/markdown");
    assert_eq!(hinted("text/x-rust").lang.as_deref(), Some("rust"));
    assert_eq!(hinted("image/unheard-of").class, Class::Image);
    assert_eq!(hinted("not a type").mime, "text/plain");
    assert_eq!(hinted("/").mime, "text/plain");
}

#[test]
fn a_text_cut_inside_a_character_is_text() {
    let text = "\u{5b57}".repeat(4000);
    assert_eq!(kind_of(&job("a", text.as_bytes())).mime, "text/plain");
}

/// The promise that it can run on each file in any process. The bound is wide: a debug build and a busy machine pass.
#[test]
fn a_kind_costs_microseconds() {
    let text = "some words of a text\n".repeat(1000);
    let jobs = [job("a.txt", text.as_bytes()), job("a.png", b"\x89PNG\r\n\x1a\n"), job("a.bin", &[0; 9000])];
    for job in &jobs {
        let rounds = 2000;
        let begin = Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(kind_of(std::hint::black_box(job)));
        }
        let each = begin.elapsed() / rounds;
        println!("kind_of {}: {} ns", job.name, each.as_nanos());
        assert!(each.as_micros() < 500, "{each:?} for {}", job.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_bytes_and_name_have_a_kind(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        start in 0_usize..8,
        name in "\\PC{0,20}",
    ) {
        let starts: [&[u8]; 8] =
            [b"", b"PK\x03\x04", b"RIFF", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x1aE\xdf\xa3", b"OggS", b"From ", b"#!"];
        let bytes = [starts[start], &bytes].concat();
        let kind = kind_of(&job(&name, &bytes));
        prop_assert!(kind.mime.contains('/'));
    }
}
