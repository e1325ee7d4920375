//! The `dgfs` command.
//!
//! Never decides what a file system does: each command has a file of its own, which wires parts together and
//! says in a sentence what went wrong.

mod args;
mod background;
mod check;
mod chunks;
mod cluster;
mod daemon;
mod debug;
mod doctor;
mod events;
mod files;
mod fsck;
mod graph;
mod join;
mod logs;
mod mount;
mod mounted;
mod numbers;
mod past;
mod paths;
mod pids;
mod policy;
mod profile;
mod server;
mod show;
mod stats;
mod top;
mod umount;
mod watched;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::args::graph::IndexArgs;
use dgfs_index::tagging::WORKER;

use crate::cli::args::{Cli, Command};

/// Why a command failed: a sentence for a person, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// A sentence.
    pub sentence: String,
    /// The exit code.
    pub code: u8,
}

/// What `mount(8)` expects of a helper that could not mount.
const CODE_MOUNT: u8 = 32;
/// Wrong words on the command line.
const CODE_USAGE: u8 = 2;
/// The same, as `fsck(8)` says it.
const CODE_FSCK_USAGE: u8 = 16;
/// What `fsck(8)` calls an operational error.
const CODE_OPERATION: u8 = 8;

impl Failure {
    /// A failure with exit code 1.
    pub fn new(sentence: impl fmt::Display) -> Self {
        Self { sentence: sentence.to_string(), code: 1 }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

/// Runs the command of `arguments` (the first is the program's name).
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if arguments.get(1).is_some_and(|word| word == WORKER) {
        return match dgfs_taggers::worker::start(arguments.get(2..).unwrap_or_default()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&Failure::new(error)),
        };
    }
    if let (Some(word), Some(path)) = (arguments.get(1), arguments.get(2))
        && word == mounted::ASKER
    {
        return match mounted::answer_for(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&Failure::new(error)),
        };
    }
    let arguments = args::from_mount_helper(arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let is_fsck = arguments.get(1).is_some_and(|word| word == "fsck");
            return match (error.use_stderr(), is_fsck) {
                (false, _) => ExitCode::SUCCESS,
                (true, false) => ExitCode::from(CODE_USAGE),
                (true, true) => ExitCode::from(CODE_FSCK_USAGE),
            };
        }
    };
    if only_shows(&cli.command) {
        end_with_the_reader();
    }
    let outcome = match cli.command {
        Command::Mount(args) => mount::run(args, &arguments).map_err(|failure| match failure.code {
            CODE_USAGE => failure,
            _ => failure.with_code(CODE_MOUNT),
        }),
        Command::Umount(args) => umount::run(&args),
        Command::Format(args) => cluster::format(&args),
        Command::Status(args) => show::status(&args),
        Command::Info(args) => show::info(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Up(args) => cluster::up(&args),
        Command::Down(args) => cluster::down(&args),
        Command::Meta(args) => daemon::meta(&args),
        Command::Stored(args) => daemon::stored(&args),
        Command::Index(IndexArgs { command: Some(question), .. }) => return ended(graph::run_index(question)),
        Command::Index(args) => daemon::index(&args),
        Command::Server(args) => server::run(&args),
        Command::Chunks(args) => chunks::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Doctor(args) => return ended(doctor::run(&args)),
        Command::Debug(args) => return ended(debug::run(&args)),
        Command::Graph(command) => return ended(graph::run(command)),
        Command::Fsck(args) => {
            return match fsck::run(&args) {
                Ok(code) => ExitCode::from(code),
                Err(failure) => report(&failure.with_code(CODE_OPERATION)),
            };
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// The end of a command whose exit code tells what it found.
fn ended(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| report(&failure))
}

/// Does the command's work end where nobody reads its output any more?
fn only_shows(command: &Command) -> bool {
    match command {
        Command::Index(args) => args.command.is_some(),
        Command::Status(_)
        | Command::Info(_)
        | Command::Server(_)
        | Command::Chunks(_)
        | Command::Events(_)
        | Command::Policy(_)
        | Command::Logs(_)
        | Command::Stats(_)
        | Command::Top(_)
        | Command::Profile(_)
        | Command::Doctor(_)
        | Command::Graph(_) => true,
        Command::Mount(_)
        | Command::Umount(_)
        | Command::Format(_)
        | Command::Cluster(_)
        | Command::Join(_)
        | Command::Up(_)
        | Command::Down(_)
        | Command::Meta(_)
        | Command::Stored(_)
        | Command::Debug(_)
        | Command::Fsck(_) => false,
    }
}

/// What only shows ends in silence when nobody reads it any more (`dgfs info FILE | head`), as other tools do.
fn end_with_the_reader() {
    // SAFETY: no handler is installed, only the default one put back, before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("dgfs: {}", failure.sentence);
    ExitCode::from(failure.code)
}
