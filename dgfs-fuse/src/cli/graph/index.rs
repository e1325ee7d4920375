//! `dgfs index` and `dgfs graph`, as questions to the index of a mount.
//!
//! Never waits without an end: `wait` gives up after the time that it is given.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::args::graph::{GraphSubcommand, IndexSubcommand};
use crate::cli::graph::ask::{Ask, Mount};
use crate::cli::graph::output::{Output, bytes_text, number, text};
use crate::cli::graph::places::{mount_in, mount_of};
use crate::cli::graph::{Ended, Outcome, local, refused};

/// How often an index that is behind is asked how far it is.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Runs a question of `dgfs index`.
pub(crate) fn run(command: IndexSubcommand, out: &mut Output<'_>) -> Ended {
    match command {
        IndexSubcommand::Status { path, json } => status(&mount(path)?, json, out),
        IndexSubcommand::Wait { path, taggers, timeout } => {
            let end = Instant::now().checked_add(Duration::from_secs(timeout));
            wait(&mount(path)?, taggers, || {
                std::thread::sleep(ASK_AGAIN);
                end.is_none_or(|end| Instant::now() < end)
            })
        }
        IndexSubcommand::Rebuild { path } => order(&mount(path)?, &json!({ "rebuild": true })),
        IndexSubcommand::Check { path, json } => check(&mount(path)?, json, out),
    }
}

/// Runs a command of `dgfs graph`.
pub(crate) fn run_graph(command: GraphSubcommand, out: &mut Output<'_>) -> Ended {
    match command {
        GraphSubcommand::Query { cypher, place } => query(&mount_in(&place)?, &cypher, out),
        GraphSubcommand::Status { place, json } => graph_status(&mount_in(&place)?, json, out),
        GraphSubcommand::Rebuild { place } => order(&mount_in(&place)?, &json!({ "rebuild": true })),
        GraphSubcommand::Check { place, json } => check(&mount_in(&place)?, json, out),
    }
}

fn mount(path: Option<PathBuf>) -> Result<Mount, crate::cli::Failure> {
    mount_of(path.as_deref().unwrap_or(Path::new(".")))
}

fn order(mount: &impl Ask, request: &Value) -> Ended {
    mount.order(request)?;
    Ok(Outcome::Done)
}

fn status(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let line = mount.line(&json!({ "status": true }))?;
    if json {
        out.json(&line)?;
    } else {
        out.raw(status_text(&line).as_bytes())?;
    }
    Ok(Outcome::Done)
}

fn status_text(line: &Value) -> String {
    let (seq, head) = (number(line, "seq"), number(line, "head"));
    let behind = match head.saturating_sub(seq) {
        0 => "nothing behind".to_owned(),
        behind => format!("{} behind", counted(behind, "change")),
    };
    let at = match line.pointer("/applied-at/secs").and_then(Value::as_i64) {
        _ if seq == 0 => ", none applied yet".to_owned(),
        Some(secs) => format!(", the last one applied {}", local::second_text(secs)),
        None => String::new(),
    };
    let mut lines = vec![format!("changes    {seq} of {head} applied ({behind}){at}")];
    if let Some(read) = line.get("building").and_then(Value::as_u64) {
        lines.push(format!("building   {} read so far", counted(read, "inode")));
    }
    lines.push(format!(
        "graph      {}, {}, {} of inode and tag",
        counted(number(line, "inodes"), "inode"),
        counted(number(line, "tags"), "tag"),
        counted(number(line, "edges"), "pair")
    ));
    lines.push(format!(
        "taggers    {} waiting, {} failed",
        counted(number(line, "jobs"), "job"),
        counted(number(line, "failed"), "file")
    ));
    lines.push(format!(
        "room       {} in memory, {} on disk",
        bytes_text(number(line, "memory-bytes")),
        bytes_text(number(line, "disk-bytes"))
    ));
    lines.extend(neo4j_line(line));
    lines.join("\n") + "\n"
}

/// `1 job`, `2 jobs`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How far Neo4j is; none where it is not configured.
fn neo4j_line(line: &Value) -> Option<String> {
    let neo4j = line.get("neo4j").filter(|neo4j| neo4j.is_object())?;
    let behind = number(line, "head").saturating_sub(number(neo4j, "seq"));
    let error = match neo4j.get("error").and_then(Value::as_str) {
        Some(error) => format!("; {error}"),
        None => String::new(),
    };
    Some(format!("neo4j      change {}, {behind} behind{error}", number(neo4j, "seq")))
}

fn graph_status(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let line = mount.line(&json!({ "status": true }))?;
    let Some(words) = neo4j_line(&line) else { return Err(refused("no Neo4j is configured: the index answers alone")) };
    if json {
        out.json(line.get("neo4j").unwrap_or(&Value::Null))?;
    } else {
        out.line(&words)?;
    }
    Ok(Outcome::Done)
}

/// Waits until what had happened at the beginning is in the index; `pause` says whether there is time for another look.
fn wait(mount: &impl Ask, taggers: bool, mut pause: impl FnMut() -> bool) -> Ended {
    let mut target = None;
    loop {
        let line = mount.line(&json!({ "status": true }))?;
        let (seq, head) = (number(&line, "seq"), number(&line, "head"));
        let target = *target.get_or_insert(head);
        let builds = line.get("building").is_some_and(|building| !building.is_null());
        let tags = taggers && number(&line, "jobs") > 0;
        if seq >= target && !builds && !tags {
            // What the index says of itself may be a moment old; this one waits for what the metadata service answered.
            mount.order(&json!({ "wait": true }))?;
            return Ok(Outcome::Done);
        }
        if !pause() {
            let jobs = number(&line, "jobs");
            let state = if builds { ", and it is being built" } else { "" };
            return Err(refused(format!(
                "the index is at change {seq}, waited for was {target}{state}; waiting for taggers: {}",
                counted(jobs, "job")
            )));
        }
    }
}

/// Differences are what `check` finds, and its exit code tells of them: 1.
fn check(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let mut differs = false;
    let mut ended = false;
    mount.ask(&json!({ "check": true }), &mut |line| {
        if line.get("end").is_some() {
            ended = true;
            return Ok(());
        }
        differs = true;
        if json { out.json(&line) } else { out.named("", text(&line, "difference").as_bytes()) }
    })?;
    if !ended {
        return Err(refused("the mount's answer has no end: the check was cut off"));
    }
    Ok(Outcome::of(!differs))
}

fn query(mount: &impl Ask, cypher: &str, out: &mut Output<'_>) -> Ended {
    let mut found = false;
    mount.ask(&json!({ "cypher": cypher }), &mut |line| {
        found = true;
        out.json(&line)
    })?;
    Ok(Outcome::of(found))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, graph_status, query, status, wait};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;

    fn at(seq: u64, head: u64, jobs: u64, building: Option<u64>) -> (Value, Vec<Value>) {
        let neo4j = json!({ "seq": 7, "error": "refused" });
        let line = json!({ "seq": seq, "head": head, "building": building, "inodes": 5, "tags": 2, "edges": 3, "jobs": jobs,
            "failed": 0, "memory-bytes": 1 << 20, "disk-bytes": 100, "neo4j": neo4j, "applied-at": { "secs": 0, "nanos": 0 } });
        (json!({ "status": true }), vec![line])
    }

    #[test]
    fn how_far_it_is_is_told() {
        let (text, _) = printed(|out| status(&Fake::new([at(8, 10, 4, Some(77))]), false, out));
        for words in [
            "8 of 10 applied (2 changes behind)",
            "77 inodes read",
            "5 inodes, 2 tags",
            "4 jobs",
            "1.0 MiB",
            "7, 3 behind; refused",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let (request, mut answer) = at(0, 1, 1, None);
        answer[0]["edges"] = json!(1);
        let (text, _) = printed(|out| status(&Fake::new([(request, answer)]), false, out));
        for words in ["0 of 1 applied (1 change behind), none applied yet\n", "1 pair of", "1 job waiting, 0 files"] {
            assert!(text.contains(words), "{text}");
        }
        let (text, _) = printed(|out| graph_status(&Fake::new([at(10, 10, 0, None)]), false, out));
        assert_eq!(text, "neo4j      change 7, 3 behind; refused\n");
        let (request, mut answer) = at(1, 1, 0, None);
        answer[0]["neo4j"] = Value::Null;
        assert!(printed(|out| graph_status(&Fake::new([(request, answer)]), false, out)).1.is_err());
    }

    #[test]
    fn waiting_ends_when_the_index_is_where_the_log_was() {
        let waited = (json!({ "wait": true }), vec![json!({ "seq": 12 })]);
        let steps = [at(8, 10, 1, None), at(10, 12, 1, Some(3)), at(11, 13, 1, None), waited.clone()];
        let fake = Fake::new(steps);
        assert_eq!(wait(&fake, false, || true).unwrap(), Outcome::Done);
        let fake = Fake::new([at(10, 10, 1, None), at(10, 10, 0, None), waited]);
        assert_eq!(wait(&fake, true, || true).unwrap(), Outcome::Done);
        assert!(fake.is_done());
        let failure = wait(&Fake::new([at(8, 10, 1, Some(1))]), false, || false).unwrap_err();
        assert!(
            failure.sentence.contains("at change 8, waited for was 10, and it is being built"),
            "{}",
            failure.sentence
        );
    }

    #[test]
    fn differences_are_an_exit_code_and_a_cut_off_check_is_none() {
        let answer = |lines: Vec<Value>| Fake::new([(json!({ "check": true }), lines)]);
        let end = json!({ "end": true });
        assert_eq!(printed(|out| check(&answer(vec![end.clone()]), false, out)).1.unwrap(), Outcome::Done);
        let (text, ended) = printed(|out| check(&answer(vec![json!({ "difference": "inode 5" }), end]), false, out));
        assert_eq!((text.as_str(), ended.unwrap()), ("inode 5\n", Outcome::Nothing));
        assert!(printed(|out| check(&answer(vec![]), false, out)).1.is_err());
    }

    #[test]
    fn rows_of_cypher_are_json() {
        let fake = Fake::new([(json!({ "cypher": "x" }), vec![json!({ "n": 1 })])]);
        assert_eq!(printed(|out| query(&fake, "x", out)).0, "{\"n\":1}\n");
    }
}
