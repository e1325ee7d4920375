//! The words of `dgfs export` and `dgfs import`.
//!
//! Never opens a file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::graph::Where;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// JSON lines: everything
    Jsonl,
    /// A database of TMSU 0.7: tags, values, implications
    Tmsu,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// By what it looks like
    Auto,
    /// JSON lines of `dgfs export`
    Jsonl,
    /// A database of TMSU (.tmsu/db)
    Tmsu,
    /// The Finder's tags: extended attributes of the files below a directory
    Macos,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A directory on a mount [default: the current directory]
    pub(crate) dir: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value = "jsonl")]
    pub(crate) format: ExportFormat,
    /// Where to [default: the standard output; a database needs a file that does not exist yet]
    #[arg(short = 'o', long, value_name = "FILE", required_if_eq("format", "tmsu"))]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, or "-" for JSON lines from the standard input; for macOS the directory
    pub(crate) file: PathBuf,
    /// What it is
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) format: ImportFormat,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
