//! The process of the load: threads that write and read until they are told to end.
//!
//! Never decides when to stop. A writer whose call failed writes no more: what it left is not known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::files::{Files, Reader, Writer};
use crate::peer;
use crate::rng::Rng;

/// How long a call may still take after the end.
const ENDS: Duration = Duration::from_secs(120);
/// Failures that are told.
const FAILURES_MAX: usize = 20;

/// Answers until standard input ends.
pub fn serve() {
    let mut agent = Agent::default();
    peer::serve(|question| agent.answer(question));
}

#[derive(Default)]
struct Agent {
    files: Arc<Files>,
    threads: Vec<Thread>,
    ended: Arc<AtomicBool>,
}

/// One that works, and when it began what it is doing.
struct Thread {
    work: JoinHandle<()>,
    clock: Arc<Clock>,
}

/// Of one thread.
#[derive(Default)]
struct Clock {
    /// Milliseconds since the start of the thread at which its call began; 0 between calls.
    began_ms: AtomicU64,
    slowest_ms: AtomicU64,
    done: AtomicU64,
    writes: bool,
    started: Option<Instant>,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        self.started.map_or(0, |started| started.elapsed().as_millis() as u64 + 1)
    }

    fn pending_ms(&self) -> u64 {
        match self.began_ms.load(Ordering::SeqCst) {
            0 => 0,
            began => self.now_ms() - began.min(self.now_ms()),
        }
    }

    fn time<T>(&self, call: impl FnOnce() -> T) -> T {
        let began = self.now_ms();
        self.began_ms.store(began, Ordering::SeqCst);
        let done = call();
        self.began_ms.store(0, Ordering::SeqCst);
        self.slowest_ms.fetch_max(self.now_ms() - began, Ordering::SeqCst);
        done
    }
}

impl Agent {
    fn answer(&mut self, question: &Value) -> Value {
        if let Some(write) = question["write"].as_str() {
            self.start(Path::new(write), question);
            json!({})
        } else if question["look"] == true {
            self.progress()
        } else if question["end"] == true {
            self.end()
        } else if let Some(root) = question["verify"].as_str() {
            let (files, broken) = self.files.verify(Path::new(root));
            json!({ "files": files, "broken": (!broken.is_empty()).then(|| broken.join("\n")) })
        } else {
            panic!("{question} is no question")
        }
    }

    fn start(&mut self, write: &Path, question: &Value) {
        let number = |name: &str| question[name].as_u64().expect("a number");
        let roots = question["read"].as_array().expect("roots").iter();
        let roots: Vec<PathBuf> = roots.filter_map(|root| root.as_str().map(PathBuf::from)).collect();
        let mut rng = Rng::new(number("seed"));
        for at in 0..number("writers") {
            let mut writer = Writer::new(write, at, Arc::clone(&self.files), Rng::new(rng.next()));
            self.work(true, move || writer.step());
        }
        for _ in 0..number("readers") {
            let mut reader = Reader::new(roots.clone(), Arc::clone(&self.files), Rng::new(rng.next()));
            self.work(false, move || reader.step());
        }
    }

    /// A thread that does `step` until the end; a writer until a step fails.
    fn work(&mut self, writes: bool, mut step: impl FnMut() -> Result<bool, String> + Send + 'static) {
        let clock = Arc::new(Clock { writes, started: Some(Instant::now()), ..Clock::default() });
        let (ended, files, its) = (Arc::clone(&self.ended), Arc::clone(&self.files), Arc::clone(&clock));
        let work = spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match its.time(&mut step) {
                    Ok(true) => {
                        its.done.fetch_add(1, Ordering::SeqCst);
                    }
                    // Nothing is written yet.
                    Ok(false) => sleep(Duration::from_millis(10)),
                    Err(why) => {
                        files.fail(why);
                        if writes {
                            return;
                        }
                    }
                }
            }
        });
        self.threads.push(Thread { work, clock });
    }

    fn progress(&self) -> Value {
        let of = |writes: bool| self.threads.iter().map(|thread| &thread.clock).filter(move |its| its.writes == writes);
        let done = |writes: bool| of(writes).map(|clock| clock.done.load(Ordering::SeqCst)).sum::<u64>();
        let slowest = |writes: bool| of(writes).map(|clock| clock.slowest_ms.load(Ordering::SeqCst)).max().unwrap_or(0);
        let pending = self.threads.iter().map(|thread| thread.clock.pending_ms()).max().unwrap_or(0);
        json!({ "written": done(true), "read": done(false), "slowest_write_ms": slowest(true),
                "slowest_read_ms": slowest(false), "pending_ms": pending,
                "failures": self.files.failures().into_iter().take(FAILURES_MAX).collect::<Vec<_>>() })
    }

    fn end(&mut self) -> Value {
        self.ended.store(true, Ordering::SeqCst);
        let end = Instant::now() + ENDS;
        while !self.threads.iter().all(|thread| thread.work.is_finished()) && Instant::now() < end {
            sleep(Duration::from_millis(10));
        }
        for thread in self.threads.iter().filter(|thread| !thread.work.is_finished()) {
            let what = if thread.clock.writes { "writer" } else { "reader" };
            self.files.fail(format!("a {what} hangs in a call for {} ms", thread.clock.pending_ms()));
        }
        self.progress()
    }
}
