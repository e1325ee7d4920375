//! What the command reads and writes: configuration files, and what a mount says of itself.
//!
//! Never decides. Paths in a configuration are taken from the directory it lies in.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use dgfs_runtime::config::{load, optional_path, path};
use dgfs_runtime::disk::write_atomically_with_mode;
use dgfs_runtime::telemetry::LogConfig;

use crate::cli::Failure;

/// Bytes of a `dgfs.*` attribute at most (the kernel's bound of all attributes).
pub(crate) const ATTRIBUTE_BYTES_MAX: usize = 65_536;

/// `client.toml`: how to join a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientFile {
    /// `HOST:PORT` of the metadata services.
    pub(crate) meta: Vec<String>,
    /// Directory with `cert.pem`, `key.pem` and `ca.pem`.
    #[serde(deserialize_with = "path")]
    pub(crate) identity: PathBuf,
    /// Fail at the first time-out.
    #[serde(default)]
    pub(crate) soft: bool,
    /// Memory for chunk data that was read, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_mb: Option<u64>,
    /// Where chunk data are kept on a local disk, too.
    #[serde(default, deserialize_with = "optional_path", skip_serializing_if = "Option::is_none")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// How much of it, as 20G.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_size: Option<String>,
    /// Memory for writes not yet sent, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) write_back_mb: Option<u64>,
    /// Seconds one operation tries before it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_s: Option<u64>,
    /// Where mounts serve their metrics: `HOST:PORT` with a numeric host, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<String>,
    /// How the mount's log looks, and what is slow; where it goes is said with the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogConfig>,
}

/// Reads a configuration; the directory its relative paths start from.
pub(crate) fn read_file<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), Failure> {
    let file = load(path).map_err(Failure::new)?;
    let absolute = std::path::absolute(path).map_err(Failure::new)?;
    Ok((file, absolute.parent().map_or_else(PathBuf::new, Path::to_owned)))
}

/// Writes a configuration; only its owner may read it (a Redis URL has a password in it).
pub(crate) fn write_file<T: Serialize>(path: &Path, file: &T) -> Result<(), Failure> {
    let text = toml::to_string(file).map_err(Failure::new)?;
    write_atomically_with_mode(path, text.as_bytes(), 0o600)
        .map_err(|error| Failure::new(format!("write {}: {error}", path.display())))
}

/// What a mount says of itself (`dgfs.mount`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountFacts {
    /// Its process.
    pub(crate) pid: u32,
    /// Its machine.
    pub(crate) host: String,
    /// Where it is mounted.
    pub(crate) mount_point: String,
    /// Its volume: `embedded in DIR`, or the metadata servers.
    pub(crate) volume: String,
    /// The program's version.
    pub(crate) version: String,
    /// What `.tags` is called there; none where there is none, or the program is older than this field.
    #[serde(default)]
    pub(crate) tags: Option<String>,
    /// Where its metrics are served; none: nowhere.
    #[serde(default)]
    pub(crate) metrics: Option<String>,
}

impl MountFacts {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// An extended attribute of what lies at `path`, symlinks not followed.
pub(crate) fn read_attribute(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    let mut bytes = vec![0_u8; ATTRIBUTE_BYTES_MAX];
    // SAFETY: both strings end in NUL, and the buffer has the length given; all outlive the call.
    let len = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
    match usize::try_from(len) {
        Ok(len) => {
            bytes.truncate(len);
            Ok(bytes)
        }
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Pages of what a mount tells of a file (`dgfs.info`): the first has its attributes, each has some of its chunks.
pub(crate) struct InfoPages<'a> {
    path: &'a Path,
    next: Option<String>,
}

impl<'a> InfoPages<'a> {
    pub(crate) fn of(path: &'a Path) -> Self {
        Self { path, next: Some("dgfs.info".to_owned()) }
    }
}

impl Iterator for InfoPages<'_> {
    type Item = io::Result<Value>;

    fn next(&mut self) -> Option<io::Result<Value>> {
        let name = self.next.take()?;
        let page = read_attribute(self.path, &name).and_then(|bytes| Ok(serde_json::from_slice::<Value>(&bytes)?));
        if let Ok(page) = &page {
            self.next = page.pointer("/next").and_then(Value::as_u64).map(|slot| format!("dgfs.info.{slot}"));
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dgfs_runtime::config::parse;
    use dgfs_runtime::telemetry::LogConfig;

    use super::ClientFile;

    #[test]
    fn a_file_that_is_written_is_read_back() {
        let file = ClientFile {
            meta: vec!["127.0.0.1:5000".to_owned()],
            identity: "certs/client".into(),
            soft: true,
            cache_mb: Some(64),
            cache_dir: Some("/var/cache/dgfs".into()),
            cache_size: Some("20G".to_owned()),
            write_back_mb: None,
            deadline_s: None,
            metrics: Some("127.0.0.1:9523".to_owned()),
            log: Some(LogConfig { slow_ms: 5, ..LogConfig::default() }),
        };
        let text = toml::to_string(&file).unwrap();
        let again: ClientFile = parse(Path::new("client.toml"), &text).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), text);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let text = "meta = [\"a:1\"]\nidentity = \"c\"\nsofft = true\n";
        let error = parse::<ClientFile>(Path::new("client.toml"), text).unwrap_err();
        assert!(error.to_string().contains("sofft"), "{error}");
    }
}
