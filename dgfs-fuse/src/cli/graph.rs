//! The commands of the graph: tags, queries, relations, the index.
//!
//! Never opens an index and holds no connection: each command writes one request to `.tags/@ask` of the mount that a path lies on
//! and shows the lines of its answer. Always: an exit code says whether anything was found, as grep(1) does.
//!
//! Reading order: [`ask`] (a request and its answer) → [`expression`] and [`output`] (what goes in, what is shown) → one file for
//! each command.

mod ask;
mod catalogue;
mod change;
mod complete;
mod dups;
mod exchange;
mod expression;
mod facets;
mod files;
mod find;
mod index;
mod link;
mod local;
pub(crate) mod output;
mod places;
mod related;
mod save;
mod tag;
mod tagger;
mod watch;
mod xattr;

use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::cli::args::graph::{GraphCommand, IndexSubcommand};
use crate::cli::graph::output::Output;
use crate::cli::{CODE_USAGE, Failure};

/// Everything that is neither a wrong word nor an empty answer.
const CODE_REFUSED: u8 = 3;
/// Nothing was found.
const CODE_NOTHING: u8 = 1;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Outcome {
    /// Found, or done.
    Done,
    /// Asked, and there is nothing.
    Nothing,
}

impl Outcome {
    /// By whether anything was found.
    const fn of(found: bool) -> Self {
        if found { Self::Done } else { Self::Nothing }
    }

    fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Nothing => ExitCode::from(CODE_NOTHING),
        }
    }
}

type Ended = Result<Outcome, Failure>;

/// What a mount, the system or a file refused.
fn refused(sentence: impl std::fmt::Display) -> Failure {
    Failure::new(sentence).with_code(CODE_REFUSED)
}

/// Words that mean nothing.
fn misused(sentence: impl std::fmt::Display) -> Failure {
    Failure::new(sentence).with_code(CODE_USAGE)
}

/// Runs a command of the graph.
pub(crate) fn run(command: GraphCommand) -> Result<ExitCode, Failure> {
    with_output(|out| dispatch(command, out))
}

/// Runs a question to the index of a mount.
pub(crate) fn run_index(command: IndexSubcommand) -> Result<ExitCode, Failure> {
    with_output(|out| index::run(command, out))
}

fn with_output(command: impl FnOnce(&mut Output<'_>) -> Ended) -> Result<ExitCode, Failure> {
    let stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let mut writer = BufWriter::new(stdout.lock());
    let ended = command(&mut Output::new(&mut writer, is_terminal));
    // What was found before a failure is shown, too.
    let flushed = writer.flush().map_err(|error| refused(format!("write to the standard output: {error}")));
    let outcome = ended?;
    flushed?;
    Ok(outcome.code())
}

fn dispatch(command: GraphCommand, out: &mut Output<'_>) -> Ended {
    match command {
        GraphCommand::Tag(args) => tag::run(args.command, out),
        GraphCommand::Find(args) => find::run(&args.expression, &args.place, &args.shown, out),
        GraphCommand::Untagged(args) => find::untagged(&args.place, &args.shown, out),
        GraphCommand::Facets(args) => facets::run(&args, out),
        GraphCommand::Explain(args) => facets::explain(&args, out),
        GraphCommand::Related(args) => related::run(&args, None, out),
        GraphCommand::Similar(args) => related::run(&args, Some("similar"), out),
        GraphCommand::Versions(args) => related::run(&args, Some("versions"), out),
        GraphCommand::Dups(args) => dups::run(&args, out),
        GraphCommand::Link(args) => link::run(&args),
        GraphCommand::Save(args) => save::run(&args, out),
        GraphCommand::Tagger(args) => tagger::run(args.command, out),
        GraphCommand::Watch(args) => watch::run(&args, out),
        GraphCommand::Graph(args) => index::run_graph(args.command, out),
        GraphCommand::Export(args) => exchange::export::run(&args, out),
        GraphCommand::Import(args) => exchange::import::run(&args, out),
        GraphCommand::Completion { shell } => complete::script(shell, out),
        GraphCommand::Complete(args) => complete::run(&args, out),
    }
}
