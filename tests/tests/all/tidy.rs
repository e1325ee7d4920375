//! Rules of the sources that no compiler holds.
//!
//! Never judges wording. Each rule names the file and the line, so that a failure is a list of places to mend.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a production file at most, its tests not counted.
const LINES_MAX: usize = 500;
/// Files that are one long table and are read as such.
const TABLES: &[&str] = &["dgfs-proto/src/meta.rs"];
/// Where a sync or a rename may be asked of the operating system: elsewhere `dgfs_runtime::disk` does it.
const MAY_SYNC: &[&str] = &["dgfs-runtime/src/disk.rs", "dgfs-stored/src/index/sled_index.rs"];
/// Where the foreign API of the kernel adapter may be named.
const MAY_NAME_FUSER: &str = "dgfs-fuse/src/adapter";

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.name);
    assert_none(silent, "begin with `//!`: what it does, what it never does, what is always true");
}

#[test]
fn production_files_have_at_most_500_lines() {
    let long = sources().into_iter().filter(Source::is_production).filter(|source| !TABLES.contains(&&*source.name));
    let long = long.map(|source| (source.production_lines(), source.name)).filter(|(lines, _)| *lines > LINES_MAX);
    assert_none(long.map(|(lines, name)| format!("{name}: {lines} lines")), "split it at its second job");
}

#[test]
fn nothing_is_left_for_later() {
    let later = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"];
    let found =
        lines(|source, line| source.name != "tests/tests/all/tidy.rs" && later.iter().any(|word| names(line, word)));
    assert_none(found, "finish it, or file an issue and name its number");
}

#[test]
fn the_kernel_library_is_named_in_the_adapter_only() {
    let found = lines(|source, line| {
        !source.name.starts_with(MAY_NAME_FUSER) && (line.contains("fuser::") || line.contains("use fuser"))
    });
    let found = found.into_iter().filter(|place| !place.contains("tidy.rs"));
    assert_none(found, "the adapter translates; everything else uses its words");
}

#[test]
fn only_the_disk_module_syncs_and_renames() {
    let calls = [
        ".sync_all()",
        ".sync_data()",
        "fs::rename(",
        "libc::fsync",
        "libc::fdatasync",
        "libc::rename",
        "sync_file_range",
    ];
    let found = lines(|source, line| {
        source.is_production()
            && !source.name.starts_with("tests/")
            && !MAY_SYNC.contains(&&*source.name)
            && calls.iter().any(|call| line.contains(call))
    });
    assert_none(found, "call dgfs_runtime::disk: so there is one place that knows what is durable");
}

#[test]
fn imports_are_named_one_by_one() {
    let found = lines(|_, line| line.trim_start().starts_with("use ") && line.contains("::*"));
    assert_none(found, "a glob hides where a word comes from");
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let root = root();
    let parent = root.parent().filter(|parent| parent.components().count() > 1).unwrap_or(&root);
    let here = format!("{}/", parent.display());
    let mut found = Vec::new();
    for name in tracked() {
        let Ok(text) = std::fs::read_to_string(root.join(&name)) else { continue };
        found.extend(text.lines().enumerate().filter(|(_, line)| line.contains(&here)).map(|(at, _)| place(&name, at)));
    }
    assert_none(found, "name no path of this machine");
}

/// A Rust file of the workspace.
struct Source {
    /// From the root.
    name: String,
    text: String,
}

impl Source {
    fn is_production(&self) -> bool {
        !self.name.contains("/tests/") && !self.name.ends_with("/tests.rs") && !self.name.contains("/testing")
    }

    /// Lines before the tests at the end of the file.
    fn production_lines(&self) -> usize {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]").count()
    }
}

/// Places `FILE:LINE` of production code (comments and tests at the end of a file left out) that `is_wrong` finds.
fn lines(is_wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate().take(source.production_lines()) {
            if !line.trim_start().starts_with("//") && is_wrong(&source, line) {
                found.push(place(&source.name, at));
            }
        }
    }
    found
}

fn place(name: &str, line: usize) -> String {
    format!("{name}:{}", line + 1)
}

/// `line` has `word`, and not as the end of a longer one.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().last());
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

fn sources() -> Vec<Source> {
    let rust = tracked().into_iter().filter(|name| name.ends_with(".rs"));
    // A file that is renamed in the work tree may be listed and gone.
    rust.filter_map(|name| std::fs::read_to_string(root().join(&name)).ok().map(|text| Source { name, text })).collect()
}

fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn assert_none(found: impl IntoIterator<Item = String>, remedy: &str) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{remedy}:\n  {}", found.join("\n  "));
}
