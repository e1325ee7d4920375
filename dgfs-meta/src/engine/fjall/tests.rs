//! What only the embedded engine promises: kill -9, opening, refusals.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{FjallEngine, Limits, encode_writer, journals, making_dir, open_database};
use crate::engine::testing::TestDir;
use crate::engine::{Batch, Durability, Engine, EngineError, RowKey, Table};

const CHILD_VARIABLE: &str = "DGFS_TEST_FJALL_CHILD";

fn row(sort: u64) -> RowKey {
    RowKey { table: Table::Inode, partition: sort / 64, sort }
}

/// Two rows a batch, so that a torn batch would show.
fn rows(number: u64) -> Batch {
    let value = number.to_le_bytes().repeat(20);
    Batch::of(number, vec![(row(number * 2), Some(value.clone())), (row(number * 2 + 1), Some(value))])
}

fn refusal(outcome: Result<FjallEngine, EngineError>) -> String {
    match outcome {
        Err(EngineError::Refused(sentence)) => sentence,
        Err(other) => panic!("not a refusal: {other:?}"),
        Ok(_) => panic!("accepted"),
    }
}

/// Not a test of its own: the process that `kill_9_…` kills. Commits and says each number it got an answer for.
#[tokio::test]
async fn child_that_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_VARIABLE) else { return };
    let engine = FjallEngine::open(Path::new(&dir)).unwrap();
    let lease = engine.acquire("child".to_owned()).await.unwrap().unwrap();
    let mut out = std::io::stdout().lock();
    for number in lease.last_batch + 1.. {
        let durability = if number % 50 == 0 { Durability::Synced } else { Durability::Handed };
        engine.commit(lease.epoch, rows(number), durability).await.unwrap();
        writeln!(out, "\nanswered {number}").unwrap();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_answered_and_tears_no_batch() {
    let dir = TestDir::new("fjall-kill");
    let place = dir.path().join("meta");
    drop(FjallEngine::create(&place).unwrap());
    let mut answered = 0;
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "engine::fjall::tests::child_that_commits_until_it_is_killed"])
            .env(CHILD_VARIABLE, &place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let wanted = answered + round * 70;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let numbers = |line: String| line.strip_prefix("answered ").and_then(|number| number.parse::<u64>().ok());
        while answered < wanted {
            answered = lines.by_ref().find_map(numbers).expect("the child goes on until it is killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        answered = lines.filter_map(numbers).last().unwrap_or(answered);
        let engine = FjallEngine::open(&place).unwrap();
        let lease = engine.acquire("test".to_owned()).await.unwrap().unwrap();
        assert!(lease.last_batch >= answered, "answered {answered}, found {}", lease.last_batch);
        answered = lease.last_batch;
        for number in 1..=answered {
            let found = engine.load(vec![row(number * 2), row(number * 2 + 1)]).await.unwrap();
            let value = Some(number.to_le_bytes().repeat(20));
            assert_eq!(found, vec![value.clone(), value], "batch {number}");
        }
        let behind = engine.load(vec![row(answered * 2 + 2), row(answered * 2 + 3)]).await.unwrap();
        assert_eq!(behind, vec![None, None], "a batch is torn");
    }
}

#[tokio::test]
async fn an_answered_batch_is_in_a_journal_file_and_sync_finds_that_file() {
    let dir = TestDir::new("fjall-journal");
    let engine = FjallEngine::create(&dir.path().join("meta")).unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    let mark = b"a mark that is nowhere else".to_vec();
    let batch = Batch::of(1, vec![(row(1), Some(mark.clone()))]);
    engine.commit(lease.epoch, batch, Durability::Handed).await.unwrap();
    let holds = |bytes: Vec<u8>| bytes.windows(mark.len()).any(|window| window == mark);
    let files = journals(&dir.path().join("meta")).unwrap();
    assert!(files.iter().any(|(_, path)| holds(std::fs::read(path).unwrap())), "not in {files:?}");
    engine.sync().await.unwrap();
}

#[tokio::test]
async fn epoch_and_last_batch_survive_reopening() {
    let dir = TestDir::new("fjall-reopen");
    let place = dir.path().join("meta");
    let engine = FjallEngine::create(&place).unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    engine.commit(lease.epoch, rows(1), Durability::Synced).await.unwrap();
    drop(engine);
    let engine = FjallEngine::open(&place).unwrap();
    let lease = engine.acquire("b".to_owned()).await.unwrap().unwrap();
    assert_eq!((lease.epoch.0, lease.last_batch), (2, 1));
}

#[tokio::test]
async fn a_torn_end_of_the_journal_is_forgotten_at_opening() {
    let dir = TestDir::new("fjall-torn");
    let place = dir.path().join("meta");
    let engine = FjallEngine::create(&place).unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    for number in 1..=3 {
        engine.commit(lease.epoch, rows(number), Durability::Handed).await.unwrap();
    }
    drop(engine);
    let journal = journals(&place).unwrap().pop().unwrap().1;
    let bytes = std::fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&journal, &bytes[..used - 30]).unwrap();
    let engine = FjallEngine::open(&place).unwrap();
    let lease = engine.acquire("b".to_owned()).await.unwrap().unwrap();
    assert_eq!(lease.last_batch, 2);
    assert_eq!(engine.load(vec![row(6), row(7)]).await.unwrap(), vec![None, None]);
    assert_eq!(engine.load(vec![row(4)]).await.unwrap().iter().flatten().count(), 1);
}

#[test]
fn an_interrupted_creation_is_made_anew() {
    let dir = TestDir::new("fjall-create");
    let place = dir.path().join("meta");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::create_dir_all(making_dir(&place)).unwrap();
    std::fs::write(making_dir(&place).join("0.jnl"), b"half").unwrap();
    drop(FjallEngine::create(&place).unwrap());
    assert!(!making_dir(&place).exists());
    FjallEngine::open(&place).unwrap();
}

#[test]
fn refusals_name_the_directory_and_the_remedy() {
    let dir = TestDir::new("fjall-refuse");
    let place = dir.path().join("meta");
    let absent = refusal(FjallEngine::open(&place));
    assert!(absent.contains("dgfs format") && absent.contains("meta"), "{absent}");
    let engine = FjallEngine::create(&place).unwrap();
    assert!(refusal(FjallEngine::create(&place)).contains("not empty"));
    let locked = refusal(FjallEngine::open(&place));
    assert!(locked.contains("in use by another process"), "{locked}");
    drop(engine);
    let other = dir.path().join("other");
    std::fs::create_dir_all(other.join("photos")).unwrap();
    assert!(refusal(FjallEngine::open(&other)).contains("not a metadata directory"));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = TestDir::new("fjall-newer");
    let place = dir.path().join("meta");
    drop(FjallEngine::create(&place).unwrap());
    {
        let (db, rows) = open_database(&place).unwrap();
        let mut newer = encode_writer(1, 1);
        newer[0] = 2;
        rows.insert(super::WRITER_KEY, newer).unwrap();
        db.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    let sentence = refusal(FjallEngine::open(&place));
    assert!(sentence.contains("layout 2; this dgfs knows 1: use a newer dgfs"), "{sentence}");
    std::fs::write(place.join("version"), b"FJL\x09").unwrap();
    assert!(refusal(FjallEngine::open(&place)).contains("engine format"));
}

#[test]
fn damaged_files_are_an_error_and_no_panic() {
    let dir = TestDir::new("fjall-damaged");
    let place = dir.path().join("meta");
    drop(FjallEngine::create(&place).unwrap());
    for entry in std::fs::read_dir(place.join("keyspaces").join("1")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, b"rubbish").unwrap();
        }
    }
    let outcome = FjallEngine::open(&place).map(|_| ());
    assert!(matches!(outcome, Err(EngineError::Damaged(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_nearly_full_disk_says_no_space_and_keeps_what_was_there() {
    let dir = TestDir::new("fjall-full");
    let place = dir.path().join("meta");
    drop(FjallEngine::create(&place).unwrap());
    let lease_time = std::time::Duration::from_secs(4);
    let engine = FjallEngine::open_with(&place, Limits { lease_time, free_bytes_min: Some(u64::MAX) }).unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    assert_eq!(engine.commit(lease.epoch, rows(1), Durability::Handed).await, Err(EngineError::NoSpace));
    assert!(!engine.has_room());
    drop(engine);
    // Room for removals only: half of what others need. Who asks for more does not hear of it by an error.
    let free = super::files::free_bytes(&place).unwrap();
    let engine = FjallEngine::open_with(&place, Limits { lease_time, free_bytes_min: Some(free / 2 * 3) }).unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    assert!(!engine.has_room());
    let removal = Batch::of(1, vec![(row(1), None)]);
    assert_eq!(engine.commit(lease.epoch, removal, Durability::Handed).await, Ok(()));
    drop(engine);
    assert!(FjallEngine::open(&place).unwrap().has_room());
}
