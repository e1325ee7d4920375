//! What `dgfs server`, `dgfs status` and `dgfs fsck` tell of the storage servers of a cluster, and waiting for it.
//!
//! Never asks a daemon itself: what an operator can see is what a test may know.

use std::ffi::OsString;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, DAEMONS};
use crate::process::{Outcome, run};
use crate::program::dgfs;

/// How often the cluster is asked: each time is a process, and the machine has other work.
const LOOK: Duration = Duration::from_millis(250);

/// A storage server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its number.
    pub id: u64,
    /// Its name: the role of its daemon.
    pub name: String,
    /// The word for how it is: up, suspect, down, out, filling, draining, drained.
    pub state: String,
    /// It is not down.
    pub is_up: bool,
    /// Places assigned to it.
    pub places: u64,
    /// Places it holds something of for others.
    pub extras: u64,
    /// Places it does not hold everything of yet.
    pub places_left: u64,
    /// Its share relative to the others'.
    pub weight: u64,
    /// Bytes it fetched from other servers since its start.
    pub fetched_bytes: u64,
    /// Damaged versions it replaced since its start.
    pub healed: u64,
    /// Damaged versions its scrub found since its start.
    pub scrub_errors: u64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The exit code.
    pub code: i32,
    /// Copies missing or damaged while others are good.
    pub degraded: u64,
    /// How many of those were replaced.
    pub repaired: u64,
}

impl Cluster {
    /// `dgfs server ls --json`.
    #[must_use]
    #[track_caller]
    pub fn server_list(&self) -> Vec<Server> {
        let text = self.server_command(&["ls", "--json"]).expect_success("dgfs server ls");
        let all: Value = serde_json::from_str(&text).expect("dgfs server ls --json is JSON");
        all.as_array().expect("a list of servers").iter().map(server).collect()
    }

    /// The server of this name that is not given up.
    #[must_use]
    #[track_caller]
    pub fn server(&self, name: &str) -> Server {
        let all = self.server_list();
        let found = all.iter().find(|server| server.name == name && server.state != "out");
        found.unwrap_or_else(|| panic!("no server {name} in {all:?}")).clone()
    }

    /// `dgfs server WORDS --config …`.
    #[must_use]
    #[track_caller]
    pub fn server_command(&self, words: &[&str]) -> Outcome {
        let mut all: Vec<OsString> = vec!["server".into()];
        all.extend(words.iter().map(OsString::from));
        all.extend(["--config".into(), self.dir().join("client.toml").into_os_string()]);
        run(dgfs(), &all, DAEMONS)
    }

    /// `dgfs fsck` with or without `--repair`: what it found.
    #[must_use]
    #[track_caller]
    pub fn check_copies(&self, words: &[&str]) -> Check {
        let mut all: Vec<OsString> = vec!["fsck".into(), "--json".into()];
        all.extend(words.iter().map(OsString::from));
        all.extend(["--config".into(), self.dir().join("client.toml").into_os_string()]);
        let outcome = run(dgfs(), &all, DAEMONS);
        println!("dgfs fsck {words:?}: {} {}", outcome.status, outcome.output.trim_end());
        let found: Value = serde_json::from_str(&outcome.output)
            .unwrap_or_else(|_| panic!("dgfs fsck --json: {}\n{}", outcome.output, outcome.errors));
        Check {
            code: outcome.status.code().unwrap_or(-1),
            degraded: number(&found["degraded_copies"]),
            repaired: number(&found["repaired_copies"]),
        }
    }

    /// Waits until every partition of every class is full and nobody is left to fill; how long it took.
    #[track_caller]
    pub fn wait_until_full(&self, limit: Duration) -> Duration {
        self.wait_for_servers("everything is full again", limit, |servers, health| {
            servers.iter().all(|server| server.places_left == 0) && is_full(health)
        })
    }

    /// Waits until these are known to be down.
    #[track_caller]
    pub fn wait_until_down<S: AsRef<str>>(&self, names: &[S], limit: Duration) -> Duration {
        let is_down = |server: &Server| names.iter().any(|name| name.as_ref() == server.name) && !server.is_up;
        self.wait_for_servers("the lost servers are known to be down", limit, |servers, _| {
            servers.iter().filter(|server| is_down(server)).count() >= names.len()
        })
    }

    /// Waits until the servers and the health of the classes are so; panics with what they are.
    #[track_caller]
    pub fn wait_for_servers(
        &self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut(&[Server], &Value) -> bool,
    ) -> Duration {
        let began = Instant::now();
        loop {
            let (servers, health) = (self.server_list(), self.status()["meta"]["health"].clone());
            if is_so(&servers, &health) {
                return began.elapsed();
            }
            if began.elapsed() > limit {
                let servers: Vec<_> = servers.iter().map(|server| format!("{server:?}")).collect();
                panic!("not within {limit:?}: {what}\n{health}\n{}", servers.join("\n"));
            }
            sleep(LOOK);
        }
    }
}

/// Is every partition of every class full?
#[must_use]
pub fn is_full(health: &Value) -> bool {
    let bad = ["degraded", "under_minimum", "unavailable", "places_left"];
    let classes = health.as_array().expect("the health of the classes");
    !classes.is_empty() && classes.iter().all(|class| bad.iter().all(|word| number(&class[word]) == 0))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn server(entry: &Value) -> Server {
    let (server, info, upkeep) = (&entry["server"], &entry["server"]["info"], &entry["server"]["upkeep"]);
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    Server {
        id: number(&info["id"]),
        name: text(&info["label"]),
        state: text(&entry["state"]),
        is_up: info["up"] == true,
        places: number(&server["places"]),
        extras: number(&server["extras"]),
        places_left: number(&server["places_left"]),
        weight: number(&info["weight"]),
        fetched_bytes: number(&upkeep["fetched_bytes"]),
        healed: number(&upkeep["healed"]),
        scrub_errors: number(&upkeep["scrub_errors"]),
    }
}
