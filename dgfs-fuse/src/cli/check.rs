//! What the words of a command line may not ask for, each with a sentence.
//!
//! Never makes anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dgfs_proto::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

use crate::cli::Failure;

/// The word for no metrics at all.
pub(crate) const METRICS_NONE: &str = "none";
/// Bytes of a volume's name: it is shown in the mount table.
const NAME_BYTES_MAX: usize = 64;
/// More memory than any machine has: 16 TiB.
const MEBIBYTES_MAX: u64 = 16 << 20;
/// A cache of fewer bytes holds no working set: 64 MiB.
const SIZE_MIN: u64 = 64 << 20;
/// Symlinks to one another, as Linux.
const LINKS_MAX: usize = 40;
/// A hundred years.
const DAYS_MAX: u32 = 36_525;

/// A volume's name.
pub(crate) fn volume_name(name: &str) -> Result<(), Failure> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    if fits && !name.chars().any(|character| character.is_control() || character == ',') {
        return Ok(());
    }
    Err(Failure::new(format!("--name must have 1 to {NAME_BYTES_MAX} bytes, without commas and control characters")))
}

/// Where a mount serves its metrics: an address, or the word for none.
pub(crate) fn metrics_address(word: &str) -> Result<(), Failure> {
    if word == METRICS_NONE || word.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "metrics are served at HOST:PORT with a numeric host, or `{METRICS_NONE}`, not at {word}"
    )))
}

/// Days a certificate is valid.
pub(crate) fn days(days: u32) -> Result<(), Failure> {
    if (1..=DAYS_MAX).contains(&days) {
        return Ok(());
    }
    Err(Failure::new(format!("--days must be 1 to {DAYS_MAX}: a certificate of {days} days could not be used")))
}

/// A size in MiB, at least `least`, in bytes; `word` names where it was given.
pub(crate) fn bytes_of(word: &str, mebibytes: Option<u64>, least: u64) -> Result<Option<u64>, Failure> {
    match mebibytes {
        Some(size) if !(least..=MEBIBYTES_MAX).contains(&size) => {
            Err(Failure::new(format!("{word} must be {least} to {MEBIBYTES_MAX} MiB, not {size}")))
        }
        size => Ok(size.map(|size| size << 20)),
    }
}

/// A size such as 500M or 20G (powers of 1024); `word` names where it was given.
pub(crate) fn size(word: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "M" | "MB" | "MIB" => Some(20),
        "G" | "GB" | "GIB" => Some(30),
        "T" | "TB" | "TIB" => Some(40),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.filter(|bytes| (SIZE_MIN..=MEBIBYTES_MAX << 20).contains(bytes)).ok_or_else(|| {
        Failure::new(format!(
            "{word} must be a size from 64M to {}T, such as 500M or 20G, not {text:?}",
            MEBIBYTES_MAX >> 20
        ))
    })
}

/// A data directory is none of the mount point's: the mount would hide it from the process that needs it.
pub(crate) fn apart(data_dir: &Path, mount_point: &Path) -> Result<(), Failure> {
    if data_dir.exists() && !data_dir.is_dir() {
        return Err(Failure::new(format!("{} is not a directory: name one for the volume", data_dir.display())));
    }
    if resolved(data_dir).starts_with(resolved(mount_point)) {
        return Err(Failure::new(format!(
            "the volume in {} lies at or below the mount point {}, and the mount would hide it: name another mount point \
             or --data-dir",
            data_dir.display(),
            mount_point.display()
        )));
    }
    Ok(())
}

/// Where the symlink `path` leads, nothing else looked at: what is mounted there may be dead.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("/")).join(target);
    }
    at
}

/// `path` without symlinks, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors()
        .find_map(|ancestor| Some((ancestor.canonicalize().ok()?, path.strip_prefix(ancestor).ok()?)))
        .map_or_else(|| path.clone(), |(real, rest)| real.join(rest))
}

/// A size that chunks may have.
pub(crate) fn chunk_bytes(bytes: u32) -> Result<(), Failure> {
    let sizes = CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX;
    if bytes.is_power_of_two() && sizes.contains(&bytes) {
        return Ok(());
    }
    Err(Failure::new(format!("--chunk-bytes must be a power of two from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{apart, bytes_of, days, followed, size, volume_name};

    #[test]
    fn a_size_has_a_unit_and_bounds() {
        let of = |text| size("--cache-size", text).ok();
        assert_eq!((of("500M"), of("20g"), of("1TiB")), (Some(500 << 20), Some(20 << 30), Some(1 << 40)));
        for text in ["", "G", "20", "1M", "-1G", "17T", "99999999999T", "2X", "1.5G"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_sizes_and_days_have_bounds() {
        assert!(volume_name("main").is_ok());
        for name in ["", "a\nb", "a,b", &"x".repeat(65)] {
            assert!(volume_name(name).is_err(), "{name:?}");
        }
        assert_eq!(bytes_of("--cache-mb", Some(0), 0).unwrap(), Some(0));
        assert_eq!(bytes_of("--cache-mb", Some(64), 1).unwrap(), Some(64 << 20));
        assert_eq!(bytes_of("--cache-mb", None, 1).unwrap(), None);
        for size in [0, u64::MAX, 1 << 44] {
            assert!(bytes_of("--write-back-mb", Some(size), 1).unwrap_err().sentence.contains("--write-back-mb"));
        }
        assert!(days(0).is_err() && days(u32::MAX).is_err() && days(365).is_ok());
    }

    #[test]
    fn a_mount_does_not_hide_its_own_data() {
        let directory = std::env::temp_dir().join(format!("dgfs-apart-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("real")).unwrap();
        std::os::unix::fs::symlink(directory.join("real"), directory.join("link")).unwrap();
        let at = |name: &str| directory.join(name);
        assert_eq!(followed(&at("link")), at("real"));
        assert_eq!(followed(&at("real")), at("real"));
        for data in ["real", "real/v", "link/v/w", "link"] {
            assert!(apart(&at(data), &at("real")).unwrap_err().sentence.contains("would hide it"), "{data}");
        }
        for data in ["v", "realer", "."] {
            assert!(apart(&at(data), &at("real")).is_ok(), "{data}");
        }
        assert!(apart(Path::new("/dev/null"), &at("real")).unwrap_err().sentence.contains("not a directory"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
