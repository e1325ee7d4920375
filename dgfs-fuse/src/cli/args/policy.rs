//! The words of `dgfs policy`.
//!
//! Never reads a file or the environment.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show what new data of a path follow, and from which directory it comes
    Get {
        /// A path on a mount
        path: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List the directories below a path that have one of their own
    Ls {
        /// A directory on a mount
        path: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Set it for a directory and everything below that has none of its own
    Set {
        /// A directory on a mount
        path: PathBuf,
        /// r1 to r5 (copies), or ec:K+M (K data and M parity shards)
        #[arg(long, value_name = "CLASS", required_unless_present_any = ["availability", "compression"])]
        redundancy: Option<Class>,
        /// Percent of the time that the data are to be readable: the cheapest class that reaches it is chosen, from what is known
        /// of the servers, and chosen anew when they change
        #[arg(long, value_name = "PERCENT", conflicts_with = "redundancy")]
        availability: Option<f64>,
        /// none, lz4 (little work) or zstd (smaller): how storage servers keep the bytes
        #[arg(long, value_name = "HOW")]
        compression: Option<Compression>,
        /// Also for what is stored already: it is moved or compressed in the background
        #[arg(long)]
        apply: bool,
    },
    /// Count the chunks below a path by class and compression: how far a change has come
    Usage {
        /// A path on a mount
        path: PathBuf,
        /// Return only once every chunk has the class and the compression that its directory wants
        #[arg(long)]
        wait: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Let a directory follow the one above again: in everything, or in what is named
    Unset {
        /// A directory on a mount
        path: PathBuf,
        /// In its redundancy
        #[arg(long)]
        redundancy: bool,
        /// In its compression
        #[arg(long)]
        compression: bool,
    },
}
