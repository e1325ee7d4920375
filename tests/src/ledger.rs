//! What was acknowledged, and whether it is still there after a crash.
//!
//! Writers work on directories of their own; before each call they note what may be found if it was the last one, after it
//! what must be found. Never forgives: every name and every sector found must be one that was acknowledged or came after.
//! Always: a sector of 512 bytes says which file, place and write it belongs to, so bytes that were never written stand out.
//!
//! The writers live in a process of their own (`dgfs-ledger`, see [`agent`]), for the reason that `peer` gives.

pub mod agent;
mod writer;

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::rng::Rng;

/// When something counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// A name when its call returned, content when the file was closed: what survives the death of servers.
    Returned,
    /// Names and content when a file with new content was closed, or fsync returned; of names since then, the first ones:
    /// what survives the death of a client that makes changes ahead of its servers, too.
    Closed,
    /// Only what fsync covered: what survives a power cut.
    Synced,
}

impl Promise {
    const ALL: [Self; 3] = [Self::Returned, Self::Closed, Self::Synced];

    const fn text(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Closed => "closed",
            Self::Synced => "synced",
        }
    }
}

/// A call that failed, and whether it was the crash's fault.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was done.
    pub what: String,
    /// Why not.
    pub error: String,
    /// The stop had begun.
    pub after_stop: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, error, after_stop } = self;
        write!(f, "{what}: {error}{}", if *after_stop { " (after the stop)" } else { "" })
    }
}

/// Writers and what they were promised.
pub struct Ledger {
    peer: Peer,
    counted: Value,
}

impl Ledger {
    /// Writers with directories below `root`, which are made and synced.
    #[must_use]
    pub fn new(root: &Path, writers: u64, promise: Promise, rng: &mut Rng) -> Self {
        let mut ledger = Self { peer: Peer::start("dgfs-ledger"), counted: Value::Null };
        let promise = promise.text();
        ledger.ask(&json!({ "new": root, "writers": writers, "promise": promise, "seed": rng.next() }));
        ledger
    }

    /// Lets all writers work while `meanwhile` runs (it waits, says that the crash comes, and makes it); what failed.
    #[track_caller]
    pub fn work(&mut self, root: &Path, meanwhile: impl FnOnce(&mut Working<'_>)) -> Vec<Failure> {
        self.ask(&json!({ "work": root }));
        meanwhile(&mut Working { ledger: self });
        let answer = self.ask(&json!({ "end": true }));
        let failures = answer["failures"].as_array().expect("a list of failures");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let failure = |value: &Value| Failure {
            what: text(&value["what"]),
            error: text(&value["error"]),
            after_stop: value["after_stop"] == true,
        };
        let failures = failures.iter().map(failure).collect();
        self.counted = answer;
        failures
    }

    /// Calls that returned since the start.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.counted["calls"].as_u64().unwrap_or(0)
    }

    /// Calls of fsync that returned since the start.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.counted["syncs"].as_u64().unwrap_or(0)
    }

    /// Compares what is found with what was promised. What is found is the truth from then on.
    ///
    /// # Errors
    /// Every promise that was broken.
    pub fn verify(&mut self, root: &Path) -> Result<(), String> {
        match self.ask(&json!({ "verify": root }))["broken"].as_str() {
            Some(broken) => Err(broken.to_owned()),
            None => Ok(()),
        }
    }

    fn ask(&mut self, question: &Value) -> Value {
        self.peer.ask(question)
    }
}

/// The writers while they work.
pub struct Working<'a> {
    ledger: &'a mut Ledger,
}

impl Working<'_> {
    /// From now on a call that fails is the crash's fault.
    pub fn stopping(&mut self) {
        self.ledger.ask(&json!({ "stopping": true }));
    }

    /// Rounds of calls that ended well, of all writers since the start.
    #[must_use]
    pub fn rounds(&mut self) -> u64 {
        self.ledger.ask(&json!({ "rounds": true }))["rounds"].as_u64().expect("a number")
    }
}
