//! A process of the tests beside the test itself: asked by a line of JSON, answers by one.
//!
//! Never outlives its owner. Needed because a process that holds files of a mount open cannot start another while the mount
//! waits: the child's closing of its copies waits too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{spawn, wait};

/// How long a killed process may take to be gone.
const DIES: Duration = Duration::from_secs(5);

/// The process, from the test's side.
pub(crate) struct Peer {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the program of this name, which Cargo builds with the tests.
    pub(crate) fn start(program: &str) -> Self {
        let mut command = Command::new(beside_the_test(program));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(command).unwrap_or_else(|error| panic!("start {program}: {error}"));
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let (questions, answers) = (questions.expect("its input"), BufReader::new(answers.expect("its output")));
        Self { child, questions, answers }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("ask a process of the tests");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("hear from a process of the tests");
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("a process of the tests ended; asked {question}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // A call that a mount has and does not answer is not ended by SIGKILL, but by the end of the mount, which comes later.
        let _ = wait(&mut self.child, DIES);
    }
}

/// Answers every line of standard input until it ends.
pub(crate) fn serve(mut answer: impl FnMut(&Value) -> Value) {
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line.expect("read a question")).expect("a question is JSON");
        let said = answer(&question);
        let mut output = std::io::stdout().lock();
        writeln!(output, "{said}").and_then(|()| output.flush()).expect("write an answer");
    }
}

/// The test binary is .../TARGET/PROFILE/deps/all-HASH.
fn beside_the_test(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("find the test binary");
    let profile = test.parent().and_then(Path::parent).expect("the test binary lies in a target directory");
    profile.join(program)
}
