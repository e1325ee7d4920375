//! Has another process of this program do what may hang: touch a mount.
//!
//! Never waits longer than it was told to. A process that hangs in the kernel stays behind until its mount is ended, instead of
//! this one.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What is read of an answer at most; longer ones are cut.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// How often it is looked whether the process ended.
const LOOK: Duration = Duration::from_millis(10);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It succeeded, and said this.
    Told(String),
    /// It failed, with this sentence.
    Refused(String),
    /// It did not end in time.
    Hangs,
}

/// Runs `dgfs WORDS PATH`, waiting at most for `patience`.
pub(crate) fn run(words: &[&str], path: &Path, patience: Duration) -> Answer {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Answer::Refused(format!("this program is not found: {error}")),
    };
    let mut command = Command::new(program);
    command.args(words).arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => wait(child, patience),
        Err(error) => Answer::Refused(format!("start another process: {error}")),
    }
}

fn wait(mut child: Child, patience: Duration) -> Answer {
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                // Where it hangs in the kernel this helps later, so it is not waited for.
                let _ = child.kill();
                return Answer::Hangs;
            }
        }
    };
    let text =
        |pipe: Option<Receiver<String>>| pipe.and_then(|pipe| pipe.recv_timeout(patience).ok()).unwrap_or_default();
    if status.success() {
        return Answer::Told(text(output));
    }
    let said = text(errors);
    Answer::Refused(said.trim().trim_start_matches("dgfs: ").to_owned())
}

/// Reads a pipe to its end, in a thread that nobody waits for.
fn collect(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut pipe = pipe.take(ANSWER_BYTES_MAX);
        let _ = pipe.read_to_end(&mut bytes);
        // What is too long is thrown away, so that the process does not wait for a reader.
        let _ = std::io::copy(pipe.get_mut(), &mut std::io::sink());
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Answer, wait};

    fn of(script: &str, patience: Duration) -> Answer {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn().unwrap(), patience)
    }

    #[test]
    fn who_answers_refuses_or_hangs_is_told_apart() {
        let minute = Duration::from_secs(60);
        assert_eq!(of("echo yes", minute), Answer::Told("yes\n".to_owned()));
        assert_eq!(of("echo 'dgfs: no' >&2; exit 1", minute), Answer::Refused("no".to_owned()));
        assert_eq!(of("exec sleep 600", Duration::from_millis(50)), Answer::Hangs);
    }
}
