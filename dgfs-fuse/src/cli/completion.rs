//! `dgfs completion`: what makes a shell complete the words of the command.
//!
//! Never writes a file: a package puts what is printed where its shells look.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::generate;

use crate::cli::Failure;
use crate::cli::args::{Cli, CompletionArgs};

/// Runs the command.
pub(crate) fn run(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "dgfs", &mut script);
    io::stdout().write_all(&script).map_err(Failure::new)
}
