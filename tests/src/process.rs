//! Processes of a test: started so that they die with it, run with a deadline, killed by pid.
//!
//! Never kills by name. Always: a process started here gets SIGKILL when the test process ends, however it ends.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// How often something that cannot tell by itself is asked.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code, or the signal.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Outcome {
    /// Panics with everything the command said unless it succeeded; returns its output.
    #[must_use]
    #[track_caller]
    pub fn expect_success(self, what: &str) -> String {
        assert!(self.status.success(), "{what}: {}\n{}{}", self.status, self.output, self.errors);
        self.output
    }
}

/// Spawns `command` to die with this process.
pub fn spawn(mut command: Command) -> std::io::Result<Child> {
    type Job = (Command, Sender<std::io::Result<Child>>);
    // The death signal comes when the *thread* that spawned ends, so one thread that never ends spawns everything.
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let die = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: between fork and exec only prctl(2) is called, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(die) };
    let (answer, answered) = channel();
    spawner.send((command, answer)).expect("reach the spawning thread");
    answered.recv().expect("hear from the spawning thread")
}

/// Runs a program to its end; panics when it takes longer than `deadline`.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, words: &[S], deadline: Duration) -> Outcome {
    let mut command = Command::new(program.as_ref());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(error) => panic!("start {}: {error} (is it installed?)", program.as_ref().display()),
    };
    let output = collect(child.stdout.take());
    let errors = collect(child.stderr.take());
    let what = || words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let Some(status) = wait(&mut child, deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} {} did not end in {deadline:?}", program.as_ref().display(), what());
    };
    Outcome { status, output: output.join().unwrap_or_default(), errors: errors.join().unwrap_or_default() }
}

/// Waits for a child's end; none after `deadline`.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(ASK_AGAIN);
    }
}

/// Waits until `is_so`; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !is_so() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        thread::sleep(ASK_AGAIN);
    }
}

/// SIGKILL, and waits until the process is gone or a zombie. A process that is gone already is no error.
pub fn kill9(pid: u32) {
    signal(pid, Signal::KILL);
    wait_until("a killed process is gone", Duration::from_secs(30), || !lives(pid));
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Is there a process of this number with a thread that is no zombie? (The first thread may be one while others still hold files.)
#[must_use]
pub fn lives(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold anything.
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// Processes that any thread of a process started.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The last lines of a log, for the report of a failure.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A log file that is appended to by whoever gets it.
#[must_use]
pub fn log_file(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("open a log file")
}

fn collect(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
