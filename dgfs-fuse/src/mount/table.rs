//! What is mounted where, from `/proc/self/mountinfo`.
//!
//! Never touches a mount itself (a dead one would hang or fail): it reads text.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Kernel read-ahead for a mount, KiB: with the default of 128 every buffered read is a request of 128 KiB.
const READ_AHEAD_KB: u32 = 1024;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// `MAJOR:MINOR` of its device.
    pub device: String,
    /// Where.
    pub mount_point: PathBuf,
    /// `fuse.dgfs`, `ext4` …
    pub kind: String,
    /// What was mounted.
    pub source: String,
}

impl Mounted {
    /// Is it one of ours?
    #[must_use]
    pub fn is_dgfs(&self) -> bool {
        self.kind == "fuse.dgfs"
    }
}

/// All mounts this process sees, in the order they were made.
///
/// # Errors
/// `/proc` is not readable.
pub fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The topmost mount exactly at `path`, which must be absolute and free of symlinks.
///
/// # Errors
/// As [`mounts`].
pub fn mounted_at(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.mount_point == path))
}

/// Raises the kernel's read-ahead for the mount at `path`; only root may.
///
/// # Errors
/// The mount is gone, or sysfs refuses.
pub fn raise_read_ahead(path: &Path) -> io::Result<()> {
    let mount = mounted_at(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    std::fs::write(format!("/sys/class/bdi/{}/read_ahead_kb", mount.device), READ_AHEAD_KB.to_string())
}

/// The file in which the kernel tells how many requests of the mount at `path` have no answer; none where the kernel's file
/// system of FUSE connections is not mounted, or the mount is gone.
#[must_use]
pub fn kernel_queue(path: &Path) -> Option<PathBuf> {
    let mount = mounted_at(path).ok()??;
    let (_, minor) = mount.device.split_once(':')?;
    let file = Path::new("/sys/fs/fuse/connections").join(minor).join("waiting");
    file.exists().then_some(file)
}

fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mount/point options [tags] - type source super-options`; unreadable lines are left out.
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = words.nth(2)?;
    let mount_point = words.nth(1)?;
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    let (kind, source) = (words.next()?, words.next()?);
    let text = |word: &[u8]| OsString::from_vec(unescape(word)).to_string_lossy().into_owned();
    Some(Mounted {
        device: text(device),
        mount_point: PathBuf::from(OsString::from_vec(unescape(mount_point))),
        kind: text(kind),
        source: text(source),
    })
}

/// Space, tab, newline and backslash are written `\ooo`.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let value = octal.and_then(|digits| {
            digits.iter().try_fold(0_u32, |value, digit| char::from(*digit).to_digit(8).map(|digit| value * 8 + digit))
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

/// The absolute form of `path` without asking its last component, which may be a dead mount.
///
/// # Errors
/// The parent directory does not exist or cannot be entered.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let plain = std::path::absolute(path)?;
    match (plain.parent(), plain.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => Ok(parent.canonicalize()?.join(name)),
        _ => plain.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Mounted, absolute, mounted_at, parse};

    const SAMPLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
        90 22 0:51 / /mnt/with\\040space rw,nosuid shared:7 master:2 - fuse.dgfs dgfs:my\\134vol rw,user_id=0\n\
        garbage\n\
        91 22 0:52 / /mnt/a rw - tmpfs tmpfs rw\n\
        92 22 0:53 / /mnt/a rw - fuse.dgfs dgfs:b rw\n";

    #[test]
    fn lines_with_tags_and_escapes_are_understood_and_odd_ones_left_out() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[1],
            Mounted {
                device: "0:51".to_owned(),
                mount_point: PathBuf::from("/mnt/with space"),
                kind: "fuse.dgfs".to_owned(),
                source: "dgfs:my\\vol".to_owned(),
            }
        );
        assert!(mounts[1].is_dgfs() && !mounts[0].is_dgfs());
    }

    #[test]
    fn of_two_mounts_on_one_directory_the_later_is_seen() {
        let top = parse(SAMPLE).into_iter().rev().find(|mount| mount.mount_point == Path::new("/mnt/a"));
        assert_eq!(top.unwrap().source, "dgfs:b");
    }

    #[test]
    fn the_root_is_always_mounted() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        assert_eq!(absolute(Path::new("/")).unwrap(), Path::new("/"));
    }
}
