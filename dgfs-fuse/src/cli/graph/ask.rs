//! A request to the graph of a mount, and the lines of its answer.
//!
//! Never knows what a request means. Always: what is not on a DGFS mount is not written to, a refusal is a sentence, and no line of
//! an answer takes more than [`LINE_BYTES_MAX`] of memory.

#[cfg(test)]
pub(crate) mod testing;

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::asking;
use crate::cli::Failure;
use crate::cli::files::{MountFacts, read_attribute};
use crate::cli::graph::{misused, refused};
use crate::cli::mounted::refuse_silent;

/// Bytes of a request: a mount takes no more.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of one line: a set of a thousand files of equal content, each with the longest path there is, escaped and in hexadecimal.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Lines that are kept at once; pages and sets are shorter.
const LINES_MAX: usize = 100_000;

/// Who answers requests: a mount, or a test.
pub(crate) trait Ask {
    /// Calls `take` with each line of the answer, as it comes.
    ///
    /// # Errors
    /// The mount does not answer, or refuses: a sentence; or what `take` said.
    fn ask(&self, request: &Value, take: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure>;

    /// The whole answer.
    ///
    /// # Errors
    /// As [`Ask::ask`]; more than a hundred thousand lines.
    fn lines(&self, request: &Value) -> Result<Vec<Value>, Failure> {
        let mut lines = Vec::new();
        self.ask(request, &mut |line| {
            if lines.len() == LINES_MAX {
                return Err(refused(format!("the mount's answer has more than {LINES_MAX} lines")));
            }
            lines.push(line);
            Ok(())
        })?;
        Ok(lines)
    }

    /// The first line of the answer.
    ///
    /// # Errors
    /// As [`Ask::lines`]; an answer without lines.
    fn line(&self, request: &Value) -> Result<Value, Failure> {
        let first = self.lines(request)?.into_iter().next();
        first.ok_or_else(|| refused("the mount answered nothing: its version is another one"))
    }

    /// Has something done of which there is nothing to show.
    ///
    /// # Errors
    /// As [`Ask::ask`].
    fn order(&self, request: &Value) -> Result<(), Failure> {
        self.ask(request, &mut |_| Ok(()))
    }
}

impl<A: Ask> Ask for &A {
    fn ask(&self, request: &Value, take: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        A::ask(self, request, take)
    }
}

/// The graph of a mount, asked from one of its directories.
#[derive(Debug)]
pub(crate) struct Mount {
    directory: PathBuf,
    /// What `.tags` is called there.
    tags: String,
}

impl Mount {
    /// As seen from `directory`.
    pub(crate) fn at(directory: &Path) -> Result<Self, Failure> {
        refuse_silent(directory)?;
        let facts = read_attribute(directory, "dgfs.mount").map_err(|error| not_mounted(directory, &error))?;
        Ok(Self { directory: directory.to_owned(), tags: tags_name(&facts) })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let (at, tags) = (self.directory.display(), &self.tags);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => refused(format!(
                "{at} has no {tags} to ask: it lies in one itself, or the mount was made without it or by an older version"
            )),
            Some(libc::EOPNOTSUPP) => refused(format!("the mount at {at} knows no index: start one with `dgfs index`")),
            Some(libc::ETIMEDOUT | libc::EAGAIN) => refused(format!("the mount at {at}: no index answered in time")),
            _ => refused(format!("ask the mount at {at}: {error}")),
        }
    }
}

/// What a mount that says this of itself calls `.tags`.
fn tags_name(facts: &[u8]) -> String {
    MountFacts::parse(facts).ok().and_then(|facts| facts.tags).unwrap_or_else(|| ".tags".to_owned())
}

/// Why `directory` is none to ask from.
fn not_mounted(directory: &Path, error: &io::Error) -> Failure {
    let at = directory.display();
    match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP | libc::EPERM) if is_virtual(directory) => {
            refused(format!("{at} lies in .tags itself: name a directory of the volume (--in)"))
        }
        Some(libc::ENODATA | libc::EOPNOTSUPP) => refused(format!("{at} is not on a DGFS mount")),
        Some(libc::ENOTCONN) => {
            refused(format!("the mount at {at} is dead, its process is gone: mount again, or dgfs umount {at}"))
        }
        _ => refused(format!("{at}: {error}")),
    }
}

/// Does the path lead into `.tags`? (A directory of another file system may be called so, too: this only chooses words.)
fn is_virtual(directory: &Path) -> bool {
    directory.components().any(|part| part.as_os_str() == ".tags")
}

impl Ask for Mount {
    fn ask(&self, request: &Value, take: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let bytes = request.to_string();
        check_length(&bytes)?;
        let path = self.directory.join(&self.tags).join("@ask");
        let failed = |error: io::Error| self.failed(&error);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                let file = OpenOptions::new().read(true).open(&path).map_err(failed)?;
                asking::send(&file, bytes.as_bytes()).map_err(failed)?;
                file
            }
            opened => {
                let mut file = opened.map_err(failed)?;
                file.write_all(bytes.as_bytes()).map_err(failed)?;
                file
            }
        };
        let mut answer = BufReader::with_capacity(64 << 10, file);
        while let Some(line) = next_line(&mut answer, failed)? {
            take(line)?;
        }
        Ok(())
    }
}

fn check_length(request: &str) -> Result<(), Failure> {
    if request.len() <= REQUEST_BYTES_MAX {
        return Ok(());
    }
    Err(misused(format!("the request has {} bytes, a mount takes {REQUEST_BYTES_MAX}: make it shorter", request.len())))
}

/// The next line that is no refusal; none at the end.
fn next_line(answer: &mut impl io::BufRead, failed: impl Fn(io::Error) -> Failure) -> Result<Option<Value>, Failure> {
    let mut bytes = Vec::new();
    let read = answer.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failed)?;
    if read == 0 {
        return Ok(None);
    }
    let line: Value = serde_json::from_slice(&bytes).map_err(|error| {
        refused(format!("the mount's answer is not understood ({error}): its version is another one"))
    })?;
    match refusal(&line) {
        Some(failure) => Err(failure),
        None => Ok(Some(line)),
    }
}

/// The refusal that a line is: an object of nothing but an error, its place and what was expected. (A row of Cypher may have an
/// `error` among other columns.)
fn refusal(line: &Value) -> Option<Failure> {
    let object = line.as_object()?;
    let sentence = object.get("error")?.as_str()?;
    if !object.keys().all(|key| matches!(key.as_str(), "error" | "at" | "expected")) {
        return None;
    }
    match object.get("expected").and_then(Value::as_str).filter(|expected| !sentence.contains(*expected)) {
        Some(expected) => Some(refused(format!("{sentence}; expected {expected}"))),
        None => Some(refused(sentence)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Error};
    use std::path::Path;

    use serde_json::json;

    use super::{Mount, check_length, next_line, not_mounted, refusal, tags_name};
    use crate::cli::graph::{CODE_REFUSED, refused};

    #[test]
    fn lines_are_read_to_the_end_and_a_refusal_ends_them() {
        let text = b"{\"path\":\"a\"}\n{\"error\":\"no\",\"expected\":\"yes\"}\n{\"path\":\"b\"}\n";
        let mut answer = Cursor::new(&text[..]);
        let mut next = || next_line(&mut answer, refused);
        assert_eq!(next().unwrap(), Some(json!({ "path": "a" })));
        let failure = next().unwrap_err();
        assert_eq!((failure.sentence.as_str(), failure.code), ("no; expected yes", CODE_REFUSED));
        let mut empty = Cursor::new(&b""[..]);
        assert_eq!(next_line(&mut empty, refused).unwrap(), None);
        let mut odd = Cursor::new(&b"<html>\n"[..]);
        assert!(next_line(&mut odd, refused).unwrap_err().sentence.contains("version"));
    }

    #[test]
    fn a_row_with_an_error_among_its_columns_is_no_refusal() {
        assert!(refusal(&json!({ "error": "x", "name": "y" })).is_none());
        assert!(refusal(&json!({ "error": 5 })).is_none());
        assert!(refusal(&json!([1])).is_none());
        let sentence =
            refusal(&json!({ "error": "at 3: expected a tag", "at": 3, "expected": "a tag" })).unwrap().sentence;
        assert_eq!(sentence, "at 3: expected a tag");
    }

    #[test]
    fn what_is_on_no_mount_is_not_written_to() {
        let directory = std::env::temp_dir();
        let failure = Mount::at(&directory).unwrap_err();
        assert!(failure.sentence.ends_with("is not on a DGFS mount"), "{}", failure.sentence);
        assert_eq!(failure.code, CODE_REFUSED);
        assert!(
            not_mounted(Path::new("/m/.tags/a"), &Error::from_raw_os_error(libc::ENODATA)).sentence.contains("--in")
        );
        assert!(Mount::at(&directory.join("gone-for-good")).unwrap_err().sentence.contains("No such file"));
    }

    #[test]
    fn a_mount_says_what_its_tags_are_called() {
        let facts = |tags: &str| {
            format!(r#"{{"pid":1,"host":"h","mount_point":"/m","volume":"v","version":"0.1.0"{tags}}}"#).into_bytes()
        };
        assert_eq!(tags_name(&facts(r#","tags":".q""#)), ".q");
        for older in [facts(""), facts(r#","tags":null"#), b"{}".to_vec(), Vec::new()] {
            assert_eq!(tags_name(&older), ".tags");
        }
    }

    #[test]
    fn a_request_longer_than_a_mount_takes_is_refused_here() {
        assert!(check_length(&"x".repeat(64 << 10)).is_ok());
        assert_eq!(check_length(&"x".repeat((64 << 10) + 1)).unwrap_err().code, 2);
    }
}
