//! `dgfs debug bundle`: all that helps to find a fault, in one file that may be given away.
//!
//! Never writes a secret into it, and never writes over a file. Always: what could not be had is named, in the bundle and on
//! standard error, and the rest is there all the same.

mod archive;
mod probe;
mod redact;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use dgfs_runtime::clock::{Clock, utc_seconds_text};
use dgfs_runtime::telemetry::json as record_json;

use crate::cli::Failure;
use crate::cli::args::doctor::{BundleArgs, DebugArgs, DebugCommand};
use crate::cli::doctor::finding::shell_word;
use crate::cli::doctor::gather::{Gathered, Life, VERSION, gather};
use crate::cli::doctor::local::tail;
use crate::cli::doctor::{examine, report};
use crate::cli::files::{ClientFile, read_file};
use crate::cli::paths::host;

use self::archive::{Archive, file_word};
use self::probe::Answer;
use self::redact::Secrets;

/// Something is missing in the bundle.
const CODE_MISSING: u8 = 1;
/// Nobody could be asked, or the file not be made. 2 is for wrong words, as everywhere.
const CODE_NOT_MADE: u8 = 3;
/// How long one question to a mount may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a log that are read from a file at most.
const DISK_LOG_BYTES_MAX: u64 = 4 << 20;
/// Mounts of other machines that are named one by one.
const NOTES_MAX: usize = 100;
/// Configuration files beside the `client.toml` at most.
const CONFIGS_MAX: usize = 256;
/// Bytes of one of them at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Runs the command.
pub(crate) fn run(args: &DebugArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        DebugCommand::Bundle(args) => bundle(args).map_err(|failure| failure.with_code(CODE_NOT_MADE)),
    }
}

fn bundle(args: &BundleArgs) -> Result<ExitCode, Failure> {
    let now_s = Clock::real().wall_ms() / 1000;
    let path = args.output.clone().unwrap_or_else(|| default_path(now_s));
    let configs = args.asked.config.as_deref().map(configs).unwrap_or_default();
    let mut archive = Archive::create(&path, secrets(args.asked.config.as_deref(), &configs), now_s)?;
    fill(&mut archive, args, &configs)?;
    let missing = archive.finish()?;
    for sentence in &missing {
        eprintln!("dgfs: missing: {}", crate::cli::doctor::finding::plain(sentence));
    }
    println!("{}", path.display());
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CODE_MISSING) })
}

fn default_path(now_s: u64) -> PathBuf {
    let time = utc_seconds_text(i64::try_from(now_s).unwrap_or(0));
    let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
    PathBuf::from(format!("dgfs-debug-{time}.tar.gz"))
}

fn fill(archive: &mut Archive, args: &BundleArgs, configs: &[PathBuf]) -> Result<(), Failure> {
    let span_ms = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let since_ms = Clock::real().wall_ms().saturating_sub(span_ms);
    let seen = gather(args.asked.config.as_deref(), args.asked.path.as_deref(), Some(since_ms))?;
    archive.add("doctor.json", &pretty(&report(&examine(&seen))))?;
    archive.add("versions.json", &pretty(&versions(&seen)))?;
    for fault in &seen.faults {
        archive.miss(fault.clone());
    }
    add_daemons(archive, &seen)?;
    add_cluster(archive, &seen)?;
    add_mounts(archive, &seen, args.since)?;
    if args.asked.config.is_some() {
        note_mounts(archive, &seen);
    }
    for path in configs {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match std::fs::read_to_string(path) {
            Ok(text) => archive.add_config(&format!("config/{}", file_word(&name)), &text)?,
            Err(error) => archive.miss(format!("{}: {error}", path.display())),
        }
    }
    Ok(())
}

/// The `client.toml`, and in a directory of `dgfs up` the files of its daemons.
fn configs(client: &Path) -> Vec<PathBuf> {
    let mut all = vec![client.to_owned()];
    let directory = std::path::absolute(client).ok().and_then(|path| path.parent().map(Path::to_owned));
    if let Some(directory) = directory.filter(|directory| directory.join("pids").is_file()) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_other = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "toml") && path.file_name() != client.file_name()
        };
        all.extend(entries.filter(is_other).take(CONFIGS_MAX));
    }
    all.retain(|path| std::fs::metadata(path).is_ok_and(|facts| facts.len() <= CONFIG_BYTES_MAX));
    all.sort();
    all
}

/// The secrets that these files hold or name.
fn secrets(client: Option<&Path>, configs: &[PathBuf]) -> Secrets {
    let mut secrets = Secrets::default();
    for path in configs {
        let base =
            std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
        secrets.learn(&std::fs::read_to_string(path).unwrap_or_default(), &base);
    }
    if let Some((file, base)) = client.and_then(|client| read_file::<ClientFile>(client).ok()) {
        secrets.learn_file(&base.join(file.identity).join("key.pem"));
    }
    secrets
}

fn versions(seen: &Gathered) -> Value {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "dgfs": VERSION,
        "kernel": seen.machine.kernel,
        "host": file("/proc/sys/kernel/hostname"),
        "system": file("/etc/os-release"),
        "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": file("/proc/meminfo").lines().take(3).collect::<Vec<_>>(),
        "now_us": seen.now_us,
        "fuse": seen.machine.has_fuse,
        "fusermount3": seen.machine.has_fusermount,
    })
}

fn add_daemons(archive: &mut Archive, seen: &Gathered) -> Result<(), Failure> {
    for (at, daemon) in seen.daemons.iter().enumerate() {
        let place = place(at, &daemon.name());
        match &daemon.told {
            Ok(told) => {
                archive.add(&format!("{place}/facts.json"), &pretty(&json!(told.facts)))?;
                archive.add(&format!("{place}/metrics.txt"), &told.text)?;
            }
            Err(fault) => {
                archive.miss(format!("facts, metrics and log: {fault}"));
                let log = daemon.process.as_ref().map(|process| process.log.as_path());
                add_disk_log(archive, &place, log)?;
            }
        }
        let Some((records, fault)) = &daemon.log else { continue };
        archive.add(&format!("{place}/logs.jsonl"), &lines(records.iter().map(record_json)))?;
        if let Some(fault) = fault {
            archive.miss(format!("log: {fault}"));
        }
    }
    Ok(())
}

/// The end of the log of a process that does not answer.
fn add_disk_log(archive: &mut Archive, place: &str, log: Option<&Path>) -> Result<(), Failure> {
    let Some(log) = log else { return Ok(()) };
    match tail(log, DISK_LOG_BYTES_MAX) {
        Ok((text, before)) => {
            let head = format!("# {}, without the {before} bytes before\n", log.display());
            archive.add(&format!("{place}/log-from-disk.txt"), &format!("{head}{text}"))
        }
        Err(error) => {
            archive.miss(format!("{place}/log-from-disk.txt: {}: {error}", log.display()));
            Ok(())
        }
    }
}

/// Where what is of one daemon lies; the number tells those apart whose names look alike.
fn place(at: usize, name: &str) -> String {
    format!("daemons/{:02}-{}", at + 1, file_word(name))
}

fn add_cluster(archive: &mut Archive, seen: &Gathered) -> Result<(), Failure> {
    if seen.daemons.is_empty() {
        return Ok(());
    }
    let Some(told) = &seen.cluster else {
        archive
            .miss("cluster/status.json, servers.json and events.jsonl: the metadata service does not tell".to_owned());
        return Ok(());
    };
    match &told.status {
        Ok(status) => archive.add("cluster/status.json", &pretty(status))?,
        Err(error) => archive.miss(format!("cluster/status.json: {error}")),
    }
    archive.add("cluster/servers.json", &pretty(&json!(seen.servers)))?;
    match &told.events {
        Ok(events) => archive.add("cluster/events.jsonl", &lines(events.iter().cloned())),
        Err(error) => {
            archive.miss(format!("cluster/events.jsonl: {error}"));
            Ok(())
        }
    }
}

/// Mounts that are not looked at, and how they are.
fn note_mounts(archive: &mut Archive, seen: &Gathered) {
    seen.unclaimed.iter().for_each(|sentence| archive.note(sentence.clone()));
    let here = host();
    let elsewhere = seen.sessions.iter().map(|session| &session.client).filter(|client| client.host != here);
    for client in elsewhere.take(NOTES_MAX) {
        archive.note(format!(
            "the mount at {} of {}: there, `dgfs debug bundle {}`",
            client.mount_point,
            client.host,
            shell_word(&client.mount_point)
        ));
    }
    archive.note(
        "mounts of other machines whose session has ended are not known to the cluster: there, `dgfs debug bundle PATH`"
            .to_owned(),
    );
}

fn add_mounts(archive: &mut Archive, seen: &Gathered, since: Duration) -> Result<(), Failure> {
    let since = format!("{}s", since.as_secs());
    for (at, mount) in seen.mounts.iter().enumerate() {
        let place = format!("mounts/{:02}-{}", at + 1, file_word(&mount.path));
        match &mount.life {
            Life::Answers => archive.add(&format!("{place}/metrics.txt"), &mount.text)?,
            Life::Hangs => archive.miss(format!("the mount at {} does not answer", mount.path)),
            Life::Dead(sentence) | Life::Untold(sentence) => archive.miss(sentence.clone()),
        }
        if mount.life != Life::Answers {
            if let Life::Hangs | Life::Dead(_) = mount.life {
                match &mount.log {
                    Some(_) => add_disk_log(archive, &place, mount.log.as_deref())?,
                    None => {
                        archive.miss(format!("the log of the mount at {}: it is where --log-file said", mount.path))
                    }
                }
            }
            continue;
        }
        for (name, words) in [
            ("stats.json", &["stats", "--json"][..]),
            ("status.json", &["status", "--json"]),
            ("policies.json", &["policy", "ls", "--json"]),
            ("logs.jsonl", &["logs", "--json", "--since", &since]),
        ] {
            match probe::run(words, Path::new(&mount.path), PATIENCE) {
                Answer::Told(text) => archive.add(&format!("{place}/{name}"), &text)?,
                Answer::Refused(sentence) => archive.miss(format!("{place}/{name}: {sentence}")),
                Answer::Hangs => archive.miss(format!("{place}/{name}: no answer within {} s", PATIENCE.as_secs())),
            }
        }
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{default_path, place};

    #[test]
    fn files_are_named_by_time_and_daemons_by_number() {
        assert_eq!(default_path(0).display().to_string(), "dgfs-debug-19700101T000000Z.tar.gz");
        assert_eq!(place(0, "stored 1 (a/b)"), "daemons/01-stored_1__a_b");
    }
}
