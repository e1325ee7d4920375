//! Taggers that users register: any program that reads jobs as JSON lines and writes findings as JSON lines, and any model
//! that a worker of this crate can run.
//!
//! Never hands out a path of the volume: the program gets a copy of the file in a private directory, which is removed
//! when it has answered. It runs behind the limits of [`crate::sandbox`], one job at a time, and what it says is bounded
//! and spelt lawfully like the findings of any tagger. `docs/TAGGERS.md` is its manual.

mod config;
#[cfg(feature = "models")]
pub(crate) mod model;
mod spool;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::child::{JobError, Program, Running};
use crate::findings::{Findings, LinkKind, one_line};
use crate::job::Job;
use crate::kind::Kind;
use crate::protocol::{Ended, Failed, Found};
use config::Config;
pub use config::{ConfigError, load_all};
pub(crate) use config::{Registration, Wanted};
use spool::Spooled;

/// Bytes of an answer's line at most.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A tagger that a user registered by a TOML file.
#[derive(Debug)]
pub struct External {
    name: String,
    version: u32,
    wanted: Wanted,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Program(Box<RunningProgram>),
    #[cfg(feature = "models")]
    Model(Box<RunningModel>),
}

#[derive(Debug)]
struct RunningProgram {
    program: Program,
    /// The process between two jobs. The lock is held while a job runs, so that jobs wait for one another.
    running: Mutex<Option<Running>>,
    next_id: AtomicU64,
}

#[cfg(feature = "models")]
#[derive(Debug)]
struct RunningModel {
    pool: crate::pool::Pool,
    /// Why it is never asked again; set once.
    off: std::sync::OnceLock<String>,
}

/// The line that the program reads.
#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    name: &'a str,
    size: u64,
    mime: &'a str,
    class: &'a str,
    path: &'a str,
}

/// The line that it writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    id: u64,
    #[serde(default)]
    tags: Vec<ReplyTag>,
    #[serde(default)]
    values: BTreeMap<String, ReplyValue>,
    #[serde(default)]
    links: Vec<ReplyLink>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyTag {
    Plain(String),
    Rated { tag: String, confidence: f32 },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyValue {
    Number(f64),
    Text(String),
    Time { time: i64 },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ReplyLink {
    Plain(String),
    Kind { kind: LinkKind, target: String },
}

impl External {
    /// Reads the registration at `path`. A relative program is found beside that file, where it also runs; so are a model
    /// and what belongs to it. `worker` is the program that calls [`crate::worker::start`] with the words behind its own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the file and what is wrong in it.
    #[cfg_attr(not(feature = "models"), expect(unused_variables, reason = "only a model is run by the worker"))]
    pub fn load(path: &Path, worker: &[OsString]) -> Result<Self, ConfigError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned);
        match Registration::load(path)? {
            Registration::Program(Config { name, version, command, wanted, limits }) => {
                let command = command.into_iter().map(OsString::from).collect();
                let program = Program { command, directory, limits };
                let running = RunningProgram { program, running: Mutex::new(None), next_id: AtomicU64::new(1) };
                Ok(Self { name, version, wanted, runs: Runs::Program(Box::new(running)) })
            }
            #[cfg(feature = "models")]
            Registration::Model(model::ModelConfig { name, version, wanted, limits, .. }) => {
                let mut command = worker.to_vec();
                command.extend([path.as_os_str().to_owned(), OsString::from(version.to_string())]);
                // One at a time, as a program: a model may be large.
                let pool = crate::pool::Pool::new(crate::pool::PoolConfig { command, workers: 1, limits });
                let runs = Runs::Model(Box::new(RunningModel { pool, off: std::sync::OnceLock::new() }));
                Ok(Self { name, version, wanted, runs })
            }
        }
    }

    /// As registered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another when the same file would give other findings: a program's as registered, a model's a hash of its files and
    /// its registration.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether it was registered for files of this kind.
    pub fn wants(&self, kind: &Kind) -> bool {
        self.wanted.has(kind)
    }

    /// Why it is not asked any more: a model that cannot be loaded. `None` while it works, and before its first file.
    pub fn off(&self) -> Option<&str> {
        match &self.runs {
            Runs::Program(_) => None,
            #[cfg(feature = "models")]
            Runs::Model(model) => model.off.get().map(String::as_str),
        }
    }

    /// Lets it examine a file; `spool` is a directory of the caller's that nobody else can enter. Waits while another
    /// job runs. Cancelling kills the program, and the next job starts it again.
    ///
    /// # Errors
    ///
    /// The tagger's name and a sentence: this job failed and no other.
    pub async fn examine(&self, job: &Job<'_>, kind: &Kind, spool: &Path) -> Result<Found, Failed> {
        let outcome = match &self.runs {
            Runs::Program(program) => program
                .ask(&self.name, (job, kind), spool)
                .await
                .map_err(|error| (sentence(&error), error.is_passing(), error.ended())),
            #[cfg(feature = "models")]
            Runs::Model(model) => {
                let answer = model.ask(&self.name, job).await;
                answer.map_err(|(reason, passing)| (reason, passing, Ended::Failed))
            }
        };
        let findings = outcome.map_err(|(reason, passing, ended)| Failed {
            name: self.name.clone(),
            version: self.version,
            reason: one_line(&reason),
            passing,
            ended,
        })?;
        Ok(Found { name: self.name.clone(), version: self.version, findings })
    }
}

/// An error with its cause.
fn sentence(error: &JobError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(feature = "models")]
impl RunningModel {
    /// An error is a sentence, and whether another try may end otherwise.
    async fn ask(&self, name: &str, job: &Job<'_>) -> Result<Findings, (String, bool)> {
        if let Some(reason) = self.off.get() {
            return Err((reason.clone(), false));
        }
        let answer = self.pool.examine(job).await.map_err(|error| {
            let reason = sentence(&error);
            if !matches!(error, JobError::Useless { .. }) {
                return (reason, error.is_passing());
            }
            let reason = format!("the model is not used: {reason}");
            if self.off.set(reason.clone()).is_ok() {
                tracing::warn!(tagger = name, %reason, "a tagger is off until the next start");
            }
            (reason, false)
        })?;
        if let Some(failed) = answer.failures.into_iter().next() {
            return Err((failed.reason, false));
        }
        // A file that it does not want by its own look at the content has nothing found in it.
        Ok(answer.findings.into_iter().next().map(|found| found.findings).unwrap_or_default())
    }
}

impl RunningProgram {
    async fn ask(&self, name: &str, (job, kind): (&Job<'_>, &Kind), spool: &Path) -> Result<Findings, JobError> {
        let mut slot = self.running.lock().await;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let refused = |error: std::io::Error| JobError::Refused { reason: format!("write its copy: {error}") };
        let spooled = Spooled::write(spool, name, id, job.bytes).map_err(refused)?;
        let (mime, class, path) = (kind.mime.as_str(), kind.class.as_str(), spooled.path());
        let question = Question { id, name: job.name, size: job.size, mime, class, path };
        let line = serde_json::to_vec(&question).map_err(|error| JobError::Refused { reason: error.to_string() })?;
        let mut running = match slot.take() {
            Some(running) => running,
            None => Running::start(&self.program)?,
        };
        match running.ask([&line, b"\n"], ANSWER_BYTES_MAX).await.and_then(|line| reply(&line, id)) {
            Ok(reply) => {
                if running.is_fresh() {
                    *slot = Some(running);
                } else {
                    running.kill().await;
                }
                findings(reply)
            }
            Err(error) => {
                running.kill().await;
                Err(error)
            }
        }
    }
}

fn reply(line: &[u8], id: u64) -> Result<Reply, JobError> {
    let reply: Reply = serde_json::from_slice(line).map_err(|error| JobError::Rubbish {
        reason: format!("its line is not {{\"id\", \"tags\", \"values\", \"links\", \"text\", \"error\"}}: {error}"),
    })?;
    if reply.id == id {
        return Ok(reply);
    }
    Err(JobError::Rubbish { reason: format!("it answered job {}, asked was {id}", reply.id) })
}

fn findings(reply: Reply) -> Result<Findings, JobError> {
    if let Some(error) = reply.error {
        return Err(JobError::Refused { reason: format!("the tagger says: {}", one_line(&error)) });
    }
    let mut out = Findings::default();
    for tag in reply.tags {
        match tag {
            ReplyTag::Plain(tag) => out.mark(&tag, 1.0),
            ReplyTag::Rated { tag, confidence } => out.mark(&tag, confidence),
        }
    }
    for (key, value) in reply.values {
        match value {
            ReplyValue::Number(number) => out.number(&key, number),
            ReplyValue::Text(text) => out.text_value(&key, &text),
            ReplyValue::Time { time } => out.time(&key, time),
        }
    }
    for link in reply.links {
        match link {
            ReplyLink::Plain(target) => out.link(LinkKind::Reference, &target),
            ReplyLink::Kind { kind, target } => out.link(kind, &target),
        }
    }
    out.append_text(&reply.text);
    Ok(out.finish())
}
