//! The words of `dgfs doctor` and `dgfs debug`.
//!
//! Never asks anybody; a word that is wrong is refused here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::args::join::span;
use crate::cli::args::watch::Asked;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    pub(crate) command: DebugCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Write all that helps to find a fault into one .tar.gz, without secrets
    Bundle(BundleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// The file to make, which must not be there [default: dgfs-debug-TIME.tar.gz here]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Log records and events so old at most: 90s, 30m, 1h, 2d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    pub(crate) since: Duration,
}
