//! The language of `.tags`, row by row, as docs/TAGS.md has it: by shell lines, through the kernel.
//!
//! Never a row of the page without a case: the page is read, and what it names must be tried. Always: a case begins with the same
//! files and tags, and after it every byte of every file is what it was, but for cases that write.

mod grammar;
mod operations;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run};
use dgfs_tests::program::dgfs;

const PATIENCE: Duration = Duration::from_secs(120);
const FIXTURE: &str = include_str!("tags_table/fixture.sh");
const PRELUDE: &str = include_str!("tags_table/prelude.sh");
/// More for the grammar: names that need quoting, a relation, a saved query.
const MORE: &str = r#"
give 'beach,summer trip,50% "off",sl/ash' photos/b.jpg
dgfs link docs/report.txt links-to docs/plain.txt
ln -s beach/sun .tags/@saved/mine
dgfs index wait --taggers --timeout 100 .
"#;
/// How the page's errnos read on a terminal; several where programs put them in their own words.
const SENTENCES: &[(&str, &[&str])] = &[
    ("EEXIST", &["File exists"]),
    ("EINVAL", &["Invalid argument", "to a subdirectory of itself"]),
    ("EPERM", &["Operation not permitted", "hard link not allowed"]),
    ("ENOTEMPTY", &["Directory not empty"]),
    ("EXDEV", &["cross-device"]),
    ("ENOENT", &["No such file or directory"]),
];

/// Does a path try it?
type Tries = Box<dyn Fn(&grammar::Asked) -> bool>;

/// A shell line and what it must come to.
struct Case {
    /// Where the row's first cell begins, or the program.
    of: &'static str,
    /// In the volume's root.
    line: &'static str,
    /// Nothing: it succeeds. Else it fails, and says this.
    ends: &'static str,
    /// A line that succeeds afterwards.
    holds: &'static str,
}

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/TAGS.md");
    fs::read_to_string(page).expect("read docs/TAGS.md")
}

fn sh(mount: &Mount, line: &str) -> Outcome {
    let program = dgfs().parent().expect("a directory").display();
    let line = format!("export PATH='{program}':\"$PATH\" LC_ALL=C.UTF-8; cd '{}'; {line}", mount.path().display());
    run("sh", &["-euc", &line], PATIENCE)
}

/// Bytes of every file, by path.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("list").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
    all
}

/// What is wrong with a case.
fn tried(mount: &Mount, case: &Case, keeps_data: bool) -> Result<(), String> {
    let Case { of, line, ends, holds } = case;
    let _ = sh(mount, FIXTURE).expect_success("the files that a case begins with");
    let before = contents(mount.path());
    let outcome = sh(mount, &format!("{PRELUDE}\n{line}"));
    let said = format!("{of}: {line}: {} {}{}", outcome.status, outcome.output, outcome.errors);
    let is_so = match ends.is_empty() {
        true => outcome.status.success(),
        false => !outcome.status.success() && outcome.errors.contains(ends),
    };
    if !is_so {
        return Err(format!("{said} (expected: {ends:?})"));
    }
    let after = sh(mount, &format!("{PRELUDE}\n{holds}"));
    if !after.status.success() {
        return Err(format!("{said}; then {holds}: {}{}", after.output, after.errors));
    }
    match keeps_data && contents(mount.path()) != before {
        true => Err(format!("{said}; files are not what they were")),
        false => Ok(()),
    }
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Cells of the operations table: what is done, and the errnos that are named.
fn rows() -> Vec<(String, Vec<String>)> {
    let page = page();
    let table = page.lines().skip_while(|line| !line.starts_with("| operation |")).skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let named = SENTENCES.iter().map(|(errno, _)| *errno);
        // What is in parentheses is why, not what.
        let errnos = cells.last().map_or("", |cell| cell.split(" (on ").next().unwrap_or_default());
        let errnos = named.filter(|errno| errnos.contains(&format!("`{errno}`"))).map(str::to_owned).collect();
        (cells[0].trim_start_matches('`').to_owned(), errnos)
    };
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

#[test]
fn every_row_of_the_operations_table_has_cases_for_what_it_does_and_for_each_errno() {
    let rows = rows();
    assert!(rows.len() >= 13, "{rows:?}");
    let mut missing = Vec::new();
    for (operation, errnos) in &rows {
        let cases: Vec<&Case> = operations::CASES.iter().filter(|case| operation.starts_with(case.of)).collect();
        if cases.is_empty() {
            missing.push(format!("{operation}: no case"));
        }
        for errno in errnos {
            let (_, sentences) = SENTENCES.iter().find(|(name, _)| name == errno).expect("a known errno");
            if !cases.iter().any(|case| sentences.contains(&case.ends)) {
                missing.push(format!("{operation}: no case ends with {errno}"));
            }
        }
    }
    let begins = |case: &&Case| !rows.iter().any(|(operation, _)| operation.starts_with(case.of));
    missing.extend(operations::CASES.iter().filter(begins).map(|case| format!("no row begins with {:?}", case.of)));
    assert_none(&missing);
}

#[test]
fn every_operation_does_what_its_row_says_and_keeps_every_byte() {
    let mount = Mount::embedded();
    let keeps = |case: &Case| !case.of.starts_with("write");
    let wrong: Vec<String> =
        operations::CASES.iter().filter_map(|case| tried(&mount, case, keeps(case)).err()).collect();
    assert_none(&wrong);
}

#[test]
fn programs_that_know_nothing_of_tags_work_on_them() {
    let mount = Mount::embedded();
    let wrong: Vec<String> = programs::CASES.iter().filter_map(|case| tried(&mount, case, false).err()).collect();
    assert_none(&wrong);
}

/// Words of the page that a path must have: its productions, specials, relations and keys.
fn productions() -> Vec<(String, Tries)> {
    let page = page();
    let mut wanted: Vec<(String, Tries)> = Vec::new();
    let block = page.split("```").nth(1).expect("the grammar");
    for line in block.lines() {
        let Some((name, rule)) = line.split_once('=') else { continue };
        let name = name.trim().to_owned();
        if name == "relname" {
            for relation in rule.split('|').map(|word| word.trim().to_owned()) {
                let ends = format!("/{relation}");
                wanted.push((relation, Box::new(move |asked| asked.path.contains(&ends))));
            }
        } else if name.chars().all(|letter| letter.is_ascii_lowercase()) {
            wanted.push((name.clone(), Box::new(move |asked| asked.of == name)));
        }
    }
    for word in block.split(|letter: char| !(letter.is_alphanumeric() || letter == '@')) {
        if let (true, word) = (word.len() > 1 && word.starts_with('@'), word.to_owned()) {
            wanted.push((word.clone(), Box::new(move |asked| asked.path.contains(&word))));
        }
    }
    let keys = page.split("Reserved keys: `").nth(1).and_then(|rest| rest.split('`').next()).expect("the keys");
    for key in keys.split_whitespace() {
        let begins = format!("{key}=");
        wanted.push((begins.clone(), Box::new(move |asked| asked.path.trim_matches('\'').starts_with(&begins))));
    }
    wanted
}

#[test]
fn every_production_and_key_of_the_grammar_has_a_path() {
    let wanted = productions();
    assert!(wanted.len() >= 40, "{} productions", wanted.len());
    let lacks = |is_so: &dyn Fn(&grammar::Asked) -> bool| !grammar::ASKED.iter().any(is_so);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(_, is_so)| lacks(is_so.as_ref()))
        .map(|(name, _)| format!("no path for {name}"))
        .collect();
    assert_none(&missing);
}

#[test]
fn every_path_of_the_grammar_leads_to_what_it_says() {
    let mount = Mount::embedded();
    let _ = sh(&mount, &format!("{FIXTURE}\n{MORE}")).expect_success("the files that the paths lead to");
    let names = format!("{PRELUDE}\nREPORT=$(id docs/report.txt) PLAIN=$(id docs/plain.txt)\n");
    let id = sh(&mount, &format!("{PRELUDE}\nid docs/a.jpg")).expect_success("a number");
    let mut wrong = Vec::new();
    for asked in grammar::ASKED {
        let grammar::Asked { of, path, finds } = asked;
        let program = if finds.starts_with('=') { "cat" } else { "LC_ALL=C ls" };
        let outcome = sh(&mount, &format!("{names} {program} -- .tags/{path}"));
        let listed: Vec<&str> = outcome.output.lines().filter(|name| !name.starts_with('@')).collect();
        let listed = listed.join(" ").replace(id.trim(), "~ID");
        let is_so = match finds.split_at_checked(1) {
            Some(("!", sentence)) => !outcome.status.success() && outcome.errors.contains(sentence),
            Some(("=", words)) => outcome.status.success() && outcome.output.contains(words),
            Some(("*", _)) => outcome.status.success() && !listed.is_empty(),
            _ => outcome.status.success() && listed == *finds,
        };
        if !is_so {
            wrong.push(format!("{of}: .tags/{path}: {listed:?} {} (expected: {finds:?})", outcome.errors));
        }
    }
    assert_none(&wrong);
}
