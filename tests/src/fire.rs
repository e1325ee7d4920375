//! Those who change files and tags on several mounts while daemons are killed, and the ledger of what was acknowledged.
//!
//! Each worker has a directory and tags of its own, where it knows what must be there, and shares a directory with the others,
//! where only the graph and the metadata can be compared. Each operation goes through a mount of its own choice. Never
//! forgives: a call that fails for another reason than an index that does not answer is a failure. Always: a change that was not
//! answered is looked at, and done again unless it has happened.
//!
//! They live in a process of their own (`dgfs-fire`, see [`agent`]), for the reason that `peer` gives.

pub mod agent;
mod common;
mod mount_calls;
mod tree;
mod worker;

use std::path::Path;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::program::dgfs;
use crate::rng::Rng;

/// Workers and what they were acknowledged.
pub struct Fire {
    peer: Peer,
}

/// How far they are.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Operations that were answered.
    pub done: u64,
    /// Calls that had to be made again, because the index did not answer.
    pub again: u64,
    /// Every kind of operation with its number.
    pub kinds: String,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Fire {
    /// Starts `workers` threads that work on all of `mounts`, which show one volume.
    #[must_use]
    pub fn start(mounts: &[&Path], workers: u64, rng: &mut Rng) -> Self {
        let mut fire = Self { peer: Peer::start("dgfs-fire") };
        fire.peer.ask(&json!({ "start": mounts, "workers": workers, "program": dgfs(), "seed": rng.next() }));
        fire
    }

    /// How far they are.
    #[must_use]
    #[track_caller]
    pub fn look(&mut self) -> Progress {
        progress(&self.peer.ask(&json!({ "look": true })))
    }

    /// Ends them; one that does not end is a failure.
    #[must_use]
    #[track_caller]
    pub fn end(&mut self) -> Progress {
        progress(&self.peer.ask(&json!({ "end": true })))
    }

    /// After the end: compares every directory, content and tag of the workers with what a mount shows.
    ///
    /// # Errors
    /// What is not as it was acknowledged.
    #[track_caller]
    pub fn verify(&mut self, root: &Path) -> Result<(), String> {
        match self.peer.ask(&json!({ "verify": root }))["broken"].as_str() {
            Some(broken) => Err(broken.to_owned()),
            None => Ok(()),
        }
    }
}

fn progress(answer: &Value) -> Progress {
    let number = |name: &str| answer[name].as_u64().expect("a number");
    let failures = answer["failures"].as_array().expect("a list of failures");
    Progress {
        done: number("done"),
        again: number("again"),
        kinds: answer["kinds"].to_string(),
        failures: failures.iter().map(|failure| failure.as_str().unwrap_or_default().to_owned()).collect(),
    }
}
