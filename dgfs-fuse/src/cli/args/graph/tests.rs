//! Words of the graph's commands, read.

use clap::Parser as _;

use super::tag::TagSubcommand;
use super::{GraphCommand, IndexSubcommand};
use crate::cli::args::{Cli, Command};

fn graph(words: &[&str]) -> GraphCommand {
    match read(words) {
        Ok(Command::Graph(command)) => command,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn read(words: &[&str]) -> Result<Command, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"dgfs").chain(words)).map(|cli| cli.command)
}

#[test]
fn an_expression_may_be_several_words() {
    let GraphCommand::Find(args) = graph(&["find", "beach", "size=10M..", "--in", "/m", "-0", "--", "-draft"]) else {
        panic!("not find")
    };
    assert_eq!(args.expression, ["beach", "size=10M..", "-draft"]);
    assert_eq!(args.place.dir.as_deref(), Some(std::path::Path::new("/m")));
    assert!(args.shown.null);
}

#[test]
fn files_come_from_words_or_the_standard_input() {
    let GraphCommand::Tag(args) = graph(&["tag", "add", "a,b", "x", "y"]) else { panic!("not tag") };
    assert!(matches!(args.command, TagSubcommand::Add { tags, files } if tags == "a,b" && files.files.len() == 2));
    assert!(read(&["tag", "rm", "a", "--stdin", "-0"]).is_ok());
    assert!(read(&["tag", "set", "", "-h", "x"]).is_ok(), "-h is no help here");
    assert!(read(&["tag", "add", "a", "--help"]).is_err_and(|error| !error.use_stderr()));
}

#[test]
fn index_is_the_service_or_a_question() {
    let Ok(Command::Index(args)) = read(&["index", "--config", "i.toml", "--ready-fd", "3"]) else {
        panic!("not the service")
    };
    assert!(args.command.is_none() && args.config.is_some());
    let Ok(Command::Index(args)) = read(&["index", "check", "/m"]) else { panic!("not a question") };
    assert!(matches!(args.command, Some(IndexSubcommand::Check { path: Some(_), json: false })));
    assert!(read(&["index"]).is_err() && read(&["index", "--config", "x", "status"]).is_err());
}

#[test]
fn contradictions_and_gaps_are_refused() {
    let wrong: &[&[&str]] = &[
        &["find"],
        &["find", "a", "-0", "--json"],
        &["find", "a", "--count", "--limit", "3"],
        &["find", "a", "--limit", "0"],
        &["tag", "add", "a"],
        &["tag", "add", "a", "x", "-0"],
        &["save"],
        &["save", "n"],
        &["save", "n", "a", "--remove"],
        &["save", "--list", "n"],
        &["export", "--format", "tmsu"],
        &["link", "a", "links-to"],
        &["tagger", "veto", "a"],
        &["completion", "tcsh"],
    ];
    for words in wrong {
        assert!(read(words).is_err_and(|error| error.use_stderr()), "{words:?}");
    }
    for words in [&["save", "n", "a"][..], &["save", "--remove", "n"], &["save", "--list", "--json"], &["facets"]] {
        assert!(read(words).is_ok(), "{words:?}: {:?}", read(words).err());
    }
}
