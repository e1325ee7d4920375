//! The process of the workers: threads that change files and tags until they are told to end.
//!
//! Never decides when to stop. A worker whose call failed works no more: what it left is not known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::worker::Worker;
use crate::peer;
use crate::rng::Rng;

/// How long a call may still take after the end.
const ENDS: Duration = Duration::from_secs(120);

/// Answers until standard input ends.
pub fn serve() {
    let mut agent = Agent::default();
    peer::serve(|question| agent.answer(question));
}

/// What all workers count together.
#[derive(Default)]
pub(super) struct Counted {
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    again: Mutex<u64>,
    failures: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Counted {
    /// An operation of this kind was answered.
    pub(super) fn did(&self, kind: &'static str) {
        *self.kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// A call is made again.
    pub(super) fn again(&self) {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn fail(&self, why: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    }

    fn tell(&self) -> Value {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let again = *self.again.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "done": kinds.values().sum::<u64>(), "again": again, "kinds": kinds, "failures": failures })
    }
}

#[derive(Default)]
struct Agent {
    counted: Arc<Counted>,
    working: Vec<JoinHandle<Worker>>,
    ended: Vec<Worker>,
}

impl Agent {
    fn answer(&mut self, question: &Value) -> Value {
        if let Some(mounts) = question["start"].as_array() {
            let mounts: Vec<PathBuf> = mounts.iter().filter_map(|mount| mount.as_str().map(PathBuf::from)).collect();
            self.start(&mounts, question);
            json!({})
        } else if question["look"] == true {
            self.counted.tell()
        } else if question["end"] == true {
            self.end();
            self.counted.tell()
        } else if let Some(root) = question["verify"].as_str() {
            let broken: Vec<String> = self.ended.iter().flat_map(|worker| worker.verify(Path::new(root))).collect();
            json!({ "broken": (!broken.is_empty()).then(|| broken.join("\n")) })
        } else {
            panic!("{question} is no question")
        }
    }

    fn start(&mut self, mounts: &[PathBuf], question: &Value) {
        let mut rng = Rng::new(question["seed"].as_u64().expect("a seed"));
        let program = PathBuf::from(question["program"].as_str().expect("a program"));
        for number in 0..question["workers"].as_u64().expect("a number") {
            let counted = Arc::clone(&self.counted);
            let mut worker = Worker::new(number, mounts, &program, (Arc::clone(&counted), Rng::new(rng.next())));
            self.working.push(spawn(move || {
                while !counted.ended.load(Ordering::SeqCst) {
                    if let Err(why) = worker.step() {
                        counted.fail(format!("worker {number}: {why}"));
                        break;
                    }
                }
                worker
            }));
        }
    }

    fn end(&mut self) {
        self.counted.ended.store(true, Ordering::SeqCst);
        let end = Instant::now() + ENDS;
        while !self.working.iter().all(JoinHandle::is_finished) && Instant::now() < end {
            sleep(Duration::from_millis(10));
        }
        for thread in self.working.drain(..) {
            if !thread.is_finished() {
                self.counted.fail("a worker hangs in a call".to_owned());
                continue;
            }
            match thread.join() {
                Ok(worker) => self.ended.push(worker),
                Err(_) => self.counted.fail("a worker panicked".to_owned()),
            }
        }
    }
}
