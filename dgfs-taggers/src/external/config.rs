//! The TOML file that registers a user's tagger.
//!
//! Never guesses: an unknown key, a missing one or a value out of its range is refused with the file's name.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::External;
use crate::kind::{Class, Kind};
use crate::sandbox::{Limits, Network};

/// Bytes of a registration at most.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Characters of a reason at most: a refusal repeats what the file says, which is a line of a log and no more.
const REASON_CHARS_MAX: usize = 1000;
/// Registrations of a directory at most: each may run a process.
const FILES_MAX: usize = 64;
/// Bytes of a tagger's name at most.
const NAME_BYTES_MAX: usize = 64;
/// Milliseconds of a job: from what a process needs to answer at all, to ten minutes.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// Bytes of address space: from what an interpreter needs to start, to 16 GiB.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = (32 << 20)..=(16 << 30);

/// Why a registration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("read the tagger registration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It says something that it may not.
    #[error("{path}: {reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
}

/// A checked registration.
pub(crate) enum Registration {
    /// Of a program.
    Program(Config),
    /// Of a model, which a worker of this crate runs.
    #[cfg(feature = "models")]
    Model(super::model::ModelConfig),
}

/// A checked registration of a program.
pub(crate) struct Config {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) command: Vec<String>,
    pub(super) wanted: Wanted,
    pub(super) limits: Limits,
}

/// The kinds of files that a tagger is for.
#[derive(Debug)]
pub(crate) struct Wanted {
    classes: Vec<Class>,
    mimes: Vec<String>,
}

impl Wanted {
    pub(crate) fn has(&self, kind: &Kind) -> bool {
        self.classes.contains(&kind.class) || self.mimes.iter().any(|pattern| matches(pattern, &kind.mime))
    }
}

/// `image/*` matches every picture, `*/*` everything.
fn matches(pattern: &str, mime: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some("*") => true,
        Some(class) => mime.split('/').next() == Some(class),
        None => pattern == mime,
    }
}

/// What decides how the other keys are read.
#[derive(Deserialize)]
struct Which {
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    version: u32,
    command: Vec<String>,
    #[serde(default)]
    classes: Vec<Class>,
    #[serde(default)]
    mimes: Vec<String>,
    timeout_ms: Option<u64>,
    memory_bytes: Option<u64>,
    #[serde(default)]
    network: bool,
}

impl Registration {
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = bytes_of(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let wrong = |reason: String| ConfigError::Wrong { path: path.to_owned(), reason: printable(&reason) };
        let text = String::from_utf8(bytes).map_err(|error| {
            wrong(format!("expected text in UTF-8, which ends at byte {}", error.utf8_error().valid_up_to()))
        })?;
        Self::of(&text, path.parent().unwrap_or(Path::new(""))).map_err(wrong)
    }

    fn of(text: &str, directory: &Path) -> Result<Self, String> {
        let which: Which = toml::from_str(text).map_err(|error| error.to_string())?;
        match which.kind.as_deref() {
            None | Some("program") => {
                let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
                Ok(Self::Program(raw.checked()?))
            }
            Some("model") => model(text, directory),
            Some(other) => Err(format!("kind = {other:?}: expected \"program\" or \"model\"")),
        }
    }
}

/// The bytes of a registration. A pipe that nobody writes to would keep the start waiting for ever, so opening does not wait, and
/// nothing but a regular file is read.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    if facts.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{} bytes, of at most {FILE_BYTES_MAX}", facts.len())));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A reason that may repeat any bytes of a file, as a log may hold it.
fn printable(reason: &str) -> String {
    let mut out = String::new();
    for (at, letter) in reason.chars().enumerate() {
        if at == REASON_CHARS_MAX {
            out.push('…');
            break;
        }
        if letter.is_control() && letter != '\n' {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(feature = "models")]
fn model(text: &str, directory: &Path) -> Result<Registration, String> {
    super::model::ModelConfig::of(text, directory).map(Registration::Model)
}

#[cfg(not(feature = "models"))]
fn model(_text: &str, _directory: &Path) -> Result<Registration, String> {
    Err("kind = \"model\": this program was built without models".to_owned())
}

impl Raw {
    fn checked(self) -> Result<Config, String> {
        checked_name(&self.name)?;
        if self.command.first().is_none_or(String::is_empty) {
            return Err(
                "command: expected a program and its arguments, such as [\"python3\", \"tagger.py\"]".to_owned()
            );
        }
        let limits = limits_of(self.timeout_ms, self.memory_bytes, self.network)?;
        let wanted = wanted_of(self.classes, self.mimes)?;
        Ok(Config { name: self.name, version: self.version, command: self.command, wanted, limits })
    }
}

pub(super) fn checked_name(name: &str) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_letter) {
        return Err(format!("name = {name:?}: expected 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -"));
    }
    Ok(())
}

pub(super) fn wanted_of(classes: Vec<Class>, mimes: Vec<String>) -> Result<Wanted, String> {
    if classes.is_empty() && mimes.is_empty() {
        return Err(
            "expected classes = [\"text\", …] or mimes = [\"image/*\", …], or the tagger gets no file".to_owned()
        );
    }
    if let Some(pattern) = mimes.iter().find(|pattern| !pattern.contains('/')) {
        return Err(format!("mimes: {pattern:?} is no media type; expected such as \"text/plain\" or \"image/*\""));
    }
    Ok(Wanted { classes, mimes })
}

pub(super) fn limits_of(
    timeout_ms: Option<u64>,
    memory_bytes: Option<u64>,
    is_networked: bool,
) -> Result<Limits, String> {
    let defaults = Limits::default();
    let default_ms = u64::try_from(defaults.job_time.as_millis()).unwrap_or(u64::MAX);
    let timeout_ms = within("timeout_ms", timeout_ms.unwrap_or(default_ms), &TIMEOUT_MS)?;
    let memory_bytes = within("memory_bytes", memory_bytes.unwrap_or(defaults.memory_bytes), &MEMORY_BYTES)?;
    let network = if is_networked { Network::Allowed } else { Network::Refused };
    Ok(Limits { job_time: Duration::from_millis(timeout_ms), memory_bytes, network, ..defaults })
}

fn within(key: &str, value: u64, range: &std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{key} = {value}: expected {} to {}", range.start(), range.end()))
}

/// Every registration `*.toml` of a directory, by name of file. The refused ones are returned beside the good ones, so
/// that one mistake does not stop the others. A missing directory has none. `worker` is the program that calls
/// [`crate::worker::start`] with the words behind its own: it runs models.
pub fn load_all(directory: &Path, worker: &[OsString]) -> (Vec<External>, Vec<ConfigError>) {
    let read = |source| ConfigError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![read(error)]),
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    paths.sort();
    let mut refused = Vec::new();
    if paths.len() > FILES_MAX {
        let reason = format!("{} registrations, of at most {FILES_MAX}; the last ones are left out", paths.len());
        refused.push(ConfigError::Wrong { path: directory.to_owned(), reason });
    }
    let mut taggers: Vec<External> = Vec::new();
    for path in paths.into_iter().take(FILES_MAX) {
        match External::load(&path, worker) {
            Ok(tagger) if taggers.iter().any(|known| known.name() == tagger.name()) => {
                let reason = format!("name = {:?}: another registration has this name", tagger.name());
                refused.push(ConfigError::Wrong { path, reason });
            }
            Ok(tagger) => taggers.push(tagger),
            Err(error) => refused.push(error),
        }
    }
    (taggers, refused)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Config, Registration, matches};

    fn check(text: &str) -> Result<Config, String> {
        match Registration::of(text, Path::new(""))? {
            Registration::Program(config) => Ok(config),
            #[cfg(feature = "models")]
            Registration::Model(model) => Err(format!("{model:?} is no program")),
        }
    }

    #[test]
    fn a_registration_is_refused_in_words() {
        let good = "name = 'a-1'\nversion = 1\ncommand = ['x']\nclasses = ['text']\n";
        assert_eq!(check(good).unwrap().limits.memory_bytes, 1 << 30);
        let cases = [
            (good.replace("a-1", "../a"), "expected 1 to 64 of a-z"),
            (good.replace("['x']", "[]"), "expected a program"),
            (good.replace("['text']", "[]"), "or the tagger gets no file"),
            (good.replace("'text'", "'music'"), "unknown variant `music`"),
            (format!("{good}timeout_ms = 1"), "timeout_ms = 1: expected 100 to 600000"),
            (format!("{good}memory_bytes = 1"), "expected 33554432 to"),
            (format!("{good}mimes = ['png']"), "\"png\" is no media type"),
            (format!("{good}colour = 1"), "unknown field `colour`"),
            (format!("{good}kind = 'oracle'"), "kind = \"oracle\": expected \"program\" or \"model\""),
            (format!("{good}kind = 'program'\ntask = 'ocr'"), "unknown field `task`"),
            (good.replace("version = 1", ""), "missing field `version`"),
        ];
        for (text, words) in cases {
            let refused = check(&text).err().unwrap();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    #[test]
    fn patterns_match_media_types() {
        assert!(matches("image/*", "image/png") && matches("*/*", "a/b") && matches("a/b", "a/b"));
        assert!(!matches("image/*", "imagery/x") && !matches("a/b", "a/bc"));
    }
}
