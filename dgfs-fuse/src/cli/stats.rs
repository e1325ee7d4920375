//! `dgfs stats`: what a mount or a cluster has done since it started; and the views that `dgfs top` shows of an interval.
//!
//! Never counts itself: it reads what the processes count. Always: what a process does not tell is left out, not shown as 0.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::Failure;
use crate::cli::args::watch::StatsArgs;
use crate::cli::mounted::MountPoint;
use crate::cli::numbers::{Numbers, bytes_text, seconds_text, share_text};
use crate::cli::watched::Cluster;

/// Runs the command.
pub(crate) fn run(args: &StatsArgs) -> Result<(), Failure> {
    let (view, faults) = match (&args.asked.path, &args.asked.config) {
        (Some(path), _) => (of_mount(path)?, Vec::new()),
        (None, Some(config)) => {
            let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
            runtime.block_on(of_cluster(config))?
        }
        (None, None) => return Err(Failure::new("name a path on a mount, or the cluster by --config DIR/client.toml")),
    };
    if args.json {
        println!("{view}");
    } else {
        text(&view).iter().for_each(|line| println!("{line}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join("\ndgfs: "))) }
}

fn of_mount(path: &Path) -> Result<Value, Failure> {
    let numbers = Numbers::parse(&MountPoint::of(path).map_err(Failure::new)?.metrics()?);
    Ok(mount_view(&numbers, &numbers, None))
}

async fn of_cluster(config: &Path) -> Result<(Value, Vec<String>), Failure> {
    let cluster = Cluster::of(config).await?;
    let mut faults = cluster.faults.clone();
    let mut servers = Vec::new();
    for (daemon, told) in cluster.daemons.iter().zip(cluster.metrics().await) {
        match told {
            Ok(text) => {
                let numbers = Numbers::parse(&text);
                servers.push(server_view((daemon.part, &daemon.name()), &numbers, &numbers, None));
            }
            Err(fault) => {
                servers.push(json!({ "part": daemon.part, "server": daemon.name(), "error": fault }));
                faults.push(fault);
            }
        }
    }
    Ok((json!({ "servers": servers }), faults))
}

/// What a mount did in `span` (none: since its start): `now` has what is, `done` what was counted in that time.
pub(crate) fn mount_view(now: &Numbers, done: &Numbers, span: Option<Duration>) -> Value {
    let name = "dgfs_mount_operation_seconds";
    let mut ops: Vec<(f64, Value)> = Vec::new();
    for op in done.values("dgfs_mount_operations_total", "op") {
        let label = ("op", op.as_str());
        let count = done.of("dgfs_mount_operations_total", label);
        if count > 0.0 {
            let errors = done.of("dgfs_mount_operation_errors_total", label);
            let (p50, p99) = (done.quantile(name, label, 0.5), done.quantile(name, label, 0.99));
            ops.push((count, json!({ "op": op, "count": count, "errors": errors, "p50_s": p50, "p99_s": p99 })));
        }
    }
    ops.sort_by(|one, other| other.0.total_cmp(&one.0));
    let bytes = |kind| done.of("dgfs_mount_bytes_total", ("kind", kind));
    json!({
        "seconds": span.map(|span| span.as_secs_f64()),
        "operations": ops.iter().fold(0.0, |sum, (count, _)| sum + count),
        "read_bytes": bytes("read"),
        "written_bytes": bytes("write"),
        "by_operation": ops.into_iter().map(|(_, op)| op).collect::<Vec<_>>(),
        "waiting": now.sum("dgfs_mount_operations_waiting"),
        "oldest_request_s": now.sum("dgfs_mount_oldest_request_seconds"),
        "slow": done.sum("dgfs_mount_slow_operations_total"),
        "unsent_bytes": now.sum("dgfs_client_dirty_bytes"),
        "unsent_limit_bytes": now.sum("dgfs_client_dirty_limit_bytes"),
        "changes_ahead": now.sum("dgfs_client_kept_back"),
        "cache": {
            "hits": done.sum("dgfs_client_cache_hits_total"),
            "misses": done.sum("dgfs_client_cache_misses_total"),
            "disk_hits": done.sum("dgfs_client_disk_cache_hits_total"),
            "bytes": now.sum("dgfs_client_cache_bytes"),
        },
        "round_trips": {
            "meta": done.sum("dgfs_client_meta_calls_total"),
            "chunk": done.sum("dgfs_client_chunk_calls_total"),
            "chunk_errors": done.sum("dgfs_client_chunk_errors_total"),
        },
        "meta_silent_s": now.sum("dgfs_client_meta_silent_seconds"),
    })
}

/// What a daemon did in `span` (none: since its start).
pub(crate) fn server_view(
    (part, server): (&str, &str),
    now: &Numbers,
    done: &Numbers,
    span: Option<Duration>,
) -> Value {
    let mut view = json!({ "part": part, "server": server, "seconds": span.map(|span| span.as_secs_f64()) });
    let mut put = |key: &str, value: Value| {
        if let Some(object) = view.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    let counted = |name: &str| done.has(name).then(|| json!(done.sum(name)));
    let shown = |name: &str| now.has(name).then(|| json!(now.sum(name)));
    let words: &[(&str, &str, bool)] = match part {
        "stored" => &[
            ("read_bytes", "dgfs_stored_get_bytes_total", true),
            ("written_bytes", "dgfs_stored_put_bytes_total", true),
            ("reads", "dgfs_stored_gets_total", true),
            ("writes", "dgfs_stored_puts_total", true),
            ("syncs", "dgfs_stored_syncs_total", true),
            ("capacity_bytes", "dgfs_stored_capacity_bytes", false),
            ("free_bytes", "dgfs_stored_free_bytes", false),
            ("used_bytes", "dgfs_stored_used_bytes", false),
            ("repair_partitions", "dgfs_stored_repair_partitions", false),
            ("repair_bytes", "dgfs_stored_repair_bytes", false),
            ("damaged_reads", "dgfs_stored_damaged_reads_total", true),
            ("read_only", "dgfs_stored_disk_read_only", false),
        ],
        "meta" => &[
            ("active", "dgfs_meta_active", false),
            ("operations", "dgfs_meta_operation_seconds_count", true),
            ("commits", "dgfs_meta_commit_groups_total", true),
            ("sessions", "dgfs_meta_sessions", false),
            ("map_epoch", "dgfs_meta_map_epoch", false),
        ],
        _ => &[
            ("lag_events", "dgfs_index_lag_events", false),
            ("inodes", "dgfs_index_inodes", false),
            ("questions", "dgfs_index_queries_total", true),
            ("tagger_queue", "dgfs_index_tagger_queue", false),
        ],
    };
    for (key, name, counts) in words {
        if let Some(value) = if *counts { counted(name) } else { shown(name) } {
            put(key, value);
        }
    }
    let latency = match part {
        "stored" => "dgfs_stored_operation_seconds",
        "meta" => "dgfs_meta_operation_seconds",
        _ => "dgfs_index_query_seconds",
    };
    put("p50_s", json!(done.quantile(latency, ("", ""), 0.5)));
    put("p99_s", json!(done.quantile(latency, ("", ""), 0.99)));
    let errors = done.of("dgfs_log_records_total", ("level", "error"));
    put("errors_logged", json!(errors));
    put("warnings_logged", json!(done.of("dgfs_log_records_total", ("level", "warn"))));
    view
}

/// A view for people, line by line.
pub(crate) fn text(view: &Value) -> Vec<String> {
    match view.get("servers").and_then(Value::as_array) {
        Some(servers) => servers_text(servers),
        None => mount_text(view),
    }
}

fn number(view: &Value, pointer: &str) -> f64 {
    view.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

/// A count, by second where the view is of an interval.
fn rate(view: &Value, pointer: &str) -> String {
    match view.get("seconds").and_then(Value::as_f64) {
        Some(seconds) if seconds > 0.0 => format!("{:.0}/s", number(view, pointer) / seconds),
        _ => format!("{:.0}", number(view, pointer)),
    }
}

fn bytes_rate(view: &Value, pointer: &str) -> String {
    match view.get("seconds").and_then(Value::as_f64) {
        Some(seconds) if seconds > 0.0 => format!("{}/s", bytes_text(number(view, pointer) / seconds)),
        _ => bytes_text(number(view, pointer)),
    }
}

fn mount_text(view: &Value) -> Vec<String> {
    let (hits, misses) = (number(view, "/cache/hits"), number(view, "/cache/misses"));
    let mut lines = vec![
        format!(
            "operations {}   read {}   written {}   slow {:.0}",
            rate(view, "/operations"),
            bytes_rate(view, "/read_bytes"),
            bytes_rate(view, "/written_bytes"),
            number(view, "/slow")
        ),
        format!(
            "waiting    {:.0}, the oldest for {}   unsent {} of {}   changes ahead {:.0}",
            number(view, "/waiting"),
            seconds_text(Some(number(view, "/oldest_request_s"))),
            bytes_text(number(view, "/unsent_bytes")),
            bytes_text(number(view, "/unsent_limit_bytes")),
            number(view, "/changes_ahead")
        ),
        format!(
            "cache      {} hits ({:.0} of {:.0} blocks)   {} held   {:.0} from the local disk",
            share_text(hits, hits + misses),
            hits,
            hits + misses,
            bytes_text(number(view, "/cache/bytes")),
            number(view, "/cache/disk_hits")
        ),
        format!(
            "calls      metadata {}   storage {} ({:.0} failed)   metadata answered {} ago",
            rate(view, "/round_trips/meta"),
            rate(view, "/round_trips/chunk"),
            number(view, "/round_trips/chunk_errors"),
            seconds_text(Some(number(view, "/meta_silent_s")))
        ),
        String::new(),
        format!("{:<16} {:>12} {:>8} {:>10} {:>10}", "operation", "count", "errors", "p50", "p99"),
    ];
    for op in view.get("by_operation").and_then(Value::as_array).into_iter().flatten() {
        let second = |pointer: &str| seconds_text(op.pointer(pointer).and_then(Value::as_f64));
        lines.push(format!(
            "{:<16} {:>12.0} {:>8.0} {:>10} {:>10}",
            op.get("op").and_then(Value::as_str).unwrap_or_default(),
            number(op, "/count"),
            number(op, "/errors"),
            second("/p50_s"),
            second("/p99_s")
        ));
    }
    lines
}

fn servers_text(servers: &[Value]) -> Vec<String> {
    let mut lines = vec![format!("{:<28} {:<8} {:>10} {:>10}  what it does", "server", "state", "p50", "p99")];
    for server in servers {
        let name = server.get("server").and_then(Value::as_str).unwrap_or_default();
        if server.get("error").is_some() {
            lines.push(format!("{name:<28} {:<8} {:>10} {:>10}  does not answer", "AWAY", "-", "-"));
            continue;
        }
        let second = |pointer: &str| seconds_text(server.pointer(pointer).and_then(Value::as_f64));
        let (state, does) = match server.get("part").and_then(Value::as_str) {
            Some("stored") => stored_text(server),
            Some("meta") => {
                let state = if number(server, "/active") > 0.0 { "active" } else { "standby" };
                let does =
                    format!("{} operations, {:.0} sessions", rate(server, "/operations"), number(server, "/sessions"));
                (state, does)
            }
            _ => {
                let (lag, queue) = (number(server, "/lag_events"), number(server, "/tagger_queue"));
                let does = format!(
                    "{} questions, {lag:.0} events behind, {queue:.0} files for taggers",
                    rate(server, "/questions")
                );
                ("up", does)
            }
        };
        lines.push(format!("{name:<28} {state:<8} {:>10} {:>10}  {does}", second("/p50_s"), second("/p99_s")));
    }
    lines
}

fn stored_text(server: &Value) -> (&'static str, String) {
    let state = if number(server, "/read_only") > 0.0 { "READONLY" } else { "up" };
    let mut does = format!(
        "read {}, write {}, {} free of {}",
        bytes_rate(server, "/read_bytes"),
        bytes_rate(server, "/written_bytes"),
        bytes_text(number(server, "/free_bytes")),
        bytes_text(number(server, "/capacity_bytes"))
    );
    let partitions = number(server, "/repair_partitions");
    if partitions > 0.0 {
        does.push_str(&format!(", REPAIR {partitions:.0} partitions, {}", bytes_text(number(server, "/repair_bytes"))));
    }
    (state, does)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{mount_view, server_view, text};
    use crate::cli::numbers::Numbers;

    #[test]
    fn a_mount_is_shown_by_operation_with_rates_of_the_interval() {
        let numbers = Numbers::parse(
            "dgfs_mount_operations_total{op=\"read\"} 20\ndgfs_mount_bytes_total{kind=\"read\"} 2097152\n\
             dgfs_mount_operation_errors_total{op=\"read\",errno=\"EIO\"} 3\n\
             dgfs_mount_operation_seconds_bucket{op=\"read\",le=\"0.001\"} 20\n\
             dgfs_mount_operation_seconds_bucket{op=\"read\",le=\"+Inf\"} 20\n\
             dgfs_client_cache_hits_total 3\ndgfs_client_cache_misses_total 1\n",
        );
        let view = mount_view(&numbers, &numbers, Some(Duration::from_secs(2)));
        let text = text(&view).join("\n");
        for words in ["operations 10/s", "read 1.0 MiB/s", "75.0 % hits", "read                       20        3"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn servers_that_are_away_or_repair_stand_out() {
        let numbers = Numbers::parse("dgfs_stored_repair_partitions 5\ndgfs_stored_free_bytes 1024\n");
        let stored = server_view(("stored", "stored 1 (a)"), &numbers, &numbers, None);
        let away = json!({ "part": "stored", "server": "stored 2 (b)", "error": "gone" });
        let text = text(&json!({ "servers": [stored, away] })).join("\n");
        assert!(text.contains("REPAIR 5 partitions") && text.contains("AWAY"), "{text}");
    }
}
