//! The writers' process: does what the test tells it, line by line.
//!
//! Never decides when to stop. A question is one line of JSON on standard input, its answer one line on standard output.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};

use serde_json::{Value, json};

use super::writer::{Signals, Writer, sync};
use super::{Failure, Promise};
use crate::peer;
use crate::rng::Rng;

/// Answers until standard input ends.
pub fn serve() {
    let mut agent = Agent::default();
    peer::serve(|question| agent.answer(question));
}

#[derive(Default)]
struct Agent {
    writers: Vec<Writer>,
    working: Vec<JoinHandle<(Writer, Option<Failure>)>>,
    stopping: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Agent {
    fn answer(&mut self, question: &Value) -> Value {
        let path = |name: &str| question[name].as_str().map(PathBuf::from);
        if let Some(root) = path("new") {
            let text = question["promise"].as_str().expect("a promise");
            let promise = Promise::ALL.into_iter().find(|promise| promise.text() == text).expect("a promise");
            let mut rng = Rng::new(question["seed"].as_u64().expect("a seed"));
            let count = question["writers"].as_u64().expect("how many writers");
            self.writers = (0..count).map(|number| Writer::new(&root, number, promise, Rng::new(rng.next()))).collect();
            sync(&root).expect("sync the root");
            json!({})
        } else if let Some(root) = path("work") {
            self.start(&root);
            json!({})
        } else if question["stopping"] == true {
            self.stopping.store(true, Ordering::SeqCst);
            json!({})
        } else if question["rounds"] == true {
            json!({ "rounds": self.rounds.load(Ordering::SeqCst) })
        } else if question["end"] == true {
            self.end()
        } else if let Some(root) = path("verify") {
            let broken = self.writers.iter_mut().filter_map(|writer| {
                writer.verify(&root).err().map(|found| format!("writer {}: {found}", writer.number))
            });
            let broken = broken.collect::<Vec<_>>();
            json!({ "broken": (!broken.is_empty()).then(|| broken.join("\n")) })
        } else {
            panic!("{question} is no question")
        }
    }

    fn start(&mut self, root: &std::path::Path) {
        self.stopping = Arc::default();
        self.ended = Arc::default();
        for mut writer in self.writers.drain(..) {
            let (root, rounds) = (root.to_owned(), Arc::clone(&self.rounds));
            let (stopping, ended) = (Arc::clone(&self.stopping), Arc::clone(&self.ended));
            writer.stopping = Arc::clone(&stopping);
            self.working.push(spawn(move || {
                let failure = writer.work(&root, Signals { stopping: &stopping, ended: &ended, rounds: &rounds });
                (writer, failure)
            }));
        }
    }

    fn end(&mut self) -> Value {
        self.ended.store(true, Ordering::SeqCst);
        let mut failures = Vec::new();
        for thread in self.working.drain(..) {
            let (writer, failure) = thread.join().expect("a writer does not panic");
            failures.extend(failure.map(
                |failure| json!({ "what": failure.what, "error": failure.error, "after_stop": failure.after_stop }),
            ));
            self.writers.push(writer);
        }
        let calls: u64 = self.writers.iter().map(|writer| writer.calls).sum();
        let syncs: u64 = self.writers.iter().map(|writer| writer.syncs).sum();
        json!({ "failures": failures, "calls": calls, "syncs": syncs })
    }
}
