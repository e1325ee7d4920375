//! `dgfs completion`, and what its scripts call: candidates for the word under the cursor.
//!
//! Never says why there is none, and never keeps a shell waiting longer than [`PATIENCE`]: then only words that need no mount are
//! offered. Commands and options come from the parser itself, so no script has to be written anew for a new option.

mod bash;
mod words;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use dgfs_proto::query::{Query, Relation, Test, show};
use dgfs_proto::tag::Tag;

use crate::cli::Failure;
use crate::cli::args::Cli;
use crate::cli::args::graph::{CompleteArgs, Shell, Where};
use crate::cli::graph::ask::Ask as _;
use crate::cli::graph::output::{Output, text};
use crate::cli::graph::places::mount_in;
use crate::cli::graph::{Ended, Outcome};

use self::words::{Kind, Sought};

/// How long a mount may take to name its tags.
const PATIENCE: Duration = Duration::from_millis(300);
/// Tags offered at most: more fill the screen and help nobody.
const OFFERED_MAX: u32 = 200;
/// Keys that the system knows itself.
const KEYS: [&str; 13] =
    ["size", "mtime", "ctime", "btime", "taken", "type", "ext", "mime", "lang", "owner", "group", "nlink", "hash"];
/// Further beginnings of tests.
const TESTS: [&str; 7] = ["@all", "@untagged", "@recent", SAVED, "name:", "text:", "not:"];
/// What a saved query begins with.
const SAVED: &str = "@saved/";

/// Prints a shell's script.
pub(crate) fn script(shell: Shell, out: &mut Output<'_>) -> Ended {
    let script = match shell {
        Shell::Bash => include_str!("complete/dgfs.bash"),
        Shell::Zsh => include_str!("complete/dgfs.zsh"),
        Shell::Fish => include_str!("complete/dgfs.fish"),
    };
    out.raw(script.as_bytes())?;
    Ok(Outcome::Done)
}

/// Prints candidates, one in each line.
pub(crate) fn run(args: &CompleteArgs, out: &mut Output<'_>) -> Ended {
    let words = args.line.as_deref().map_or_else(|| args.words.clone(), bash::words);
    let mut found = candidates(&words, &ask);
    if args.line.is_some() {
        found = bash::trimmed(words.last().map_or("", String::as_str), found);
    }
    found.iter().filter(|one| !one.contains('\n')).try_for_each(|one| out.line(one))?;
    Ok(Outcome::Done)
}

/// The lines that the mount of a directory answers; none when it does not, in time.
fn ask(directory: Option<&Path>, request: &Value) -> Vec<Value> {
    let (place, request) = (Where { dir: directory.map(Path::to_owned) }, request.clone());
    let (answer, answered) = channel();
    // It is left behind when it takes too long; the process ends with the answer of the others.
    std::thread::spawn(move || {
        let lines: Result<Vec<Value>, Failure> = mount_in(&place).and_then(|mount| mount.lines(&request));
        let _ = answer.send(lines.unwrap_or_default());
    });
    answered.recv_timeout(PATIENCE).unwrap_or_default()
}

type Asked<'a> = &'a dyn Fn(Option<&Path>, &Value) -> Vec<Value>;

/// Candidates for the last of `words`, of which the first is the program's name.
fn candidates(words: &[String], ask: Asked<'_>) -> Vec<String> {
    let mut command = Cli::command();
    command.build();
    let Some(Sought { word, kind, directory }) = words::sought(&command, words) else { return Vec::new() };
    match kind {
        Kind::Words(all) => all.into_iter().filter(|one| one.starts_with(&word)).collect(),
        Kind::Tags => tags(&word, directory.as_ref(), ask),
        Kind::Expression => expression(&word, directory.as_ref(), ask),
        Kind::Relation => relations(&word),
        Kind::Saved => saved("", &word, directory.as_ref(), ask),
        Kind::File => Vec::new(),
    }
}

fn relations(word: &str) -> Vec<String> {
    Relation::ALL.iter().map(ToString::to_string).filter(|name| name.starts_with(word)).collect()
}

/// Names that begin with `prefix`, as the graph has them.
fn facets(prefix: &str, directory: Option<&PathBuf>, ask: Asked<'_>) -> Vec<String> {
    let request = json!({ "facets": "", "prefix": prefix, "limit": OFFERED_MAX });
    let lines = ask(directory.map(PathBuf::as_path), &request);
    lines.iter().map(|line| text(line, "name").to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Names of saved queries that begin with `word`, each behind `head`.
fn saved(head: &str, word: &str, directory: Option<&PathBuf>, ask: Asked<'_>) -> Vec<String> {
    let lines = ask(directory.map(PathBuf::as_path), &json!({ "saved": true }));
    let names = lines.iter().map(|line| text(line, "name")).filter(|name| name.starts_with(word));
    names.take(OFFERED_MAX as usize).map(|name| format!("{head}{name}")).collect()
}

/// Tags for the last one of a comma list.
fn tags(word: &str, directory: Option<&PathBuf>, ask: Asked<'_>) -> Vec<String> {
    let (head, last) = last_piece(word, &[',']);
    facets(last, directory, ask).into_iter().map(|name| format!("{head}{name}")).collect()
}

/// Tests for the last one of a word of an expression.
fn expression(word: &str, directory: Option<&PathBuf>, ask: Asked<'_>) -> Vec<String> {
    let (head, last) = last_piece(word, &[',', '(', ' ']);
    let (sign, last) = match last.strip_prefix("not:").or_else(|| last.strip_prefix(['-', '!'])) {
        Some(rest) => last.split_at(last.len() - rest.len()),
        None => ("", last),
    };
    if let Some(name) = last.strip_prefix(SAVED) {
        return saved(&format!("{head}{sign}{SAVED}"), name, directory, ask);
    }
    let names = facets(last, directory, ask);
    let mut offered: Vec<String> = if last.contains('=') {
        names
    } else {
        // Of a key first only the key, as it may have very many values.
        let one = |name: &String| name.split_once('=').map_or_else(|| spelt(name), |(key, _)| format!("{key}="));
        let keys = KEYS.iter().map(|key| format!("{key}="));
        let own = keys.chain(TESTS.map(str::to_owned)).filter(|test| !last.is_empty() && test.starts_with(last));
        names.iter().map(one).chain(own).collect()
    };
    offered.sort_unstable();
    offered.dedup();
    offered.into_iter().map(|test| format!("{head}{sign}{test}")).collect()
}

/// A tag as an expression spells it: with quotes where it needs some.
fn spelt(name: &str) -> String {
    match Tag::parse(name) {
        Ok(tag) => show::show_expr(&Query { clauses: vec![dgfs_proto::query::Atom::from(Test::Tag(tag)).into()] }),
        Err(_) => name.to_owned(),
    }
}

/// What stands before the last piece, and the piece.
fn last_piece<'a>(word: &'a str, separators: &[char]) -> (&'a str, &'a str) {
    word.split_at(word.rfind(separators).map_or(0, |at| at + 1))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::candidates;

    fn complete(line: &[&str]) -> Vec<String> {
        let words: Vec<String> = std::iter::once(&"dgfs").chain(line).map(|word| (*word).to_owned()).collect();
        candidates(&words, &|directory: Option<&Path>, request: &Value| {
            if *request == json!({ "saved": true }) {
                return vec![json!({ "name": "holidays" }), json!({ "name": "home work" })];
            }
            let names = ["beach", "beach ball", "place:cn", "year=2019", "year=2020"];
            let prefix = request["prefix"].as_str().unwrap();
            let names = names.iter().filter(|name| name.starts_with(prefix));
            let there = directory.is_none_or(|directory| directory == Path::new("/m"));
            names.filter(|_| there).map(|name| json!({ "name": name, "count": 1 })).collect()
        })
    }

    #[test]
    fn commands_and_options_come_from_the_parser() {
        assert_eq!(complete(&["fin"]), ["find"]);
        assert_eq!(complete(&["tag", "un"]), ["unalias", "unimply"]);
        assert!(complete(&["find", "--nu"]).contains(&"--null".to_owned()));
        assert!(complete(&["index", "check", "--js"]).contains(&"--json".to_owned()));
        assert!(!complete(&[""]).iter().any(|word| word == "__complete"), "hidden");
        assert_eq!(complete(&["export", "--format", ""]), ["jsonl", "tmsu"]);
        assert_eq!(complete(&["completion", "b"]), ["bash"]);
        assert_eq!(complete(&["link", "a", "link"]), ["links-to", "linked-from"]);
    }

    #[test]
    fn tags_are_completed_in_lists() {
        assert_eq!(complete(&["tag", "add", "be"]), ["beach", "beach ball"]);
        assert_eq!(complete(&["tag", "rm", "sun,pl"]), ["sun,place:cn"]);
        assert_eq!(complete(&["tag", "merge", "x", "pl"]), ["place:cn"]);
        assert!(complete(&["tag", "add", "x", "be"]).is_empty(), "a file: the shell's own work");
        assert!(complete(&["tag", "ls", "be"]).is_empty());
    }

    #[test]
    fn tests_of_expressions_are_completed_by_keys_first() {
        assert_eq!(complete(&["find", "be"]), ["\"beach ball\"", "beach"]);
        assert_eq!(complete(&["find", "x", "ye"]), ["year="]);
        assert_eq!(complete(&["find", "year=20"]), ["year=2019", "year=2020"]);
        assert_eq!(complete(&["find", "x,not:pl"]), ["x,not:place:cn"]);
        assert_eq!(complete(&["find", "mt"]), ["mtime="]);
        assert_eq!(complete(&["find", "@un"]), ["@untagged"]);
        assert_eq!(complete(&["find", "--in", "/m", "pl"]), ["place:cn"]);
        assert!(complete(&["find", "--in", "/other", "pl"]).is_empty());
        assert_eq!(complete(&["save", "n", "(x or pl"]), ["(x or place:cn"]);
        assert_eq!(complete(&["find", "not:be"]), ["not:\"beach ball\"", "not:beach"]);
        assert_eq!(complete(&["find", "--", "-pl"]), ["-place:cn"]);
        assert_eq!(complete(&["find", "x -pl"]), ["x -place:cn"]);
    }

    #[test]
    fn saved_queries_are_completed_by_name() {
        assert_eq!(complete(&["find", "@sav"]), ["@saved/"]);
        assert_eq!(complete(&["find", "@saved/hol"]), ["@saved/holidays"]);
        assert_eq!(complete(&["find", "x,not:@saved/hol"]), ["x,not:@saved/holidays"]);
        assert_eq!(complete(&["save", "--remove", "ho"]), ["holidays", "home work"]);
    }
}
