//! The words of the graph's commands: tags, queries, relations, the index.
//!
//! Never asks a mount. Always: where a command looks is `--in DIR`, else the current directory; what files it changes are named
//! one by one.

pub(crate) mod exchange;
pub(crate) mod tag;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::graph::exchange::{ExportArgs, ImportArgs};
use crate::cli::args::graph::tag::TagArgs;

/// What scripts rely on.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 found or done, 1 nothing found (of `index check`: differences; of `import`: something \
     could not be taken over), 2 wrong words or a malformed expression, 3 anything else (no mount, no index, refused)";

/// Commands that talk to the graph of a mount.
#[derive(Debug, Subcommand)]
pub(crate) enum GraphCommand {
    /// Tag files, and change tags
    #[command(after_help = EXIT_CODES)]
    Tag(TagArgs),
    /// Find files by tags, values, names, texts and relations
    #[command(after_help = EXIT_CODES)]
    Find(FindArgs),
    /// Count the tags and values of what an expression finds
    #[command(after_help = EXIT_CODES)]
    Facets(FacetsArgs),
    /// Find files that nobody has tagged
    #[command(after_help = EXIT_CODES)]
    Untagged(UntaggedArgs),
    /// Show how an expression is read and answered
    #[command(after_help = EXIT_CODES)]
    Explain(ExplainArgs),
    /// Show what a file has to do with, and how
    #[command(after_help = EXIT_CODES)]
    Related(RelatedArgs),
    /// Show files that look or read like one
    #[command(after_help = EXIT_CODES)]
    Similar(RelatedArgs),
    /// Show other versions of a file
    #[command(after_help = EXIT_CODES)]
    Versions(RelatedArgs),
    /// Show files with the same content, and the bytes to win
    #[command(after_help = EXIT_CODES)]
    Dups(DupsArgs),
    /// Relate a file to another by hand
    #[command(after_help = EXIT_CODES)]
    Link(LinkArgs),
    /// Save an expression under a name: it appears as .tags/@saved/NAME
    #[command(after_help = EXIT_CODES)]
    Save(SaveArgs),
    /// Show and steer what tags files by itself
    #[command(after_help = EXIT_CODES)]
    Tagger(TaggerArgs),
    /// Show changes as they happen, until interrupted
    #[command(after_help = EXIT_CODES)]
    Watch(WatchArgs),
    /// Ask the graph in Cypher, where Neo4j is configured
    #[command(after_help = EXIT_CODES)]
    Graph(GraphArgs),
    /// Write tags, comments, ratings and relations to a file
    #[command(after_help = EXIT_CODES)]
    Export(ExportArgs),
    /// Take tags over from a file of `export`, from TMSU, or from macOS
    #[command(after_help = EXIT_CODES)]
    Import(ImportArgs),
    /// Print a script that completes commands, tags and keys in a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// What the script calls
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

/// Where a command looks.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// A directory on a mount: only what lies below it is looked at [default: the current directory]
    #[arg(long = "in", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// How found files are shown.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Shown {
    /// End each path with a NUL instead of a new line, as xargs -0 reads it
    #[arg(short = '0', long, conflicts_with_all = ["json", "long"])]
    pub(crate) null: bool,
    /// One JSON object in each line
    #[arg(long, conflicts_with = "long")]
    pub(crate) json: bool,
    /// With kind, size and time of the last change
    #[arg(short = 'l', long)]
    pub(crate) long: bool,
    /// Only how many there are
    #[arg(long, conflicts_with_all = ["null", "long", "limit"])]
    pub(crate) count: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// Tags, key=value, ranges (size=10M.., mtime=7d), name:GLOB, ?WORDS, joined by "and" (or a blank), "or", "not", "," and
    /// parentheses; several words are joined by blanks
    #[arg(value_name = "EXPR", required = true)]
    pub(crate) expression: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

#[derive(Debug, Args)]
pub(crate) struct UntaggedArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

#[derive(Debug, Args)]
pub(crate) struct FacetsArgs {
    /// As of `find`; none: all files
    #[arg(value_name = "EXPR")]
    pub(crate) expression: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Only those that begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) prefix: String,
    /// At most so many, the most frequent first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// One JSON object in each line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// As of `find`
    #[arg(value_name = "EXPR", required = true)]
    pub(crate) expression: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RelatedArgs {
    /// A file on a mount
    pub(crate) file: PathBuf,
    /// End each path with a NUL instead of a new line, and show nothing else
    #[arg(short = '0', long, conflicts_with = "json")]
    pub(crate) null: bool,
    /// One JSON object in each line
    #[arg(long)]
    pub(crate) json: bool,
    /// At most so many, the strongest first
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) limit: u32,
    /// The link itself, not what it leads to
    #[arg(short = 'h', long)]
    pub(crate) no_dereference: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DupsArgs {
    /// A directory on a mount [default: the current directory]
    pub(crate) dir: Option<PathBuf>,
    /// One JSON object for each set
    #[arg(long)]
    pub(crate) json: bool,
    /// At most so many sets, those with most to win first
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// A file on a mount
    pub(crate) from: PathBuf,
    /// links-to, linked-from, derived (TO was made from it), sources (it was made from TO), versions or related
    pub(crate) relation: String,
    /// Another file on the same mount
    pub(crate) to: PathBuf,
    /// Take the relation away
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The query's name
    #[arg(value_name = "QUERY", required_unless_present = "list")]
    pub(crate) name: Option<String>,
    /// As of `find`
    #[arg(value_name = "EXPR", required_unless_present_any = ["remove", "list"])]
    pub(crate) expression: Vec<String>,
    /// Forget the query of that name
    #[arg(long, conflicts_with_all = ["expression", "list"])]
    pub(crate) remove: bool,
    /// Take the place of one of your own that has the name
    #[arg(long, conflicts_with_all = ["remove", "list"])]
    pub(crate) replace: bool,
    /// Show all
    #[arg(long, conflicts_with = "name")]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) place: Where,
    /// One JSON object in each line
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TaggerArgs {
    #[command(subcommand)]
    pub(crate) command: TaggerSubcommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaggerSubcommand {
    /// List them, with what they did
    Ls {
        #[command(flatten)]
        place: Where,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
    /// Let them look at files once more
    Run {
        /// Files on a mount
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Only this one
        #[arg(long, value_name = "NAME")]
        tagger: Option<String>,
    },
    /// Take no new files
    Pause {
        #[command(flatten)]
        place: Where,
    },
    /// Go on
    Resume {
        #[command(flatten)]
        place: Where,
    },
    /// Never give these files this tag (any more)
    Veto {
        /// Tags, parted by commas
        #[arg(value_name = "TAG")]
        tags: String,
        /// Files on a mount
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Take a veto back
    Unveto {
        /// Tags, parted by commas
        #[arg(value_name = "TAG")]
        tags: String,
        /// Files on a mount
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what they say of a file, and how far they are with it
    Test {
        /// A file on a mount
        file: PathBuf,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// As of `find`: only changes of what fits; none: all
    #[arg(value_name = "EXPR")]
    pub(crate) expression: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// One JSON object in each line
    #[arg(long)]
    pub(crate) json: bool,
    /// End after so many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(subcommand)]
    pub(crate) command: GraphSubcommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GraphSubcommand {
    /// A read-only question in Cypher; rows are JSON objects, one in each line
    Query {
        /// The question
        cypher: String,
        #[command(flatten)]
        place: Where,
    },
    /// Show how far Neo4j has followed, and what is wrong with it
    Status {
        #[command(flatten)]
        place: Where,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Build the index, and what follows it, anew from the metadata
    Rebuild {
        #[command(flatten)]
        place: Where,
    },
    /// Compare the index, and what follows it, with the metadata
    Check {
        #[command(flatten)]
        place: Where,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
}

/// `dgfs index`: the service itself, or questions to the one of a mount.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXIT_CODES)]
pub(crate) struct IndexArgs {
    #[command(subcommand)]
    pub(crate) command: Option<IndexSubcommand>,
    /// The service's configuration
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,
    /// Set by `dgfs up`
    #[arg(long, hide = true)]
    pub(crate) ready_fd: Option<i32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexSubcommand {
    /// Show how far the index of a mount is
    Status {
        /// A path on a mount [default: the current directory]
        path: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Return once everything that happened before is in the index
    Wait {
        /// A path on a mount [default: the current directory]
        path: Option<PathBuf>,
        /// And once the taggers have looked at everything, too
        #[arg(long)]
        taggers: bool,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        timeout: u64,
    },
    /// Build it anew from the metadata, while it goes on answering
    Rebuild {
        /// A path on a mount [default: the current directory]
        path: Option<PathBuf>,
    },
    /// Compare it with the metadata
    Check {
        /// A path on a mount [default: the current directory]
        path: Option<PathBuf>,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
}

/// Shells with completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// The command line up to the cursor as one text, answered for bash, which parts words at ":" and "="
    #[arg(long, value_name = "LINE", conflicts_with = "words")]
    pub(crate) line: Option<String>,
    /// The words up to the cursor, the last one perhaps unfinished
    #[arg(last = true)]
    pub(crate) words: Vec<String>,
}

#[cfg(test)]
mod tests;
