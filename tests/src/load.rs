//! Writers that sync, and readers that check what was synced, at the same time.
//!
//! Never forgives: a read that fails, or that shows a page older than the last synced or never written, is a failure. Always: a
//! page of 4 KiB says which file, place and write it belongs to.
//!
//! Both live in a process of their own (`dgfs-load`, see [`agent`]), for the reason that `peer` gives.

pub mod agent;
mod files;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::rng::Rng;

/// Writers and readers at work, and what was acknowledged.
pub struct Load {
    peer: Peer,
}

/// What a load works on.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan<'a> {
    /// Where files are written.
    pub write: &'a Path,
    /// Mounts they are read through, in turn.
    pub read: &'a [&'a Path],
    /// Threads that write.
    pub writers: u64,
    /// Threads that read.
    pub readers: u64,
}

/// How far it is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Writes that were synced.
    pub written: u64,
    /// Reads that were checked.
    pub read: u64,
    /// The slowest write with its sync, and the slowest read.
    pub slowest: (Duration, Duration),
    /// For how long the oldest call that has not returned is under way.
    pub pending: Duration,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts them.
    #[must_use]
    pub fn start(plan: LoadPlan<'_>, rng: &mut Rng) -> Self {
        let mut load = Self { peer: Peer::start("dgfs-load") };
        load.peer
            .ask(&json!({ "write": plan.write, "read": plan.read, "writers": plan.writers, "readers": plan.readers,
                               "seed": rng.next() }));
        load
    }

    /// How far it is.
    #[must_use]
    #[track_caller]
    pub fn look(&mut self) -> Progress {
        progress(&self.peer.ask(&json!({ "look": true })))
    }

    /// Ends it; a thread that does not end is a failure.
    #[must_use]
    #[track_caller]
    pub fn end(&mut self) -> Progress {
        progress(&self.peer.ask(&json!({ "end": true })))
    }

    /// After the end: reads every file as a whole; how many there are.
    ///
    /// # Errors
    /// What is not as it was acknowledged.
    #[track_caller]
    pub fn verify(&mut self, root: &Path) -> Result<u64, String> {
        let answer = self.peer.ask(&json!({ "verify": root }));
        match answer["broken"].as_str() {
            Some(broken) => Err(broken.to_owned()),
            None => Ok(number(&answer["files"])),
        }
    }
}

fn progress(answer: &Value) -> Progress {
    let time = |name: &str| Duration::from_millis(number(&answer[name]));
    let failures = answer["failures"].as_array().expect("a list of failures");
    Progress {
        written: number(&answer["written"]),
        read: number(&answer["read"]),
        slowest: (time("slowest_write_ms"), time("slowest_read_ms")),
        pending: time("pending_ms"),
        failures: failures.iter().map(|failure| failure.as_str().unwrap_or_default().to_owned()).collect(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}
