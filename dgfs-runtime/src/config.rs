//! Configuration files: TOML into a struct, with errors a person can act on.
//!
//! Never knows a daemon's keys, and reads nothing of the environment but where
//! a service manager put credentials ([`path`]). Always: an error names the
//! file, and the line and the key where there are any.
//!
//! A configuration struct carries `#[serde(deny_unknown_fields)]`, so that a mistyped key is an error and not a default.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// A longer file is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a path may begin with: the directory of credentials that systemd made for the service.
const CREDENTIALS_WORD: &str = "$CREDENTIALS_DIRECTORY";
/// The variable that names that directory.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

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

/// Reads a path (`#[serde(deserialize_with = "…")]`); one that begins with `$CREDENTIALS_DIRECTORY` lies among the
/// credentials that systemd gave the service (`LoadCredential=`).
///
/// # Errors
/// A sentence when it begins with another variable, or systemd gave no credentials.
pub fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let given = PathBuf::deserialize(deserializer)?;
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from);
    resolve(given, credentials.as_deref()).map_err(D::Error::custom)
}

/// As [`path`], for one that may be left out (`#[serde(default, deserialize_with = "…")]`).
///
/// # Errors
/// As [`path`].
pub fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

/// The error is a sentence.
fn resolve(given: PathBuf, credentials: Option<&Path>) -> Result<PathBuf, String> {
    let mut components = given.components();
    let first = match components.next() {
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"$") => first,
        Some(_) | None => return Ok(given),
    };
    if first != CREDENTIALS_WORD {
        let reason = format!(
            "the path {} begins with a variable: only {CREDENTIALS_WORD} may be named, or write ./ before a name like that",
            given.display()
        );
        return Err(reason);
    }
    match credentials.filter(|directory| directory.is_absolute()) {
        Some(directory) => Ok(directory.join(components.as_path())),
        None => Err(format!(
            "{CREDENTIALS_WORD} is not set: start the service by systemd with LoadCredential= (see docs/SYSTEMD.md), or \
             name the directory itself"
        )),
    }
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
    use std::path::{Path, PathBuf};

    use serde::Deserialize;

    use super::{load, parse, resolve};

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

    #[derive(Debug, Default, Deserialize, PartialEq, Eq)]
    #[serde(deny_unknown_fields)]
    struct Paths {
        #[serde(deserialize_with = "super::path")]
        identity: PathBuf,
        #[serde(default, deserialize_with = "super::optional_path")]
        cache: Option<PathBuf>,
    }

    #[test]
    fn a_path_may_lie_among_the_credentials() {
        let given = Path::new("/run/credentials/dgfs-meta.service");
        let resolved = |path: &str| resolve(PathBuf::from(path), Some(given)).unwrap();
        assert_eq!(resolved("$CREDENTIALS_DIRECTORY"), given);
        assert_eq!(resolved("$CREDENTIALS_DIRECTORY/ca"), given.join("ca"));
        for plain in ["/etc/dgfs", "keys", "./$HOME", "a/$CREDENTIALS_DIRECTORY", ""] {
            assert_eq!(resolved(plain), Path::new(plain));
        }
    }

    #[test]
    fn a_path_among_credentials_that_are_not_there_is_refused_with_its_line() {
        // Nothing gives the tests credentials.
        let text = "\nidentity = \"$CREDENTIALS_DIRECTORY/keys\"\n";
        let sentence = parse::<Paths>(Path::new("/etc/dgfs/meta.toml"), text).unwrap_err().to_string();
        let begin = "/etc/dgfs/meta.toml, line 2: `identity`: $CREDENTIALS_DIRECTORY is not set: start the service";
        assert!(sentence.starts_with(begin), "{sentence}");
        let relative = resolve(PathBuf::from("$CREDENTIALS_DIRECTORY"), Some(Path::new("keys"))).unwrap_err();
        assert!(relative.contains("is not set"), "{relative}");
    }

    #[test]
    fn another_variable_in_a_path_is_refused() {
        let text = "identity = \"keys\"\ncache = \"$HOME/cache\"\n";
        let sentence = parse::<Paths>(Path::new("x.toml"), text).unwrap_err().to_string();
        assert!(sentence.contains("line 2: `cache`") && sentence.contains("only $CREDENTIALS_DIRECTORY"), "{sentence}");
        let left_out = parse::<Paths>(Path::new("x.toml"), "identity = \"keys\"\n").unwrap();
        assert_eq!(left_out, Paths { identity: PathBuf::from("keys"), cache: None });
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
