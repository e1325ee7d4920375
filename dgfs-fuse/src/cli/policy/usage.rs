//! `dgfs policy usage`: the chunks below a path by class.
//!
//! Never follows symlinks, never leaves the mount. What it counts is what each file's `dgfs.info` says.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use dgfs_proto::class::{Class, Shape};
use dgfs_proto::limits::CODED_BYTES_MIN;

use super::followed_by;
use crate::cli::Failure;
use crate::cli::files::read_attribute;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Default)]
struct Usage {
    /// Chunks and their bytes by class.
    by_class: BTreeMap<String, (u64, u64)>,
    /// Chunks that have another class than their directory wants.
    left: u64,
}

/// Runs the command.
pub(super) fn run(path: &Path, wait: bool, json: bool) -> Result<(), Failure> {
    let path = super::canonical(path)?;
    loop {
        let (class, _) = followed_by(&path)?;
        let mut usage = Usage::default();
        let device = std::fs::symlink_metadata(&path).map_err(Failure::new)?.dev();
        walk(&path, device, &class, &mut usage)?;
        if !wait || usage.left == 0 {
            show(&usage, json);
            return Ok(());
        }
        eprintln!("dgfs: {} chunks have another class yet", usage.left);
        // Storage daemons move them by themselves; nothing tells when the last one is through.
        std::thread::sleep(LOOK);
    }
}

fn walk(path: &Path, device: u64, wanted: &str, usage: &mut Usage) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let facts = match std::fs::symlink_metadata(path) {
        // Gone since its directory was read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        facts => facts.map_err(failed)?,
    };
    if facts.dev() != device {
        return Ok(());
    }
    if facts.is_file() {
        return count(path, wanted, usage);
    }
    if !facts.is_dir() {
        return Ok(());
    }
    let own = super::own(path, "dgfs.policy");
    let wanted = own.as_deref().unwrap_or(wanted);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        walk(&entry.map_err(failed)?.path(), device, wanted, usage)?;
    }
    Ok(())
}

fn count(path: &Path, wanted: &str, usage: &mut Usage) -> Result<(), Failure> {
    let Ok(bytes) = read_attribute(path, "dgfs.info") else { return Ok(()) };
    let value: Value = serde_json::from_slice(&bytes).map_err(Failure::new)?;
    for chunk in value.pointer("/chunks").and_then(Value::as_array).into_iter().flatten() {
        let class = chunk.pointer("/class").and_then(Value::as_str).unwrap_or("r1");
        let len = chunk.pointer("/len").and_then(Value::as_u64).unwrap_or(0);
        let entry = usage.by_class.entry(class.to_owned()).or_default();
        entry.0 += 1;
        entry.1 += len;
        usage.left += u64::from(!is_wanted(class, wanted, len));
    }
    Ok(())
}

/// Small chunks stay copies where the policy says coded.
fn is_wanted(class: &str, wanted: &str, len: u64) -> bool {
    let (Ok(class), Ok(wanted)) = (class.parse::<Class>(), wanted.parse::<Class>()) else { return class == wanted };
    let is_small = matches!(wanted.shape(), Shape::Coded { .. }) && len < u64::from(CODED_BYTES_MIN);
    class == wanted || (is_small && class == wanted.as_copies())
}

fn show(usage: &Usage, json: bool) {
    if json {
        let classes: BTreeMap<_, _> = usage
            .by_class
            .iter()
            .map(|(class, (chunks, bytes))| (class, json!({ "chunks": chunks, "bytes": bytes })))
            .collect();
        println!("{}", json!({ "classes": classes, "left": usage.left }));
        return;
    }
    for (class, (chunks, bytes)) in &usage.by_class {
        println!("{class:<10} {chunks} chunks, {bytes} bytes");
    }
    println!("{} chunks have another class than their directory wants", usage.left);
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn a_small_chunk_of_a_coded_directory_stays_copies() {
        assert!(is_wanted("r3", "ec:4+2", 100) && !is_wanted("r3", "ec:4+2", 1 << 20));
        assert!(is_wanted("ec:4+2", "ec:4+2", 1 << 20) && !is_wanted("r2", "r3", 5));
    }
}
