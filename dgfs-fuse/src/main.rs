//! The `dgfs` command. Everything is in the library, so that tests call the same code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dgfs_fuse::cli::run(std::env::args_os().collect())
}
