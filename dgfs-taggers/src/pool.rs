//! The parent's side of the workers: starts them, hands them jobs, replaces them.
//!
//! Never lets a file cost more than one bounded job: a worker that hangs, dies, eats memory or says rubbish is killed,
//! its job fails, and the next job gets another worker. At most as many workers run as the pool was made for.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use crate::child::JobError;
use crate::child::{Program, Running};
use crate::findings::one_line;
use crate::job::{BYTES_MAX, Job};
use crate::protocol::{ANSWER_BYTES_MAX, Answer, Greeting, Header, PROTOCOL};
use crate::sandbox::{InForce, Limits};

/// Workers of a pool at most, whatever is asked for: each may take its whole memory limit.
pub const WORKERS_MAX: usize = 64;
/// Bytes of a worker's greeting at most.
const GREETING_BYTES_MAX: usize = 4 << 10;

/// What a pool is made of.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The program that calls [`crate::worker::run`], and its arguments.
    pub command: Vec<OsString>,
    /// Workers that run at the same time, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// Of each worker.
    pub limits: Limits,
}

/// Worker processes behind limits.
#[derive(Debug)]
pub struct Pool {
    program: Program,
    /// One permit for each worker that may run.
    permits: Semaphore,
    /// Workers without a job.
    idle: Mutex<Vec<Running>>,
    in_force: Mutex<Option<InForce>>,
    next_id: AtomicU64,
    started: AtomicU64,
}

impl Pool {
    /// A pool without workers yet: each is started by the first job that needs it.
    pub fn new(config: PoolConfig) -> Self {
        let PoolConfig { command, workers, limits } = config;
        Self {
            program: Program { command, directory: None, limits },
            permits: Semaphore::new(workers.clamp(1, WORKERS_MAX)),
            idle: Mutex::new(Vec::new()),
            in_force: Mutex::new(None),
            next_id: AtomicU64::new(1),
            started: AtomicU64::new(0),
        }
    }

    /// Lets a worker examine a file; waits while all are busy. Cancelling kills the worker, which costs a new one.
    ///
    /// # Errors
    ///
    /// [`JobError`]: this job failed and no other. Another try would fail alike, unless the worker could not be started.
    pub async fn examine(&self, job: &Job<'_>) -> Result<Answer, JobError> {
        if job.bytes.len() > BYTES_MAX {
            return Err(JobError::Refused { reason: format!("{} bytes, of at most {BYTES_MAX}", job.bytes.len()) });
        }
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| JobError::Refused { reason: "the pool is closed".to_owned() })?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let header = Header::of(id, job);
        let mut line = serde_json::to_vec(&header).map_err(|error| JobError::Refused { reason: error.to_string() })?;
        line.push(b'\n');
        let mut worker = self.worker().await?;
        let asked = worker.ask([&line, job.bytes], ANSWER_BYTES_MAX).await;
        match asked.and_then(|line| checked(&line, id)) {
            Ok(answer) => {
                self.put_back(worker).await;
                Ok(answer)
            }
            Err(error) => {
                worker.kill().await;
                Err(error)
            }
        }
    }

    /// What the last started worker found in force around itself; `None` before the first job.
    pub fn in_force(&self) -> Option<InForce> {
        *self.in_force.lock()
    }

    /// How many workers were started since the pool was made.
    pub fn workers_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    async fn worker(&self) -> Result<Running, JobError> {
        let idle = self.idle.lock().pop();
        if let Some(worker) = idle {
            return Ok(worker);
        }
        let mut worker = Running::start(&self.program)?;
        self.started.fetch_add(1, Ordering::Relaxed);
        match greet(&mut worker).await {
            Ok(in_force) => {
                *self.in_force.lock() = Some(in_force);
                Ok(worker)
            }
            Err(error) => {
                worker.kill().await;
                Err(error)
            }
        }
    }

    async fn put_back(&self, worker: Running) {
        if worker.is_fresh() {
            self.idle.lock().push(worker);
        } else {
            worker.kill().await;
        }
    }
}

async fn greet(worker: &mut Running) -> Result<InForce, JobError> {
    let line = match worker.hear(GREETING_BYTES_MAX).await {
        Err(JobError::Died { how }) => {
            return Err(JobError::Useless { reason: format!("the tagger process ended before it was ready ({how})") });
        }
        heard => heard?,
    };
    let greeting: Greeting = serde_json::from_slice(&line)
        .map_err(|error| JobError::Rubbish { reason: format!("its first line is no worker's greeting: {error}") })?;
    if let Some(refused) = greeting.refused {
        return Err(JobError::Useless { reason: one_line(&refused) });
    }
    if greeting.dgfs_tagger_worker == PROTOCOL {
        return Ok(greeting.in_force);
    }
    let reason = format!("it speaks version {}, expected {PROTOCOL}", greeting.dgfs_tagger_worker);
    Err(JobError::Rubbish { reason })
}

/// The answer to job `id`, within its bounds.
fn checked(line: &[u8], id: u64) -> Result<Answer, JobError> {
    let mut answer: Answer = serde_json::from_slice(line)
        .map_err(|error| JobError::Rubbish { reason: format!("its line is no answer: {error}") })?;
    if answer.id != id {
        return Err(JobError::Rubbish { reason: format!("it answered job {}, asked was {id}", answer.id) });
    }
    for found in &mut answer.findings {
        found.findings = std::mem::take(&mut found.findings).finish();
    }
    Ok(answer)
}
