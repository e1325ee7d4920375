//! The loop of a worker process: frames in, answers out.
//!
//! Never lets one tagger's failure touch another's findings, and never opens a file or a socket: [`run`] seals the
//! process before it reads the first byte. A worker keeps dictionaries between jobs and nothing else.

#[cfg(feature = "models")]
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "models")]
use std::path::Path;

use crate::findings::{Findings, one_line};
use crate::job::Job;
use crate::kind::kind_of;
use crate::protocol::{Answer, Ended, Failed, Found, Greeting, PROTOCOL, read_frame};
use crate::sandbox;
use crate::tagger::{Tagger, builtin};

/// Runs a worker on standard input and output until the input ends.
///
/// # Errors
///
/// Where the streams fail or the parent breaks the protocol; the process should then end.
pub fn run(taggers: &[Box<dyn Tagger>]) -> io::Result<()> {
    let mut output = prepare()?;
    let greeting = Greeting { dgfs_tagger_worker: PROTOCOL, in_force: sandbox::seal(), refused: None };
    write_line(&mut output, &greeting)?;
    serve(&mut BufReader::new(io::stdin()), &mut output, taggers)
}

/// Runs what the words after the worker's own ask for: without any, the taggers of this crate; with a registration's path
/// and a version, the model that is registered there ([`crate::external`] makes this command).
///
/// # Errors
///
/// As [`run`], and where the words are others.
pub fn start(words: &[OsString]) -> io::Result<()> {
    match words {
        [] => run(&builtin()),
        #[cfg(feature = "models")]
        [registration, version] => run_model(registration.as_ref(), version),
        _ => Err(io::Error::other("expected no words after the worker's, or a registration's path and a version")),
    }
}

/// A worker with a model: its files are read before the process is sealed, and nothing is made of them before that.
#[cfg(feature = "models")]
fn run_model(registration: &Path, version: &OsStr) -> io::Result<()> {
    let mut output = prepare()?;
    let read = crate::model::ModelFiles::read(registration, version);
    let threads = crate::model::Threads::start(|| {
        sandbox::seal();
    });
    let in_force = sandbox::seal();
    let opened = read.and_then(|files| {
        let opened = catch_unwind(AssertUnwindSafe(|| files.open(&threads)));
        opened.unwrap_or_else(|panic| Err(format!("it cannot be loaded: {}", words_of(&*panic))))
    });
    let (tagger, refused) = match opened {
        Ok(tagger) => (Some(tagger), None),
        Err(reason) => (None, Some(one_line(&reason))),
    };
    write_line(&mut output, &Greeting { dgfs_tagger_worker: PROTOCOL, in_force, refused })?;
    match tagger {
        Some(tagger) => serve(&mut BufReader::new(io::stdin()), &mut output, &[tagger]),
        None => Ok(()),
    }
}

/// Where answers go.
fn prepare() -> io::Result<File> {
    // A library that prints must not speak for the worker: answers go out by a descriptor of their own.
    let output = sandbox::take_stdout()?;
    // A panic is reported in the answer; its text on stderr would tell nobody more.
    std::panic::set_hook(Box::new(|_| {}));
    Ok(output)
}

/// Answers frames until the input ends.
///
/// # Errors
///
/// As [`run`].
pub fn serve(input: &mut impl BufRead, output: &mut impl Write, taggers: &[Box<dyn Tagger>]) -> io::Result<()> {
    while let Some((header, content)) = read_frame(input)? {
        let job = Job {
            name: &header.name,
            size: header.size,
            bytes: &content,
            mime_hint: header.mime_hint.as_deref(),
            charset_hint: header.charset_hint.as_deref(),
        };
        write_line(output, &examine(header.id, &job, taggers))?;
    }
    Ok(())
}

/// Runs every tagger that wants the file.
pub fn examine(id: u64, job: &Job<'_>, taggers: &[Box<dyn Tagger>]) -> Answer {
    let kind = kind_of(job);
    let mut answer = Answer { id, kind, findings: Vec::new(), failures: Vec::new() };
    for tagger in taggers.iter().filter(|tagger| tagger.wants(&answer.kind)) {
        let (name, version) = (tagger.name().to_owned(), tagger.version());
        let mut findings = Findings::default();
        // What a tagger leaves behind when it panics is dropped with `findings`; it keeps nothing else.
        let outcome = catch_unwind(AssertUnwindSafe(|| tagger.examine(job, &answer.kind, &mut findings)));
        let reason = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => {
                findings = Findings::default();
                Some(format!("panicked: {}", words_of(&*panic)))
            }
        };
        if let Some(reason) = reason {
            answer.failures.push(Failed {
                name: name.clone(),
                version,
                reason: one_line(&reason),
                passing: false,
                ended: Ended::Failed,
            });
        }
        if findings != Findings::default() {
            answer.findings.push(Found { name, version, findings: findings.finish() });
        }
    }
    answer
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

fn write_line(output: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
