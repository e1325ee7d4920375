//! A program that answers questions line by line behind limits.
//!
//! Never believes it: what it says is bounded in bytes and time, and one that has broken a rule is killed with all that
//! it started. Knows nothing of what is asked.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::sandbox::{self, Limits};

/// How long a killed process may take to be gone. The kernel needs milliseconds, unless a disk holds it.
const REAP_TIME: Duration = Duration::from_secs(2);

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
    #[error("no answer within {ms} ms; the tagger process was killed")]
    TimedOut {
        /// The bound.
        ms: u128,
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

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    leader: Option<u32>,
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
        sandbox::confine(&mut command, &program.limits).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| failed(io::Error::other("a new process has no pipes")))?;
        let (leader, limits) = (child.id(), program.limits);
        Ok(Self { child, leader, stdin, stdout: BufReader::new(stdout), jobs_left: limits.jobs_max.max(1), limits })
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
        let job_time = self.limits.job_time;
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
        match timeout(job_time, talk).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(JobError::Died { how: self.how_it_ended().await }),
            Ok(Err(error)) => Err(JobError::Rubbish { reason: error.to_string() }),
            Err(_) => Err(JobError::TimedOut { ms: job_time.as_millis() }),
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
        self.kill_group();
        // One that a disk holds is reaped by the runtime later.
        let _ = timeout(REAP_TIME, self.child.wait()).await;
    }

    fn kill_group(&mut self) {
        if let Some(leader) = self.leader.take() {
            sandbox::kill_group(leader);
        }
    }

    async fn how_it_ended(&mut self) -> String {
        match timeout(REAP_TIME, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output and runs on".to_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
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
