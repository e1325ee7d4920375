//! Damaged files of every format: no tagger panics, and each takes a bounded time.
//!
//! Never random without saying so: the seed is printed, and `DGFS_TAGGERS_SEED` repeats a run.

use std::time::{Duration, Instant};

use image::ImageFormat;

use crate::findings::{LINKS_MAX, MARKS_MAX, NOTES_MAX, STRING_BYTES_MAX, TEXT_BYTES_MAX, VALUES_MAX};
use crate::job::Job;
use crate::protocol::Answer;
use crate::tagger::builtin;
use crate::testing::{avi, jpeg_with_exif, mkv, mp3, mp4, pdf_of, picture_as, wav, zip_of};
use crate::worker::examine;

/// Damaged versions of each file. `DGFS_LONG` in the environment takes many more.
const ROUNDS: usize = 150;
const ROUNDS_LONG: usize = 20_000;
/// A job's wall time in a worker: no small file may need a part of it, even on a busy machine.
const JOB_TIME_MAX: Duration = Duration::from_secs(5);

fn documents() -> Vec<(&'static str, Vec<u8>)> {
    let pdf = [
        &b"<</Type/Catalog/Pages 2 0 R>>"[..],
        b"<</Type/Pages/Kids[3 0 R]/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
        b"<</Length 44>>stream\nBT /F1 12 Tf (Some words of a page) Tj T* [(x) -300 <41>] TJ ET\nendstream",
        b"<</Type/Font/ToUnicode 6 0 R/Encoding<</Differences[65/A/uni4E2D]>>>>",
        b"<<>>stream\n1 beginbfrange <00> <7f> <0000> endbfrange 1 beginbfchar <41> <0042> endbfchar\nendstream",
    ]
    .map(<[u8]>::to_vec);
    let word =
        b"<w:document><w:p><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:t>Words &amp; more</w:t></w:p></w:document>";
    let open =
        b"<office:text><text:h>Head</text:h><text:p>Text <text:a xlink:href='x'>link</text:a></text:p></office:text>";
    vec![
        ("a.txt", "Storage servers keep chunks. A server reports its chunks.\n".repeat(20).into_bytes()),
        ("b.txt", "\u{5206}\u{5e03}\u{5f0f}\u{6587}\u{4ef6}\u{7cfb}\u{7edf}\u{4fdd}\u{5b58}\u{6570}\u{636e}\u{3002}".repeat(20).into_bytes()),
        ("a.md", b"---\ntitle: x\n---\n# Head\n[a](b) *c* `d`\n\n```\ncode\n```\n".to_vec()),
        ("a.html", b"<!DOCTYPE html><html><head><title>T</title></head><body><h1>H</h1><p>x &amp; <a href='y'>z</a></p>".to_vec()),
        ("a.rs", b"use std::io;\nmod x;\nfn main() {}\n".to_vec()),
        ("a.rtf", br"{\rtf1{\fonttbl x}\u20013? Caf\'e9\par {\*\x y}z}".to_vec()),
        ("a.eml", b"From: a@b\nTo: c\nSubject: =?utf-8?B?5Lit?=\nDate: 5 Mar 2024 10:00 GMT\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--".to_vec()),
        ("a.pdf", pdf_of(&pdf, "/Root 1 0 R")),
        ("a.docx", zip_of(&[("word/document.xml", word)])),
        ("a.odt", zip_of(&[("mimetype", b"application/vnd.oasis.opendocument.text"), ("content.xml", open)])),
        ("a.zip", zip_of(&[("a", b"x"), ("b/c", b"y")])),
        ("a.png", picture_as(ImageFormat::Png)),
        ("a.gif", picture_as(ImageFormat::Gif)),
        ("a.webp", picture_as(ImageFormat::WebP)),
        ("a.bmp", picture_as(ImageFormat::Bmp)),
        ("a.jpg", jpeg_with_exif()),
        ("a.mp3", mp3()),
        ("a.wav", wav()),
        ("a.mp4", mp4()),
        ("a.mkv", mkv()),
        ("a.avi", avi()),
    ]
}

/// The generator of SplitMix64, so that a seed means the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes, removes, repeats or moves bytes, a few times.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(out.len());
        let end = (at + 1 + random.below(40)).min(out.len());
        match random.below(6) {
            0 => out.truncate(at),
            1 => drop(out.drain(at..end)),
            2 => {
                let piece = out[at..end].to_vec();
                let times = 1 + random.below(200);
                out.splice(at..at, piece.repeat(times));
            }
            3 => out[at..end].fill(*[0, 0xff, 0x7f, b'<', b'('].get(random.below(5)).unwrap()),
            _ => {
                for byte in &mut out[at..end] {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        if out.is_empty() {
            break;
        }
    }
    out
}

fn assert_bounded(answer: &Answer, what: &str) {
    for found in &answer.findings {
        let found = &found.findings;
        assert!(found.marks.len() <= MARKS_MAX && found.values.len() <= VALUES_MAX, "{what}");
        assert!(found.links.len() <= LINKS_MAX && found.notes.len() <= NOTES_MAX, "{what}");
        assert!(found.text.len() <= TEXT_BYTES_MAX, "{what}");
        assert!(found.links.iter().all(|link| link.target.len() <= STRING_BYTES_MAX), "{what}");
    }
    let panicked = answer.failures.iter().find(|failed| failed.reason.starts_with("panicked"));
    assert!(panicked.is_none(), "{what}: {panicked:?}");
}

fn job<'a>(name: &'a str, bytes: &'a [u8]) -> Job<'a> {
    Job { name, size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None }
}

#[test]
fn whole_files_have_findings_and_damaged_ones_cost_little() {
    let seed = std::env::var("DGFS_TAGGERS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    println!("seed {seed}");
    let rounds = if std::env::var_os("DGFS_LONG").is_some() { ROUNDS_LONG } else { ROUNDS };
    let taggers = builtin();
    let mut random = Random(seed);
    for (name, bytes) in documents() {
        let whole = examine(0, &job(name, &bytes), &taggers);
        assert!(!whole.findings.is_empty() && whole.failures.is_empty(), "{name}: {:?}", whole.failures);
        let mut slowest = Duration::ZERO;
        for round in 0..rounds {
            let bytes = damaged(&bytes, &mut random);
            let begin = Instant::now();
            let answer = examine(0, &job(name, &bytes), &taggers);
            slowest = slowest.max(begin.elapsed());
            assert_bounded(&answer, &format!("{name}, round {round}, seed {seed}"));
        }
        println!("{name}: slowest {} ms", slowest.as_millis());
        assert!(slowest < JOB_TIME_MAX, "{name}: {slowest:?}");
    }
}

/// What a generator of ten gigabytes of text would give first: 64 MiB without an end.
#[test]
fn endless_files_cost_one_bounded_job() {
    let taggers = builtin();
    let endless = |piece: &str| piece.repeat((64 << 20) / piece.len());
    let cases = [
        ("a.txt", endless("word ")),
        ("b.txt", endless("x")),
        ("c.txt", endless("\u{5b57}\u{7b26}")),
        ("a.xml", format!("<?xml version='1.0'?>{}", endless("<a>"))),
        ("a.html", format!("<html>{}", endless("<div><a href=x>"))),
        ("b.html", format!("<html>{}", endless("</scrip<"))),
        ("a.md", endless("[a](b) ")),
        ("b.md", endless("](")),
        ("a.rtf", format!("{{\\rtf{}", endless("{\\u1?"))),
        ("a.eml", format!("From: a\nTo: b\nSubject: c\n{}", endless("X: y\n"))),
        ("a.pdf", format!("%PDF-1.4\n{}", endless("1 0 obj<<"))),
        ("b.pdf", format!("%PDF-1.4\n{}", endless("trailer[["))),
        ("a.json", endless("[")),
        ("a.rs", endless("use a;\n")),
    ];
    for (name, text) in cases {
        let job = Job { size: 10 << 30, ..job(name, text.as_bytes().get(..64 << 20).unwrap_or(text.as_bytes())) };
        let begin = Instant::now();
        let answer = examine(0, &job, &taggers);
        println!("{name} ({}): {} ms", answer.kind.mime, begin.elapsed().as_millis());
        assert_bounded(&answer, name);
        assert!(begin.elapsed() < JOB_TIME_MAX, "{name}: {:?}", begin.elapsed());
    }
}
