//! What is malformed: queries are refused with the place and what was expected; corrupt documents cost one bounded job each.
//!
//! Never trusts that a worker lived: the memory that its process had at most is read while it works. `DGFS_BAD_SEED` repeats the
//! documents.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use dgfs_tests::edges::{ask, ask_text};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{children, run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::rng::Rng;

const PATIENCE: Duration = Duration::from_secs(240);
/// What a worker may have of memory: docs/TAGGERS.md says so.
const WORKER_BYTES_MAX: u64 = 1 << 30;
/// What the mount's process may have meanwhile: of two files at a time the 64 MiB that are read, once more for the worker, and its
/// caches.
const MOUNT_BYTES_MAX: u64 = 1 << 30;
/// Fuzzed documents.
const FUZZED: usize = 24;

/// An expression, where it goes wrong (counted in bytes), and words that say what was expected.
const MALFORMED: &[(&str, u64, &str)] = &[
    ("(beach", 6, "a closing \")\""),
    ("beach)", 5, "the end, or an opening \"(\""),
    ("beach and", 9, "a test, such as a tag or key=value"),
    ("or beach", 0, "a test"),
    ("not", 3, "a test"),
    ("()", 1, "a test"),
    ("a,,b", 2, "a tag, key=value, text:words"),
    ("not:", 4, "a tag, key=value"),
    ("\"open", 0, "the end of what \" begins"),
    ("beach\\", 5, "a character behind"),
    ("size=big", 5, "a size such as 4096, 10M"),
    ("size<>5", 5, "a size such as"),
    ("size=5..2", 5, "the lower bound of a range before the upper one"),
    ("x=..", 2, "a bound before or behind \"..\""),
    ("mtime=2024-13", 6, "a date such as 2024"),
    ("mtime=7x", 6, "an age such as 7d"),
    ("mtime=2024-01..7d", 6, "both bounds of a range to be of one kind"),
    ("rating<x", 7, "a number here"),
    ("name:", 5, "a glob such as *.mp4"),
    ("name:[a", 5, "a \"]\" for this \"[\""),
    ("text:", 5, "at least one word to search for"),
    ("a/b", 1, "a space for AND"),
    ("=x", 0, "a key before \"=\""),
    ("a%ZZ", 1, "two hexadecimal digits behind \"%\""),
    ("a::b", 0, "a name between \":\" and \":\""),
    ("..", 0, "a tag that does not begin with \".\""),
    ("@nothing", 0, "@all, @untagged, @recent"),
    ("@of/x", 5, "\"/\" and a relation"),
    ("@of/x/cousins", 6, "tags, similar, related"),
    ("@date/20", 6, "a year of four digits"),
    ("@date/2024/13", 11, "a month from 01 to 12"),
    ("@saved/", 7, "the name of a saved query"),
];

#[test]
fn a_malformed_query_is_refused_with_the_place_and_what_was_expected() {
    let mount = Mount::embedded();
    let root = mount.path().to_str().expect("UTF-8");
    let mut wrong = Vec::new();
    for (text, at, expected) in MALFORMED {
        let answer = ask(mount.path(), &json!({ "find": text })).remove(0);
        let told = answer["expected"].as_str().unwrap_or_default();
        if answer["at"] != *at || !told.contains(expected) || answer["error"].as_str().is_none() {
            wrong.push(format!("{text:?}: {answer} (expected {expected:?} at {at})"));
        }
        let outcome = run(dgfs(), &["find", "--in", root, "--", text], PATIENCE);
        let mark = format!("{:at$}^", "", at = usize::try_from(*at).unwrap());
        let is_drawn = outcome.errors.lines().any(|line| line == mark);
        if outcome.status.code() != Some(2) || !outcome.errors.contains(expected) || !is_drawn {
            wrong.push(format!("dgfs find {text:?}: {} {}", outcome.status, outcome.errors));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let deep = format!("{}a", "(".repeat(65));
    let answer = ask(mount.path(), &json!({ "find": deep })).remove(0);
    assert!(answer["expected"].as_str().unwrap_or_default().contains("64 parentheses"), "{answer}");
    assert_eq!(ask(mount.path(), &json!({ "count": "" }))[0]["count"], 0, "it goes on answering");
}

const PDF: &str = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
                   3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n\
                   4 0 obj<</Length 44>>stream\nBT /F1 12 Tf 72 720 Td (erasure coding) Tj ET\nendstream endobj\n\
                   5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n";
/// Makes what the standard library of Rust has no words for: archives that unpack to hundreds of times their size.
const BOMBS: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + '/bomb.docx', 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('[Content_Types].xml', '<Types/>')
    with archive.open('word/document.xml', 'w') as member:
        for _ in range(300):
            member.write(b'<a>' + b' ' * (1 << 20))
with zipfile.ZipFile(sys.argv[1] + '/bomb.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
    for number in range(20000):
        archive.writestr('x' * 200 + str(number), b'')
"#;

/// A document with some of its bytes changed, taken out, or put in many times.
fn fuzzed(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = PDF.as_bytes().to_vec();
    for _ in 0..=rng.below(12) {
        let at = rng.index(bytes.len() + 1);
        let end = (at + rng.index(50)).min(bytes.len());
        let new = match rng.below(4) {
            0 => vec![rng.next() as u8; end - at],
            1 => Vec::new(),
            2 => bytes[at..end].repeat(2 + rng.index(50)),
            _ => b"999999999".to_vec(),
        };
        drop(bytes.splice(at..end, new));
    }
    bytes
}

/// Documents that are made to cost much.
fn corrupt(directory: &Path, rng: &mut Rng) {
    for number in 0..FUZZED {
        fs::write(directory.join(format!("fuzzed{number}.pdf")), fuzzed(rng)).unwrap();
    }
    let _ = run("python3", &["-c", BOMBS, directory.to_str().unwrap()], PATIENCE).expect_success("make ZIP bombs");
    File::create(directory.join("sparse.txt")).unwrap().set_len(10 << 30).unwrap();
    let mut laughs = String::from("<!DOCTYPE l [<!ENTITY a0 \"lol\">");
    for level in 1..12 {
        let _ = write!(laughs, "<!ENTITY a{level} \"{}\">", format!("&a{};", level - 1).repeat(10));
    }
    fs::write(directory.join("laughs.xml"), laughs + "]><l>&a11;</l>").unwrap();
    fs::write(directory.join("deep.xml"), "<a>".repeat(2_000_000)).unwrap();
    fs::write(directory.join("deep.html"), format!("<html><body>{}", "<div><b>".repeat(1_000_000))).unwrap();
    fs::write(directory.join("comment.html"), format!("<html><!-- {}", "x".repeat(40_000_000))).unwrap();
    fs::write(directory.join("attributes.html"), format!("<html><a {}", "a=\"b\" ".repeat(4_000_000))).unwrap();
}

/// The most memory that a process had at once, in bytes; 0 of one that is gone.
fn memory_at_most(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn attribute(path: &Path) -> String {
    run("getfattr", &["--only-values", "-n", "user.dgfs.index", path.to_str().unwrap()], PATIENCE).output
}

#[test]
fn corrupt_documents_cost_one_bounded_job_each() {
    let (mut rng, _) = Rng::announced("DGFS_BAD_SEED");
    let mount = Mount::embedded();
    let bad = mount.join("bad");
    fs::create_dir(&bad).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (pid, ended) = (mount.pid(), Arc::clone(&done));
    let watch = thread::spawn(move || {
        let mut most = 0;
        while !ended.load(Ordering::SeqCst) {
            most = children(pid).into_iter().map(memory_at_most).fold(most, u64::max);
            thread::sleep(Duration::from_millis(5));
        }
        most
    });
    corrupt(&bad, &mut rng);
    for number in 0..20 {
        let text = format!("The harbour has lighthouse number {number}: a lighthouse of the harbour.\n");
        fs::write(mount.join(format!("good{number}.md")), text).unwrap();
    }
    wait_until("other files are tagged meanwhile", PATIENCE, || {
        (0..20).all(|number| attribute(&mount.join(format!("good{number}.md"))) == "done")
    });
    let root = mount.path().to_str().unwrap();
    let wait = ["index", "wait", "--taggers", "--timeout", "200", root];
    let _ = run(dgfs(), &wait, PATIENCE).expect_success("each job has an end");
    done.store(true, Ordering::SeqCst);
    let worker = watch.join().unwrap();
    println!("workers had {} MiB at most, the mount {} MiB", worker >> 20, memory_at_most(pid) >> 20);
    assert!(worker > 0 && worker <= WORKER_BYTES_MAX, "{worker}");
    assert!(memory_at_most(pid) <= MOUNT_BYTES_MAX, "{}", memory_at_most(pid));
    for entry in fs::read_dir(&bad).unwrap().flatten() {
        let said = attribute(&entry.path());
        assert!(said == "done" || said.starts_with("failed:"), "{}: {said}", entry.path().display());
    }
    assert_eq!(ask(mount.path(), &json!({ "count": "text:lighthouse" }))[0]["count"], 20);
    let _ = run(dgfs(), &["index", "check", root], PATIENCE).expect_success("the index is right");
}

#[test]
fn a_request_that_is_none_is_refused_by_a_sentence_and_the_next_is_answered() {
    let mount = Mount::embedded();
    for request in ["{", "[]", "{\"find\": 7}", "{\"fnd\": \"a\"}", "\u{0}\u{1}", "{\"find\": \"a\", \"limit\": -1}"] {
        let said = ask_text(mount.path(), request.as_bytes());
        let sentence = said[0]["error"].as_str().unwrap_or_default();
        assert!(said.len() == 1 && sentence.len() > 10, "{request:?}: {said:?}");
        assert_eq!(ask(mount.path(), &json!({ "count": "" }))[0]["count"], 0);
    }
}
