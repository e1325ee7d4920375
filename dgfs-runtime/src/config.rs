//! Configuration files: TOML into a struct, with errors a person can act on.
//!
//! Never knows a daemon's keys and never reads the environment. Always: an
//! error names the file, and the line and the key where there are any.
//!
//! A configuration struct carries `#[serde(deny_unknown_fields)]`, so that a mistyped key is an error and not a default.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A longer file is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read the configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too long.
    #[error("the configuration {} is longer than {FILE_BYTES_MAX} bytes: name another file", .0.display())]
    TooLong(PathBuf),
    /// A line is wrong.
    #[error("{}, line {line}: `{key}`: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key (or table) on that line.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A part is missing.
    #[error("{}: {reason}", path.display())]
    Whole {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the configuration at `path`.
///
/// # Errors
/// `Read` and `TooLong` for the file, `Line` and `Whole` for its content.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(read_error)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    parse(path, &text)
}

/// Reads a configuration out of `text`; `path` is for the error only.
///
/// # Errors
/// `Line` or `Whole`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| explain(path, text, &error))
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let path = path.to_owned();
    let reason = error.message().replace('\n', ", ");
    let before = error.span().and_then(|span| text.get(..span.start));
    // An error of the whole document (a missing key) has the span of everything, or none.
    let whole = error.span().is_none_or(|span| span.start == 0 && span.end >= text.trim_end().len());
    match before {
        Some(before) if !whole => {
            let line = before.matches('\n').count() + 1;
            let content = text.lines().nth(line - 1).unwrap_or_default();
            let key = content.split('=').next().unwrap_or_default().trim().to_owned();
            ConfigError::Line { path, line, key, reason }
        }
        Some(_) | None => ConfigError::Whole { path, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::{load, parse};

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        directory: String,
        #[serde(default)]
        cache: Cache,
    }

    #[derive(Debug, Default, Deserialize, PartialEq, Eq)]
    #[serde(default, deny_unknown_fields)]
    struct Cache {
        size_mib: u32,
    }

    fn refusal(text: &str) -> String {
        parse::<Sample>(Path::new("/etc/dgfs/stored.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let sample: Sample = parse(Path::new("x"), "directory = \"/srv\"").unwrap();
        assert_eq!(sample, Sample { directory: "/srv".to_owned(), cache: Cache { size_mib: 0 } });
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        let sentence = refusal("directory = \"/srv\"\n\n[cache]\nsize_mb = 5\n");
        assert!(
            sentence.starts_with("/etc/dgfs/stored.toml, line 4: `size_mb`: unknown field `size_mb`"),
            "{sentence}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_file_and_line() {
        let sentence = refusal("directory = \"/srv\"\n[cache]\nsize_mib = \"big\"\n");
        assert!(sentence.starts_with("/etc/dgfs/stored.toml, line 3: `size_mib`: invalid type"), "{sentence}");
    }

    #[test]
    fn a_missing_key_is_named_with_the_file() {
        let sentence = refusal("[cache]\nsize_mib = 1\n");
        assert!(sentence.starts_with("/etc/dgfs/stored.toml"), "{sentence}");
        assert!(sentence.contains("missing field `directory`"), "{sentence}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let sentence = refusal("directory = \"/srv\nx = 1\n");
        assert!(sentence.starts_with("/etc/dgfs/stored.toml, line 1: `directory`"), "{sentence}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let sentence = load::<Sample>(Path::new("/no/such/dgfs.toml")).unwrap_err().to_string();
        assert!(sentence.contains("/no/such/dgfs.toml"), "{sentence}");
    }
}
