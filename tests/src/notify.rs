//! A service manager's end of the notification protocol: what systemd hears of a service.
//!
//! Never answers, as systemd does not. Always: messages are kept in the order in which they came.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{kill9, log_file, signal, spawn, tail, wait};
use crate::program::dgfs;

/// How long a service may take to say something, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the log in the report of a failure.
const LOG_LINES: usize = 30;

/// A service started as systemd starts one of `Type=notify`.
pub struct Service {
    child: Child,
    socket: UnixDatagram,
    log: PathBuf,
}

impl Service {
    /// Starts `dgfs WORDS` with the socket and log of this `name` in `directory`. With a `watchdog` it is asked for signs of
    /// life; `credentials` is the directory that it is told to hold its credentials.
    #[must_use]
    pub fn start(
        (directory, name): (&Path, &str),
        words: &[&str],
        watchdog: Option<Duration>,
        credentials: Option<&Path>,
    ) -> Self {
        let (path, log) = (directory.join(format!("{name}.notify")), directory.join(format!("{name}.log")));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("make the socket of a service manager");
        let mut command = Command::new(dgfs());
        command.args(words).env("NOTIFY_SOCKET", &path).env_remove("CREDENTIALS_DIRECTORY");
        if let Some(limit) = watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        if let Some(credentials) = credentials {
            command.env("CREDENTIALS_DIRECTORY", credentials);
        }
        let output = log_file(&log);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("share a log")).stderr(output);
        Self { child: spawn(command).expect("start dgfs"), socket, log }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next message within `patience`, if one comes.
    #[must_use]
    pub fn hear(&self, patience: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        // A time-out of zero would mean none at all.
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("set a time-out");
        match self.socket.recv(&mut bytes) {
            Ok(len) => Some(String::from_utf8_lossy(&bytes[..len]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("hear from the service: {error}"),
        }
    }

    /// Waits for a message that has the line `wanted`; everything that was heard up to it.
    #[track_caller]
    pub fn wait_for(&self, wanted: &str) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|message: &String| message.lines().any(|line| line == wanted)) {
            match self.hear(end.saturating_duration_since(Instant::now())) {
                Some(message) => heard.push(message),
                None => panic!("no {wanted}, but {heard:?}; its log:\n{}", tail(&self.log, LOG_LINES)),
            }
        }
        heard
    }

    /// SIGTERM, and its end: how it ended, and what it said on the way.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Vec<String>) {
        signal(self.pid(), Signal::TERM);
        let status = self.end();
        let mut heard = Vec::new();
        while let Some(message) = self.hear(Duration::ZERO) {
            heard.push(message);
        }
        (status, heard)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        wait(&mut self.child, PATIENCE).unwrap_or_else(|| panic!("it does not end:\n{}", tail(&self.log, LOG_LINES)))
    }

    /// The end of its log.
    #[must_use]
    pub fn said(&self) -> String {
        tail(&self.log, LOG_LINES)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill9(self.child.id());
            let _ = self.child.wait();
        }
    }
}
