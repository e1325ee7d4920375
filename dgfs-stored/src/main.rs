//! `dgfs-stored --config FILE`: the storage daemon as a process of its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use dgfs_runtime::lifecycle::{Shutdown, build_runtime};
use dgfs_runtime::{config, telemetry};
use dgfs_stored::daemon::{StoredConfig, run};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [flag, file] = words.as_slice() else { return usage() };
    if flag != "--config" {
        return usage();
    }
    start(Path::new(file)).map_or_else(
        |error| {
            eprintln!("dgfs-stored: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn usage() -> ExitCode {
    eprintln!("usage: dgfs-stored --config FILE");
    ExitCode::from(2)
}

fn start(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let config: StoredConfig = config::load(file)?;
    telemetry::init(&config.log, None)?;
    build_runtime("dgfs-stored", 2)?.block_on(async move {
        let shutdown = Shutdown::new();
        shutdown.ask_on_signals()?;
        run(config, shutdown, |_, _| {}).await.map_err(Into::into)
    })
}
