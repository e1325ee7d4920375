//! Real Redis servers for tests: started on a free port in a directory of their own.
//!
//! Never used outside of tests: every failure panics. Always true: a server ends with its
//! owner, also after a panic or when the whole test process is killed.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use dgfs_runtime::ports::free_ports;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Another server program for all tests, such as a path of `valkey-server`.
const PROGRAM_VARIABLE: &str = "DGFS_TEST_REDIS";
const START_DEADLINE: Duration = Duration::from_secs(20);
const PORTS_TRIED_MAX: usize = 5;
/// How often a starting server is asked; it cannot tell by itself.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A running server with an AOF (`appendfsync always` unless the arguments say otherwise) in a fresh directory.
pub struct RedisServer {
    dir: TestDir,
    port: u16,
    args: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers. `args` are options of redis-server, which override ours: `&["--appendonly", "no"]`.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { dir: TestDir::new("redis"), port: 0, args, child: None };
        // Somebody else may take the free port before the server does.
        for _ in 0..PORTS_TRIED_MAX {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start; its log:\n{}", server.log());
    }

    /// Address without a password, database 0.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// TCP port on 127.0.0.1. Stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Directory with the AOF.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Other options for the next [`Self::restart`].
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Starts the server again on the same port and directory, killing it first when it runs. The data come back from its AOF.
    pub fn restart(&mut self) {
        self.kill9();
        assert!(self.launch(), "redis-server does not start again; its log:\n{}", self.log());
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process dies of SIGKILL too.
            must(child.kill(), "kill redis-server");
            must(child.wait(), "wait for redis-server");
        }
    }

    /// SIGSTOP: the server takes connections (the kernel does) but answers nothing.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT after [`Self::stop`].
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends one command as written (words parted by spaces) and returns the first bytes of the raw answer.
    #[must_use]
    pub fn command(&self, words: &str) -> String {
        must(ask(self.port, words), "ask redis-server")
    }

    fn launch(&mut self) -> bool {
        let program = std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "redis-server".to_owned());
        let log = must(std::fs::File::create(self.dir.path().join("log")), "create the log of redis-server");
        let mut command = Command::new(program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null());
        self.child = Some(spawn_to_die_with_us(command));
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(Some(_)) | Err(_)) | None) {
                self.child = None;
                return false;
            }
            match ask(self.port, "PING") {
                Ok(answer) if answer.starts_with('+') || answer.starts_with("-NOAUTH") => return true,
                _ => thread::sleep(ASK_AGAIN),
            }
        }
        self.kill9();
        false
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { panic!("redis-server does not run") };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { panic!("redis-server has no process id") };
        must(kill_process(pid, signal), "signal redis-server");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to do about a failure here: the process is gone then.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A fresh directory that is removed with its owner.
pub struct TestDir(PathBuf);

impl TestDir {
    /// Makes it below the directory for temporary files.
    #[must_use]
    pub fn new(what: &str) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dgfs-test-{what}-{}-{number}", std::process::id()));
        // A leftover of a killed process that had our id.
        drop(std::fs::remove_dir_all(&path));
        must(std::fs::create_dir_all(&path), "create a test directory");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Spawns from a thread that lives as long as the process: the death signal is sent when the
/// *thread* that spawned ends, and a test's thread ends before a server that is shared.
fn spawn_to_die_with_us(mut command: Command) -> Child {
    type Job = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                drop(answer.send(command.spawn()));
            }
        });
        jobs
    });
    let die = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: between fork and exec only prctl(2) is called, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(die) };
    let (answer, answered) = channel();
    must(spawner.send((command, answer)), "reach the spawning thread");
    must(must(answered.recv(), "hear from the spawning thread"), "start redis-server (is it installed?)")
}

fn free_port() -> u16 {
    must(must(free_ports(1), "find a free port").pop().ok_or("none"), "find a free port")
}

fn ask(port: u16, words: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(START_DEADLINE))?;
    stream.write_all(format!("{words}\r\n").as_bytes())?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

fn must<T, E: Display>(outcome: Result<T, E>, step: &str) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{step}: {error}"),
    }
}
