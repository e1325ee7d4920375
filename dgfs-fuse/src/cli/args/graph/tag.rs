//! The words of `dgfs tag`.
//!
//! Never asks a mount. Tags that change files are a comma list, as no tag has a comma.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::args::graph::Where;

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    #[command(subcommand)]
    pub(crate) command: TagSubcommand,
}

/// Files that a command names.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Files {
    /// Files on a mount; links are followed, so that entries of .tags mean the files
    #[arg(value_name = "FILE", required_unless_present = "stdin")]
    pub(crate) files: Vec<PathBuf>,
    /// Read further files from the standard input, one in each line
    #[arg(long)]
    pub(crate) stdin: bool,
    /// They end with NULs there, as find -print0 writes them
    #[arg(short = '0', long, requires = "stdin")]
    pub(crate) null: bool,
    /// Links themselves, not what they lead to
    #[arg(short = 'h', long)]
    pub(crate) no_dereference: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TagSubcommand {
    /// Give files tags
    Add {
        /// Tags, parted by commas: beach,place:cn:hefei,year=2020
        #[arg(value_name = "TAG[,TAG]")]
        tags: String,
        #[command(flatten)]
        files: Files,
    },
    /// Take tags from files
    Rm {
        /// Tags, parted by commas
        #[arg(value_name = "TAG[,TAG]")]
        tags: String,
        #[command(flatten)]
        files: Files,
    },
    /// Give files these tags and no others
    Set {
        /// Tags, parted by commas; '' takes all away
        #[arg(value_name = "TAG[,TAG]")]
        tags: String,
        #[command(flatten)]
        files: Files,
    },
    /// Show the tags of files; without files, all tags there are
    Ls {
        /// Files on a mount
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Those of taggers, too
        #[arg(long)]
        auto: bool,
        /// Links themselves, not what they lead to
        #[arg(short = 'h', long)]
        no_dereference: bool,
        #[command(flatten)]
        place: Where,
        /// One JSON object in each line
        #[arg(long)]
        json: bool,
    },
    /// Make a tag that no file carries yet
    Make {
        /// The tag
        tag: String,
        #[command(flatten)]
        place: Where,
    },
    /// Give a tag another name, on all files at once
    Rename {
        /// The tag
        #[arg(value_name = "TAG")]
        from: String,
        /// Its new name
        #[arg(value_name = "NEW")]
        to: String,
        #[command(flatten)]
        place: Where,
    },
    /// Make one tag of two
    Merge {
        /// The tag that ends
        #[arg(value_name = "TAG")]
        from: String,
        /// The tag that its files carry then
        #[arg(value_name = "INTO")]
        into: String,
        #[command(flatten)]
        place: Where,
    },
    /// Let a further name mean a tag
    Alias {
        /// The further name
        alias: String,
        /// The tag
        tag: String,
        #[command(flatten)]
        place: Where,
    },
    /// Let it mean the tag no more
    Unalias {
        /// The further name
        alias: String,
        #[command(flatten)]
        place: Where,
    },
    /// Let who carries a tag carry another, too
    Imply {
        /// The tag
        tag: String,
        /// The other
        #[arg(value_name = "TAG")]
        implied: String,
        #[command(flatten)]
        place: Where,
    },
    /// No more
    Unimply {
        /// The tag
        tag: String,
        /// The other
        #[arg(value_name = "TAG")]
        implied: String,
        #[command(flatten)]
        place: Where,
    },
    /// Delete a tag; files are never deleted
    Delete {
        /// The tag
        tag: String,
        /// Also when files carry it: it is taken from them
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Where,
    },
}
