//! A program that answers questions line by line behind limits.
//!
//! Never believes it: what it says is bounded in bytes and time, and one that has broken a rule is killed with all that
//! it started. Knows nothing of what is asked.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::protocol::Ended;
use crate::sandbox::{self, Limits};

/// How long a killed process may take to be gone. The kernel needs milliseconds, unless a disk holds it.
const REAP_TIME: Duration = Duration::from_secs(2);
/// How often it is asked whether it is gone.
const REAP_STEP: Duration = Duration::from_millis(5);
/// How often at most the processor time of a job is looked at: one that is nearly at its end would be looked at without a pause.
const TIME_STEP: Duration = Duration::from_millis(20);

/// How a program is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// Where it runs; `None`: where we run.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) limits: Limits,
}

/// Why a job has no answer.
#[derive(Debug, Error)]
pub enum JobError {
    /// The process could not be started.
    #[error("start the tagger process {program}")]
    Start {
        /// As it was called.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It started and said that it cannot work, or ended instead of saying that it can. Another start would end alike.
    #[error("{reason}")]
    Useless {
        /// A sentence.
        reason: String,
    },
    /// It gave no answer in time and was killed.
    #[error("no answer within {ms} ms {measured}; the tagger process was killed")]
    TimedOut {
        /// The bound.
        ms: u128,
        /// By what: of processor time, or by the clock.
        measured: &'static str,
    },
    /// It ended before it answered, as a crash or a limit of memory or processor time ends it.
    #[error("the tagger process ended before it answered ({how})")]
    Died {
        /// Exit status or signal.
        how: String,
    },
    /// It said something else than was asked for.
    #[error("the tagger process broke the protocol: {reason}")]
    Rubbish {
        /// What was expected.
        reason: String,
    },
    /// The job itself is more than a job may be, or the file could not be handed over.
    #[error("the job cannot be handed over: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl JobError {
    /// How it ended, in one word.
    pub fn ended(&self) -> Ended {
        match self {
            Self::Start { .. } | Self::Useless { .. } | Self::Died { .. } => Ended::Crashed,
            Self::TimedOut { .. } => Ended::TimedOut,
            Self::Rubbish { .. } => Ended::Failed,
            Self::Refused { .. } => Ended::Refused,
        }
    }

    /// Whether another try may end otherwise: what ended by time or died may have done so because the machine was busy or short of
    /// memory. What broke the protocol or said that it cannot is as it is.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Useless { .. } | Self::TimedOut { .. } | Self::Died { .. } => true,
            Self::Rubbish { .. } | Self::Refused { .. } => false,
        }
    }
}

/// Killed processes that nobody waited for: the next start asks again whether they are gone. One for each [`Running`] that was dropped
/// in the middle of a job, so there are few.
static UNREAPED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Leads the group of what it started.
    leader: Option<u32>,
    /// The leader is no `child`, but the first process of a namespace, and to be reaped by its number.
    is_first: bool,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    jobs_left: u32,
    limits: Limits,
}

impl Running {
    pub(crate) fn start(program: &Program) -> Result<Self, JobError> {
        let name = program.command.first().cloned().unwrap_or_default();
        let failed = |source| JobError::Start { program: name.to_string_lossy().into_owned(), source };
        let mut command = Command::new(&name);
        command.args(program.command.iter().skip(1));
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        // The environment may hold secrets of the parent.
        command.env_clear().env("LANG", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        UNREAPED.lock().retain(|process| sandbox::reap(*process).is_none());
        let announced = sandbox::confine(&mut command, &program.limits).map_err(failed)?;
        let spawned = command.spawn();
        // One that could not run its program has ended, and is announced all the same.
        let first = announced.first();
        let mut child = spawned.map_err(|source| {
            UNREAPED.lock().extend(first);
            failed(source)
        })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| failed(io::Error::other("a new process has no pipes")))?;
        let (leader, is_first, limits) = (first.or(child.id()), first.is_some(), program.limits);
        let (stdout, jobs_left) = (BufReader::new(stdout), limits.jobs_max.max(1));
        Ok(Self { child, leader, is_first, stdin, stdout, jobs_left, limits })
    }

    /// Whether it may get another job.
    pub(crate) fn is_fresh(&self) -> bool {
        self.jobs_left > 0
    }

    /// Sends `parts` and waits for one line of at most `answer_max` bytes. After an error the process must be
    /// [killed](Self::kill), since what it would say next belongs to no job.
    pub(crate) async fn ask(&mut self, parts: [&[u8]; 2], answer_max: usize) -> Result<Vec<u8>, JobError> {
        self.jobs_left = self.jobs_left.saturating_sub(1);
        if !self.stdout.buffer().is_empty() {
            return Err(JobError::Rubbish { reason: "it spoke without being asked".to_owned() });
        }
        let (leader, limits) = (self.leader, self.limits);
        let talk = async {
            let send = async {
                for part in parts {
                    self.stdin.write_all(part).await?;
                }
                self.stdin.flush().await
            };
            // It may answer before it has read all, so both directions go on at once; one that reads no more has died
            // or answers anyway, which the line tells.
            let (_, line) = tokio::join!(send, read_line(&mut self.stdout, answer_max));
            line
        };
        match in_time(talk, leader, &limits).await? {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(JobError::Died { how: self.how_it_ended().await }),
            Err(error) => Err(JobError::Rubbish { reason: error.to_string() }),
        }
    }

    /// Waits for one line that it says unasked, in the time of a job.
    pub(crate) async fn hear(&mut self, bytes_max: usize) -> Result<Vec<u8>, JobError> {
        let jobs_left = self.jobs_left;
        let line = self.ask([&[], &[]], bytes_max).await;
        self.jobs_left = jobs_left;
        line
    }

    /// Kills it with all that it started, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        if let Some(leader) = self.leader {
            sandbox::kill_group(leader);
        }
        // One that a disk holds is reaped later.
        self.how_it_ended().await;
        if !self.is_first {
            // Its number may soon be another's.
            self.leader = None;
        }
    }

    /// Waits for its end; what is the first process of a namespace is forgotten with it.
    async fn how_it_ended(&mut self) -> String {
        if self.is_first {
            let ended = timeout(REAP_TIME, first_ended(self.leader)).await;
            if ended.is_ok() {
                self.leader = None;
            }
            return ended.unwrap_or_else(|_| "it closed its output and runs on".to_owned());
        }
        match timeout(REAP_TIME, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output and runs on".to_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            sandbox::kill_group(leader);
            UNREAPED.lock().extend(self.is_first.then_some(leader));
        }
    }
}

async fn first_ended(leader: Option<u32>) -> String {
    let Some(leader) = leader else { return "it has ended".to_owned() };
    loop {
        if let Some(how) = sandbox::reap(leader) {
            return how;
        }
        sleep(REAP_STEP).await;
    }
}

/// What `work` gives while the process has processor time left, and in the time by the clock. Where its processor time is not
/// known, the clock alone counts.
async fn in_time<T>(work: impl Future<Output = T>, process: Option<u32>, limits: &Limits) -> Result<T, JobError> {
    let used = || process.and_then(sandbox::processor_time);
    let (begun, before) = (Instant::now(), used());
    let mut work = std::pin::pin!(work);
    let mut left = limits.job_time;
    loop {
        let until_end = limits.clock_time().saturating_sub(begun.elapsed());
        if let Ok(done) = timeout(left.max(TIME_STEP).min(until_end), &mut work).await {
            return Ok(done);
        }
        let took = used().zip(before).map(|(now, before)| now.saturating_sub(before));
        left = limits.job_time.saturating_sub(took.unwrap_or(Duration::ZERO));
        if begun.elapsed() >= limits.clock_time() {
            return Err(JobError::TimedOut { ms: limits.clock_time().as_millis(), measured: "by the clock" });
        }
        if left.is_zero() {
            return Err(JobError::TimedOut { ms: limits.job_time.as_millis(), measured: "of processor time" });
        }
    }
}

/// A line without its end; `None` where the output ended before it.
async fn read_line(stdout: &mut BufReader<ChildStdout>, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let bound = bytes_max as u64;
    (&mut *stdout).take(bound).read_until(b'\n', &mut line).await?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    if line.len() + 1 >= bytes_max {
        return Err(io::Error::other(format!("a line of more than {bytes_max} bytes")));
    }
    Ok(None)
}
