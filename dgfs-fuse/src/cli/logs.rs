//! `dgfs logs`: the last records of all daemons of a cluster, or of one mount, by time.
//!
//! Never hides a daemon that does not answer: it is named at the end, and the exit code says so. Always: what the others told
//! is shown all the same.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use dgfs_proto::watch::{LOG_PAGE_RECORDS_MAX, LogLevel, LogQuery, LogRecord, WatchReply, WatchRequest};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::telemetry::{LogFormat, json as record_json, line, request_text};

use crate::cli::Failure;
use crate::cli::args::watch::{Asked, LogsArgs};
use crate::cli::mounted::MountPoint;
use crate::cli::watched::{Cluster, Daemon};

/// How often a followed log is asked for more.
const LOOK: Duration = Duration::from_millis(500);
/// Pages of one daemon at most: its ring holds fewer.
const PAGES_MAX: usize = 64;

/// Runs the command.
pub(crate) fn run(args: &LogsArgs) -> Result<(), Failure> {
    let since_us = args.since.map_or(0, |since| {
        let now = Clock::real().wall_ns() / 1000;
        now.saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    });
    match (&args.asked.path, &args.asked.config) {
        (Some(path), _) => of_mount(path, args, since_us),
        (None, Some(config)) => {
            let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
            runtime.block_on(of_cluster(config, args, since_us))
        }
        (None, None) => Err(Failure::new("name a path on a mount, or the cluster by --config DIR/client.toml")),
    }
}

/// A daemon, and how far its log was read.
struct Reading<'a> {
    daemon: &'a Daemon,
    after: u64,
    fault: Option<String>,
}

async fn of_cluster(config: &Path, args: &LogsArgs, since_us: u64) -> Result<(), Failure> {
    let cluster = Cluster::of(config).await?;
    let wanted = |daemon: &&Daemon| args.server.as_deref().is_none_or(|word| daemon.is_called(word));
    let mut readings: Vec<Reading<'_>> =
        cluster.daemons.iter().filter(wanted).map(|daemon| Reading { daemon, after: 0, fault: None }).collect();
    if readings.is_empty() {
        let known: Vec<String> = cluster.daemons.iter().map(Daemon::name).collect();
        let asked = args.server.as_deref().unwrap_or_default();
        return Err(Failure::new(format!("no daemon is called {asked}; there are {}", known.join(", "))));
    }
    loop {
        let pages = join_all(readings.iter_mut().map(|reading| read_on(reading, args, since_us))).await;
        let mut records: Vec<(String, LogRecord)> = pages.into_iter().flatten().collect();
        records.sort_by_key(|(_, record)| record.at_us);
        records.iter().for_each(|(name, record)| print(name, record, args.json));
        if !args.follow {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut faults: Vec<String> = cluster.faults;
    faults.extend(readings.into_iter().filter_map(|reading| reading.fault));
    if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join("\ndgfs: "))) }
}

/// All that a daemon keeps of its log since `since_us`, and why it is not all.
pub(crate) async fn kept(daemon: &Daemon, since_us: u64) -> (Vec<LogRecord>, Option<String>) {
    let args = LogsArgs {
        asked: Asked::default(),
        server: None,
        request: None,
        since: None,
        level: LogLevel::Trace,
        follow: false,
        json: true,
    };
    let mut reading = Reading { daemon, after: 0, fault: None };
    let records = read_on(&mut reading, &args, since_us).await;
    (records.into_iter().map(|(_, record)| record).collect(), reading.fault)
}

/// What is new in one daemon's log.
async fn read_on(reading: &mut Reading<'_>, args: &LogsArgs, since_us: u64) -> Vec<(String, LogRecord)> {
    let name = reading.daemon.name();
    let mut records = Vec::new();
    for _ in 0..PAGES_MAX {
        let query = LogQuery {
            after: reading.after,
            since_us,
            request: args.request,
            level: args.level,
            limit: LOG_PAGE_RECORDS_MAX,
        };
        let page = match reading.daemon.ask(WatchRequest::Logs(query)).await {
            Ok((WatchReply::Logs(page), _)) => page,
            Ok(_) => {
                reading.fault = Some(format!("{name} answered something else than its log"));
                break;
            }
            Err(fault) => {
                // A daemon that was started anew counts from 1 again.
                reading.after = 0;
                reading.fault = Some(fault);
                break;
            }
        };
        reading.fault = None;
        if page.until < reading.after {
            reading.after = 0;
            continue;
        }
        reading.after = page.until;
        records.extend(page.records.into_iter().map(|record| (name.clone(), record)));
        if !page.more {
            break;
        }
    }
    records
}

fn print(name: &str, record: &LogRecord, as_json: bool) {
    if as_json {
        let mut value = record_json(record);
        if let Some(object) = value.as_object_mut() {
            object.insert("server".to_owned(), json!(name));
        }
        println!("{value}");
    } else {
        let line = line(record, LogFormat::Text);
        let (time, rest) = line.trim_end().split_once(' ').unwrap_or(("", ""));
        println!("{time} [{name}] {rest}");
    }
}

fn of_mount(path: &Path, args: &LogsArgs, since_us: u64) -> Result<(), Failure> {
    let mount = MountPoint::of(path).map_err(Failure::new)?;
    let mut after = 0_u64;
    loop {
        let page = mount.json(&format!("dgfs.logs.{after}"))?;
        let records = page.get("records").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        records.iter().filter(|record| fits(record, args, since_us)).for_each(|record| print_json(record, args.json));
        after = page.get("until").and_then(Value::as_u64).unwrap_or(after);
        if page.get("more") == Some(&json!(true)) {
            continue;
        }
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Does a record of a mount fit what is asked for?
fn fits(record: &Value, args: &LogsArgs, since_us: u64) -> bool {
    let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
    let request = args.request.is_none_or(|request| text("request") == request_text(request));
    let level = text("level").parse().is_ok_and(|level: dgfs_proto::watch::LogLevel| level <= args.level);
    // Both are UTC with six digits behind the second: they compare as texts.
    let young = since_us == 0 || text("timestamp") >= dgfs_runtime::clock::utc_text(since_us).as_str();
    request && level && young
}

fn print_json(record: &Value, as_json: bool) {
    if as_json {
        println!("{record}");
        return;
    }
    let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{} {:>5} {}: {}", text("timestamp"), text("level"), text("target"), text("message"));
    let fixed = ["timestamp", "level", "target", "message", "request"];
    for (name, value) in record.as_object().into_iter().flatten().filter(|(name, _)| !fixed.contains(&name.as_str())) {
        line.push_str(&format!(" {name}={value}"));
    }
    if !text("request").is_empty() {
        line.push_str(&format!(" request={}", text("request")));
    }
    println!("{line}");
}
