//! `dgfs-stored --config FILE`: the storage daemon as a process of its own.

use std::path::Path;
use std::process::ExitCode;

use dgfs_runtime::lifecycle::{Shutdown, build_runtime};
use dgfs_runtime::supervisor::Supervisor;
use dgfs_runtime::{config, telemetry};
use dgfs_stored::daemon::{StoredConfig, run};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match words.as_slice() {
        [flag, file] if flag == "--config" => start(Path::new(file)),
        _ => Err("usage: dgfs-stored --config FILE".into()),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("dgfs-stored: {error}");
    ExitCode::FAILURE
}

fn start(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let config: StoredConfig = config::load(file)?;
    telemetry::init(&config.log, None)?;
    build_runtime("dgfs-stored", 2)?.block_on(async move {
        let shutdown = Shutdown::new();
        shutdown.ask_on_signals()?;
        let supervisor = Supervisor::attach(&shutdown);
        let started = |listening, _| supervisor.ready(&format!("serving at {listening}"));
        run(config, shutdown, started).await.map_err(Into::into)
    })
}
