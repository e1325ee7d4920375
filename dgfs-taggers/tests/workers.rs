//! Workers that hang, eat memory, crash or print rubbish cost one bounded job each.
//!
//! Runs real processes: the worker of `examples/hostile_worker.rs` and small Python programs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dgfs_taggers::Job;
use dgfs_taggers::pool::{JobError, Pool, PoolConfig};
use dgfs_taggers::protocol::Answer;
use dgfs_taggers::sandbox::Limits;

fn job(text: &str) -> Job<'_> {
    Job { name: "order.txt", size: text.len() as u64, bytes: text.as_bytes(), mime_hint: None, charset_hint: None }
}

/// Cargo builds examples before it runs tests, beside the tests' own folder.
fn hostile_worker() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/hostile_worker")
}

fn limits() -> Limits {
    Limits { memory_bytes: 512 << 20, job_time: Duration::from_secs(5), ..Limits::default() }
}

fn pool_of(command: Vec<OsString>, limits: Limits) -> Pool {
    Pool::new(PoolConfig { command, workers: 2, limits })
}

fn pool(limits: Limits) -> Pool {
    pool_of(vec![hostile_worker().into()], limits)
}

fn python(program: &str) -> Pool {
    pool_of(
        vec!["python3".into(), "-c".into(), program.into()],
        Limits { job_time: Duration::from_secs(3), ..limits() },
    )
}

async fn still_works(pool: &Pool) {
    let answer = pool.examine(&job("A sentence about distributed file systems and their taggers.")).await.unwrap();
    assert!(answer.failures.is_empty(), "{:?}", answer.failures);
    assert_eq!(value(&answer, "text", "lang"), Some("en"));
}

fn value<'a>(answer: &'a Answer, tagger: &str, key: &str) -> Option<&'a str> {
    answer.findings.iter().find(|found| found.name == tagger)?.findings.text_of(key)
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_and_only_its_job_fails() {
    let pool = pool(Limits { job_time: Duration::from_millis(1500), ..limits() });
    still_works(&pool).await;
    let order = job("HANG");
    let (hung, other) = tokio::join!(pool.examine(&order), async {
        still_works(&pool).await;
        pool.examine(&job("fine")).await
    });
    assert!(matches!(hung, Err(JobError::TimedOut { ms: 1500 | 9000, .. })), "{hung:?}");
    assert!(other.is_ok());
    still_works(&pool).await;
}

#[tokio::test]
async fn a_worker_that_eats_memory_crashes_or_recurses_is_replaced() {
    let pool = pool(limits());
    for order in ["EAT", "ABORT", "RECURSE", "EXIT"] {
        let failed = pool.examine(&job(order)).await;
        assert!(matches!(failed, Err(JobError::Died { .. })), "{order}: {failed:?}");
        still_works(&pool).await;
    }
    assert_eq!(pool.workers_started(), 5, "one for each that died and the last");
}

#[tokio::test]
async fn a_tagger_that_panics_fails_alone_and_the_worker_goes_on() {
    let pool = pool(limits());
    let answer = pool.examine(&job("PANIC in the middle of a text about storage systems")).await.unwrap();
    assert_eq!(answer.failures.len(), 1);
    assert_eq!(
        (answer.failures[0].name.as_str(), answer.failures[0].reason.as_str()),
        ("hostile", "panicked: as ordered")
    );
    assert!(answer.findings.iter().any(|found| found.name == "text"));
    still_works(&pool).await;
    assert_eq!(pool.workers_started(), 1);
}

#[tokio::test]
async fn what_a_tagger_prints_does_not_speak_for_the_worker() {
    let pool = pool(limits());
    assert!(pool.examine(&job("PRINT")).await.unwrap().failures.is_empty());
    still_works(&pool).await;
    assert_eq!(pool.workers_started(), 1);
}

#[tokio::test]
async fn a_worker_can_open_no_socket_no_file_and_no_program() {
    let pool = pool(limits());
    let answer = pool.examine(&job("FORBIDDEN")).await.unwrap();
    assert_eq!(value(&answer, "hostile", "done"), Some("false false false false"));
    let in_force = pool.in_force().unwrap();
    println!("in force: {in_force:?}");
    assert!(in_force.no_new_privileges && in_force.system_call_filter && in_force.no_network, "{in_force:?}");
    assert_eq!(in_force.memory_bytes, 512 << 20);
}

#[tokio::test]
async fn a_worker_is_replaced_after_its_jobs() {
    let pool = pool(Limits { jobs_max: 2, ..limits() });
    for _ in 0..5 {
        still_works(&pool).await;
    }
    assert_eq!(pool.workers_started(), 3);
}

#[tokio::test]
async fn the_same_bytes_give_the_same_findings_whatever_ran_before() {
    let pool = pool(limits());
    let text = "Storage servers keep chunks. A metadata server keeps names, and storage servers report their chunks.";
    let mut first = pool.examine(&job(text)).await.unwrap();
    let _ = pool.examine(&job("\u{5206}\u{5e03}\u{5f0f}\u{6587}\u{4ef6}\u{7cfb}\u{7edf}")).await.unwrap();
    let mut again = pool.examine(&job(text)).await.unwrap();
    (first.id, again.id) = (0, 0);
    assert_eq!(first, again);
}

/// A program that is no worker, or an evil one: each breaks another rule.
#[tokio::test]
async fn rubbish_is_refused_in_words() {
    let greeting =
        r#"print('{"dgfs_tagger_worker":1,"in_force":{}}',flush=True);import sys,time;sys.stdin.readline();"#;
    let cases = [
        ("print('hello',flush=True);import time;time.sleep(60)".to_owned(), "no worker's greeting"),
        ("print('{\"dgfs_tagger_worker\":99,\"in_force\":{}}',flush=True);input()".to_owned(), "it speaks version 99"),
        (format!("{greeting}print('rubbish',flush=True);time.sleep(60)"), "its line is no answer"),
        (format!("{greeting}print('x'*(17<<20),flush=True);time.sleep(60)"), "a line of more than"),
        (format!("{greeting}sys.stdout.buffer.write(b'\\xff\\x00\\n');sys.stdout.flush();time.sleep(60)"), "no answer"),
        (format!("{greeting}sys.exit(3)"), "exit status: 3"),
        (format!("{greeting}import os;os.close(1);time.sleep(60)"), "ended before it answered"),
    ];
    for (program, words) in cases {
        let error = python(&program).examine(&job("x")).await.unwrap_err().to_string();
        assert!(error.contains(words), "{program}: {error}");
    }
    let missing = pool_of(vec!["no-such-program-anywhere".into()], limits()).examine(&job("x")).await;
    assert!(matches!(missing, Err(JobError::Start { .. })), "{missing:?}");
}
