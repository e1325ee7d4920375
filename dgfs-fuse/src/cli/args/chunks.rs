//! The words of `dgfs chunks`.
//!
//! Never reads a file or the environment.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use dgfs_proto::chunk::UseOrder;
use dgfs_proto::limits::USES_MAX;

#[derive(Debug, Args)]
pub(crate) struct ChunksArgs {
    #[command(subcommand)]
    pub(crate) command: ChunksCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChunksCommand {
    /// Show the chunks that are used most, and the files they belong to
    Top(TopArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// A path on a mount (root and whoever mounted it are answered)
    pub(crate) path: Option<PathBuf>,
    /// reads, writes, bytes, errors or recent
    #[arg(long, default_value = "bytes", value_name = "ORDER")]
    pub(crate) by: UseOrder,
    /// Only what this server counted: its number or name
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// How many, up to 1000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=USES_MAX as i64))]
    pub(crate) limit: u16,
    /// Ask the cluster of this file (client.toml)
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub(crate) config: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}
