//! `kill -9` in the middle of batches: each event once, whatever was under way.
//!
//! The test runs itself as a child that applies events in small batches until it is killed.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use dgfs_index::index::Index;
use dgfs_proto::ids::Ino;
use dgfs_proto::log::Event;

use crate::rig::Scratch;
use crate::truth::{Truth, ino, name};

const DIRECTORY: &str = "DGFS_INDEX_KILL_DIRECTORY";
const KILLS: u32 = 12;

/// A log in which each event undoes a part of an earlier one, so that one applied twice or left out shows.
fn history() -> Vec<Event> {
    let mut truth = Truth::new();
    let dir = truth.dir(Ino::ROOT, "d");
    for number in 0..1500u32 {
        let file = truth.file(dir, &format!("f{number}"));
        truth.tag(file, &["all", if number % 2 == 0 { "even" } else { "odd" }]);
        if number % 3 == 0 {
            truth.rename((dir, name(&format!("f{number}"))), (dir, name("same")), false);
        }
        if number % 5 == 0 {
            truth.tag(file, &["all"]);
        }
    }
    truth.log.into_iter().collect()
}

#[test]
fn child_applies_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let index = Index::open(&PathBuf::from(directory)).unwrap();
    let events = history();
    let done = usize::try_from(index.applied().seq.0).unwrap();
    println!("applying");
    for batch in events[done..].chunks(7) {
        index.apply(batch).unwrap();
    }
}

#[tokio::test]
async fn every_event_is_applied_once_over_any_number_of_kills() {
    let scratch = Scratch::new();
    let events = history();
    let mut seen = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_applies_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut heard = String::new();
        while !heard.contains("applying") {
            let mut bytes = [0; 64];
            let read = output.read(&mut bytes).unwrap();
            assert!(read > 0, "the child ended: {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        // Each round is killed at another moment of its work; what moment does not matter, only that it is not the end.
        let work = std::time::Instant::now();
        while work.elapsed().as_micros() < u128::from(round) * 1700 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let index = Index::open(scratch.path()).unwrap();
        let applied = usize::try_from(index.applied().seq.0).unwrap();
        assert!(applied >= seen, "round {round}: nothing that was stored is gone");
        seen = applied;
        assert_same(&index, &events[..applied], round);
    }
    assert!(seen > 0, "the children got something done");
}

/// Is the index what applying `events` once to an empty one makes?
fn assert_same(index: &Index, events: &[Event], round: u32) {
    let fresh = Scratch::new();
    let other = Index::open(fresh.path()).unwrap();
    for batch in events.chunks(4096) {
        other.apply(batch).unwrap();
    }
    let (one, two) = (index.status(), other.status());
    assert_eq!((one.seq, one.inodes, one.tags, one.edges), (two.seq, two.inodes, two.tags, two.edges), "round {round}");
    for number in 1..=one.inodes + 600 {
        let (one, two) = (index.readers().vertex(ino(number)), other.readers().vertex(ino(number)));
        assert_eq!(one.unwrap(), two.unwrap(), "round {round}: inode {number}");
    }
}
