//! `dgfs status` and `dgfs info`.
//!
//! Never changes anything. What a mount knows is asked through the mount (`dgfs.*` attributes), so that an embedded
//! volume needs no socket.

use std::path::Path;

use serde_json::{Value, json};

use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::Failure;
use crate::cli::args::{InfoArgs, StatusArgs};
use crate::cli::daemon::link_to;
use crate::cli::files::InfoPages;
use crate::cli::mounted::{MountPoint, explained, refuse_silent};
use crate::mount::table::{Mounted, mounts};

/// Shows a mount, all mounts of this machine, or the cluster of a file.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    match (&args.path, &args.config) {
        (_, Some(config)) => {
            let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
            let value = runtime.block_on(async { link_to(config)?.describe().await.map_err(Failure::new) })?;
            print_status(&value, args.json);
            Ok(())
        }
        (Some(path), None) => {
            print_status(&status_of_mount(path)?, args.json);
            Ok(())
        }
        (None, None) => status_of_all(args.json),
    }
}

fn status_of_mount(path: &Path) -> Result<Value, Failure> {
    let mount = MountPoint::of(path).map_err(Failure::new)?;
    let mut value = mount.json_of_cluster("dgfs.status")?;
    if let Some(object) = value.as_object_mut() {
        object.insert("mount".to_owned(), mount.json("dgfs.mount")?);
    }
    Ok(value)
}

/// One after the other; a mount that does not answer is named, and the others are shown all the same.
fn status_of_all(json: bool) -> Result<(), Failure> {
    let mounts: Vec<_> = mounts().map_err(Failure::new)?.into_iter().filter(Mounted::is_dgfs).collect();
    if mounts.is_empty() {
        return Err(Failure::new("nothing of DGFS is mounted on this machine: name a mount point or --config"));
    }
    let (mut failed, mut code) = (Vec::new(), 1);
    for mount in mounts {
        match status_of_mount(&mount.mount_point) {
            Ok(value) => print_status(&value, json),
            Err(failure) => {
                code = code.max(failure.code);
                failed.push(failure.sentence);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n")).with_code(code)) }
}

fn print_status(value: &Value, json: bool) {
    if json {
        println!("{value}");
    } else {
        print!("{}", status_text(value));
    }
}

/// Shows where a file's bytes are.
pub(crate) fn info(args: &InfoArgs) -> Result<(), Failure> {
    refuse_silent(&args.path)?;
    let failed = |error| explained(&args.path, &error);
    let mut pages = InfoPages::of(&args.path);
    let mut value = pages.next().unwrap_or(Ok(Value::Null)).map_err(failed)?;
    for page in pages {
        let more = items(&page.map_err(failed)?, "/chunks").to_vec();
        value.pointer_mut("/chunks").and_then(Value::as_array_mut).into_iter().for_each(|all| all.extend(more.clone()));
    }
    if let Some(whole) = value.as_object_mut() {
        whole.remove("next");
    }
    if args.json {
        println!("{value}");
    } else {
        print!("{}", info_text(&value));
    }
    Ok(())
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    }
}

fn mebibytes(value: &Value, pointer: &str) -> String {
    let bytes = value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn status_text(value: &Value) -> String {
    let mut lines = Vec::new();
    if value.get("mount").is_some() {
        lines.push(format!(
            "mount      {} by process {} on {} ({})",
            text(value, "/mount/mount_point"),
            text(value, "/mount/pid"),
            text(value, "/mount/host"),
            text(value, "/mount/volume")
        ));
    }
    if let Some(metrics) = value.pointer("/mount/metrics").and_then(Value::as_str) {
        lines.push(format!("metrics    http://{metrics}/metrics"));
    }
    lines.push(format!("volume     {} {}", text(value, "/meta/volume/name"), text(value, "/meta/volume/uuid")));
    lines.push(format!(
        "metadata   {}, epoch {}, seq {}, {} mutations in {} commits",
        text(value, "/meta/engine"),
        text(value, "/meta/epoch"),
        text(value, "/meta/seq"),
        text(value, "/meta/mutations"),
        text(value, "/meta/commits")
    ));
    lines.push(format!(
        "usage      {} inodes, {} in files; {} free of {}",
        text(value, "/meta/usage/inodes"),
        mebibytes(value, "/meta/usage/allocated_bytes"),
        mebibytes(value, "/meta/usage/free_bytes"),
        mebibytes(value, "/meta/usage/capacity_bytes")
    ));
    lines.extend(items(value, "/meta/health").iter().map(health_line));
    lines.extend(repair_line(value));
    for session in items(value, "/meta/sessions") {
        lines.push(format!(
            "session    {} {} at {}, process {} of {}",
            text(session, "/id"),
            text(session, "/client/host"),
            text(session, "/client/mount_point"),
            text(session, "/client/pid"),
            text(session, "/client/version")
        ));
    }
    for server in items(value, "/meta/map/servers") {
        let up = if server.get("up") == Some(&json!(true)) { "up" } else { "DOWN" };
        lines.push(format!(
            "storage    {} {} {up}, {} used, {} free",
            text(server, "/id"),
            text(server, "/label"),
            mebibytes(server, "/used_bytes"),
            mebibytes(server, "/free_bytes")
        ));
    }
    lines.extend(items(value, "/processes").iter().map(process_line));
    for store in items(value, "/stores") {
        if let Some(error) = store.get("error") {
            lines.push(format!("           {} does not answer: {error}", text(store, "/server")));
        }
        lines.extend(loss_lines(store).into_iter().map(|line| format!("           {line}")));
        let interrupted = items(store, "/interrupted");
        let server = text(store, "/server");
        lines.extend(interrupted.iter().map(|write| format!("           {server} interrupted: {}", text(write, ""))));
    }
    lines.join("\n") + "\n"
}

/// A process of the cluster.
fn process_line(process: &Value) -> String {
    let kind = text(process, "/who/kind").to_lowercase();
    let metrics = text(process, "/who/metrics");
    let metrics = if metrics.is_empty() { "no metrics".to_owned() } else { format!("metrics at {metrics}") };
    let (name, host, pid) = (text(process, "/who/name"), text(process, "/who/host"), text(process, "/who/pid"));
    format!("process    {kind} {name}, {pid} on {host}, {metrics}")
}

/// How redundant the data of one class are.
fn health_line(health: &Value) -> String {
    let count = |name: &str| health.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut words = vec![format!("{} partitions full", count("full"))];
    for (name, word) in
        [("degraded", "degraded"), ("under_minimum", "UNDER THE MINIMUM (writes wait)"), ("unavailable", "UNAVAILABLE")]
    {
        if count(name) > 0 {
            words.push(format!("{} {word}", count(name)));
        }
    }
    format!("redundancy {}: {}", text(health, "/class"), words.join(", "))
}

/// What is left of the repair in all servers; none when nothing is.
fn repair_line(value: &Value) -> Option<String> {
    let sum = |name: &str| -> u64 {
        items(value, "/stores").iter().filter_map(|store| store.pointer(name).and_then(Value::as_u64)).sum()
    };
    let (partitions, bytes) = (sum("/upkeep/partitions_left"), sum("/upkeep/bytes_left"));
    let fetched = sum("/upkeep/fetched_bytes");
    let seconds = items(value, "/stores")
        .iter()
        .filter_map(|store| store.pointer("/upkeep/estimate_s").and_then(Value::as_u64))
        .max()
        .filter(|seconds| *seconds > 0)
        .map_or_else(String::new, |seconds| format!(", about {seconds} s left"));
    (partitions > 0).then(|| {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "repair     {partitions} partitions left, {:.1} MiB known to be missing; {:.1} MiB fetched so far{seconds}",
            mib(bytes),
            mib(fetched)
        )
    })
}

/// What a storage server lost or mended when it started, of its part of `dgfs.status`.
fn loss_lines(store: &Value) -> Vec<String> {
    let server = text(store, "/server");
    let mut lines = Vec::new();
    if store.get("lost_versions").and_then(Value::as_u64).is_some_and(|lost| lost > 0) {
        lines.push(format!(
            "{server} LOST {} chunk versions, {}; `dgfs fsck` names the files",
            text(store, "/lost_versions"),
            mebibytes(store, "/lost_bytes")
        ));
    }
    lines.extend(items(store, "/lost").iter().map(|lost| format!("{server} lost: {}", text(lost, ""))));
    lines.extend(items(store, "/mended").iter().map(|mended| format!("{server} mended: {}", text(mended, ""))));
    lines
}

/// Lines for whoever has just mounted at `path`: stored bytes that are not there any more. Empty also when it does not answer.
pub(crate) fn losses_at(path: &Path) -> Vec<String> {
    let told = MountPoint::of(path).map_err(Failure::new).and_then(|mount| mount.json_of_cluster("dgfs.status"));
    let Ok(value) = told else { return Vec::new() };
    items(&value, "/stores").iter().flat_map(loss_lines).map(|line| format!("storage server {line}")).collect()
}

fn info_text(value: &Value) -> String {
    let mut lines = vec![
        format!("inode      {}", text(value, "/ino")),
        format!("size       {} bytes, {} allocated", text(value, "/size"), text(value, "/allocated")),
        format!("version    {}", text(value, "/data_version")),
    ];
    if value.get("inline") == Some(&json!(true)) {
        lines.push("content    in the metadata (a small file)".to_owned());
    }
    for chunk in items(value, "/chunks") {
        let servers: Vec<_> = items(chunk, "/servers").iter().map(|server| text(server, "")).collect();
        lines.push(format!(
            "chunk      [{}] {} {} version {}, {} bytes on {}{}",
            text(chunk, "/index"),
            text(chunk, "/chunk"),
            text(chunk, "/class"),
            text(chunk, "/version"),
            text(chunk, "/len"),
            servers.join(", "),
            stored_text(chunk)
        ));
    }
    lines.join("\n") + "\n"
}

/// What the copies or shards of a chunk take, where they are compressed.
fn stored_text(chunk: &Value) -> String {
    let copies = items(chunk, "/stored");
    let Some(first) = copies.iter().find(|copy| text(copy, "/compression") != "none") else { return String::new() };
    let bytes: u64 = copies.iter().filter_map(|copy| copy.pointer("/disk_bytes")?.as_u64()).sum();
    format!("; {}: {bytes} bytes on their disks", text(first, "/compression"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{info_text, status_text};

    #[test]
    fn a_file_is_shown_with_its_chunks_and_servers() {
        let value = json!({ "ino": 5, "size": 9, "allocated": 9, "data_version": 2, "inline": false,
            "chunks": [{ "index": 0, "chunk": 7, "class": "r2", "version": 8, "len": 9, "servers": ["1 (a)", "2 (b)"] }] });
        assert!(info_text(&value).contains("[0] 7 r2 version 8, 9 bytes on 1 (a), 2 (b)\n"), "{}", info_text(&value));
        let copy = |bytes: u32| json!({ "server": 1, "compression": "lz4", "data_bytes": 9, "disk_bytes": bytes });
        let mut packed = value;
        packed["chunks"][0]["stored"] = json!([copy(100), copy(28)]);
        assert!(info_text(&packed).contains("2 (b); lz4: 128 bytes on their disks\n"), "{}", info_text(&packed));
    }

    #[test]
    fn what_is_lost_is_counted_and_named() {
        let value = json!({ "stores": [{ "server": 1, "lost": ["segment file 2 is missing"], "lost_versions": 3,
            "lost_bytes": 5 << 20, "mended": ["the index"] }] });
        let text = status_text(&value);
        for words in ["1 LOST 3 chunk versions, 5.0 MiB", "1 lost: segment file 2", "1 mended: the index"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_is_not_redundant_stands_out_and_the_repair_says_how_long_it_takes() {
        let value = json!({
            "meta": { "health": [{ "class": "r3", "full": 4000, "degraded": 95, "under_minimum": 1, "unavailable": 0 }] },
            "stores": [{ "upkeep": { "partitions_left": 96, "bytes_left": 1 << 20, "fetched_bytes": 0, "estimate_s": 7 } }]
        });
        let text = status_text(&value);
        for words in ["r3: 4000 partitions full, 95 degraded, 1 UNDER", "96 partitions left, 1.0 MiB", "about 7 s left"]
        {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("UNAVAILABLE"));
    }

    #[test]
    fn processes_are_shown_with_the_address_of_their_metrics() {
        let who = json!({ "kind": "Stored", "name": "nas", "host": "h", "pid": 7, "metrics": "127.0.0.1:1" });
        let value = json!({ "processes": [{ "who": who }], "mount": { "metrics": "127.0.0.1:2" } });
        let text = status_text(&value);
        assert!(text.contains("process    stored nas, 7 on h, metrics at 127.0.0.1:1\n"), "{text}");
        assert!(text.contains("metrics    http://127.0.0.1:2/metrics\n"), "{text}");
    }

    #[test]
    fn a_server_that_is_down_stands_out() {
        let value = json!({ "meta": { "map": { "servers": [{ "id": 1, "label": "a", "up": false }] } } });
        assert!(status_text(&value).contains("1 a DOWN"), "{}", status_text(&value));
    }
}
