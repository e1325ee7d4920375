//! What kind of word stands under the cursor.
//!
//! Never parses a command line for its meaning, which may be wrong yet: it is only read as far as it goes.

use std::path::PathBuf;

use clap::{Arg, Command};

/// What is to be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sought {
    /// The word so far.
    pub(super) word: String,
    pub(super) kind: Kind,
    /// Where tags are asked for: the value of `--in`.
    pub(super) directory: Option<PathBuf>,
}

/// Kinds of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of these.
    Words(Vec<String>),
    /// A comma list of tags.
    Tags,
    /// A word of an expression.
    Expression,
    /// The name of a saved query.
    Saved,
    /// The name of a relation.
    Relation,
    /// A path or anything else that the shell knows better.
    File,
}

/// How far a command line has been read.
struct Reading<'a> {
    command: &'a Command,
    positionals: usize,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    /// After `--`.
    only_positionals: bool,
    directory: Option<PathBuf>,
}

/// What the last of `words` is; none without any behind the program's name.
pub(super) fn sought(command: &Command, words: &[String]) -> Option<Sought> {
    let (word, before) = words.get(1..)?.split_last()?;
    let mut reading = Reading { command, positionals: 0, pending: None, only_positionals: false, directory: None };
    before.iter().for_each(|word| reading.read(word));
    let (word, kind) = reading.kind(word);
    Some(Sought { word, kind, directory: reading.directory })
}

impl<'a> Reading<'a> {
    fn read(&mut self, word: &str) {
        if let Some(option) = self.pending.take() {
            if option.get_long() == Some("in") {
                self.directory = Some(PathBuf::from(word));
            }
        } else if self.only_positionals || !word.starts_with('-') || word == "-" {
            self.positional(word);
        } else if word == "--" {
            self.only_positionals = true;
        } else if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                Some(("in", value)) => self.directory = Some(PathBuf::from(value)),
                Some(_) => {}
                None => self.pending = self.option(|arg| arg.get_long() == Some(long)),
            }
        } else {
            let last = word.chars().last();
            self.pending = self.option(|arg| arg.get_short() == last);
        }
    }

    fn positional(&mut self, word: &str) {
        match self.command.find_subcommand(word).filter(|_| self.positionals == 0) {
            Some(command) => self.command = command,
            None => self.positionals += 1,
        }
    }

    /// An option that takes a value.
    fn option(&self, is_it: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| !arg.is_positional() && arg.get_action().takes_values() && is_it(arg))
    }

    fn kind(&self, word: &str) -> (String, Kind) {
        if let Some(option) = self.pending {
            return (word.to_owned(), kind_of(option));
        }
        if word.starts_with('-') && !self.only_positionals {
            return (word.to_owned(), Kind::Words(self.options()));
        }
        let subcommands: Vec<String> = self
            .command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| command.get_name().to_owned())
            .collect();
        if self.positionals == 0 && !subcommands.is_empty() {
            return (word.to_owned(), Kind::Words(subcommands));
        }
        let positionals: Vec<&Arg> = self.command.get_positionals().collect();
        // The last one may take many words.
        let arg = positionals.get(self.positionals).or_else(|| positionals.last().filter(|arg| takes_many(arg)));
        (word.to_owned(), arg.map_or(Kind::File, |arg| kind_of(arg)))
    }

    fn options(&self) -> Vec<String> {
        let shown = self.command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
        shown.filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))).collect()
    }
}

fn takes_many(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range| range.max_values() > 1)
        || matches!(arg.get_action(), clap::ArgAction::Append)
}

fn kind_of(arg: &Arg) -> Kind {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return Kind::Words(possible.iter().map(|value| value.get_name().to_owned()).collect());
    }
    match arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()) {
        Some("TAG[,TAG]" | "TAG" | "INTO") => Kind::Tags,
        Some("EXPR") => Kind::Expression,
        Some("RELATION") => Kind::Relation,
        Some("QUERY") => Kind::Saved,
        Some(_) | None => Kind::File,
    }
}
