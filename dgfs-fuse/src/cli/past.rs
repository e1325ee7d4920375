//! What a mount leaves behind for the next one at its path, should it be killed: its session, which the next one ends at
//! once instead of waiting until it runs out.
//!
//! Never trusts a process number. Always: the process that wrote a record holds its lock for as long as it lives, so
//! whoever gets the lock knows that the process is gone. Only its owner may read a record; it has the session's key.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use dgfs_client::past::{SessionToken, end_session};
use dgfs_proto::ids::SessionId;
use dgfs_proto::meta::ClientInfo;
use dgfs_runtime::channel::{Channel, MetaProtocol};

/// Bytes of a record at most.
const RECORD_BYTES_MAX: u64 = 64 << 10;
/// How long the mount tries to end the session of the one before; then it waits as any other would.
const PATIENCE: Duration = Duration::from_secs(5);

/// The record of the mounts at one path, locked.
pub(crate) struct Record {
    file: File,
    mount_point: String,
    /// What the mount before has left, if it was killed.
    left: Option<SessionToken>,
}

#[derive(Serialize, Deserialize)]
struct Words {
    mount_point: String,
    session: u64,
    key: u64,
}

impl Record {
    /// The record of mounts at `path` in `directory`; none while another process holds it.
    ///
    /// # Errors
    /// The directory or the file cannot be made, locked or read.
    pub(crate) fn claim(directory: &Path, path: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mount_point = path.as_os_str().as_bytes().escape_ascii().to_string();
        let name = directory.join(format!("{:016x}.session", hash(mount_point.as_bytes())));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut bytes = Vec::new();
        (&file).take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
        // A record that was only half written when its process was killed says nothing.
        let left = serde_json::from_slice::<Words>(&bytes)
            .ok()
            .filter(|words| words.mount_point == mount_point)
            .and_then(|words| Some(SessionToken { session: SessionId::new(words.session)?, key: words.key }));
        Ok(Some(Self { file, mount_point, left }))
    }

    /// Ends the session that a killed mount has left, if there is one. A failure costs time only.
    pub(crate) async fn end_what_was_left(&self, metas: &[Arc<dyn Channel<MetaProtocol>>], client: ClientInfo) {
        let Some(left) = self.left else { return };
        match end_session(metas, client, left, PATIENCE).await {
            Ok(()) => tracing::info!(session = %left.session, "ended the session of the killed mount before"),
            Err(status) => {
                tracing::warn!(session = %left.session, %status, "the session of the killed mount before runs out by itself");
            }
        }
    }

    /// Names the session of this process.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, token: SessionToken) -> io::Result<()> {
        let SessionToken { session, key } = token;
        let words = Words { mount_point: self.mount_point.clone(), session: session.get(), key };
        self.clear()?;
        self.file.write_all_at(&serde_json::to_vec(&words)?, 0)
    }

    /// The session has ended in order: nothing is left behind.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

/// FNV-1a: names must stay the same from one version of the program to the next.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use dgfs_client::past::SessionToken;
    use dgfs_proto::ids::SessionId;

    use super::Record;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("dgfs-past-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn token() -> SessionToken {
        SessionToken { session: SessionId::new(7).unwrap(), key: u64::MAX - 1 }
    }

    #[test]
    fn a_record_is_read_only_after_its_process_let_go() {
        let directory = Directory::new("lock");
        let path = Path::new("/mnt/graph");
        let first = Record::claim(&directory.0, path).unwrap().unwrap();
        assert_eq!(first.left, None);
        first.write(token()).unwrap();
        assert!(Record::claim(&directory.0, path).unwrap().is_none(), "its process lives");
        assert_eq!(Record::claim(&directory.0, Path::new("/mnt/other")).unwrap().unwrap().left, None);
        drop(first);
        let second = Record::claim(&directory.0, path).unwrap().unwrap();
        assert_eq!(second.left, Some(token()));
        second.clear().unwrap();
        drop(second);
        assert_eq!(Record::claim(&directory.0, path).unwrap().unwrap().left, None);
    }

    #[test]
    fn only_its_owner_may_read_a_record() {
        let directory = Directory::new("mode");
        let _record = Record::claim(&directory.0, Path::new("/mnt/graph")).unwrap().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.0), 0o700);
        let file = std::fs::read_dir(&directory.0).unwrap().next().unwrap().unwrap().path();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_torn_record_says_nothing() {
        let directory = Directory::new("torn");
        let path = Path::new("/mnt/graph");
        let record = Record::claim(&directory.0, path).unwrap().unwrap();
        record.write(token()).unwrap();
        record.file.set_len(20).unwrap();
        drop(record);
        assert_eq!(Record::claim(&directory.0, path).unwrap().unwrap().left, None);
    }
}
