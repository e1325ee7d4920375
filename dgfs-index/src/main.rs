//! `dgfs-index --config FILE`: the index as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use dgfs_index::daemon::{IndexConfig, run};
use dgfs_index::tagging::WORKER;
use dgfs_runtime::lifecycle::{Shutdown, build_runtime};
use dgfs_runtime::supervisor::Supervisor;
use dgfs_runtime::{config, telemetry};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == WORKER) {
        let ended = dgfs_taggers::worker::start(&std::env::args_os().skip(2).collect::<Vec<_>>());
        return if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut words = std::env::args_os().skip(1);
    let (Some(flag), Some(file), None) = (words.next(), words.next(), words.next()) else {
        eprintln!("usage: dgfs-index --config FILE");
        return ExitCode::from(2);
    };
    if flag != "--config" {
        eprintln!("usage: dgfs-index --config FILE");
        return ExitCode::from(2);
    }
    match start(PathBuf::from(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dgfs-index: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(file: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let config: IndexConfig = config::load(&file)?;
    telemetry::init(&config.log, None)?;
    build_runtime("dgfs-index", 1)?.block_on(async move {
        let shutdown = Shutdown::new();
        shutdown.ask_on_signals()?;
        let supervisor = Supervisor::attach(&shutdown);
        let started = |listening, _| supervisor.ready(&format!("serving at {listening}"));
        run(config, shutdown, started).await.map_err(Into::into)
    })
}
