//! `dgfs policy usage`: the chunks below a path by class and compression.
//!
//! Never follows symlinks, never leaves the mount. What it counts is what each file's `dgfs.info` says.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use dgfs_proto::class::{Class, Shape};
use dgfs_proto::limits::CODED_BYTES_MIN;

use super::{class_of, compression_of};
use crate::cli::Failure;
use crate::cli::files::InfoPages;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Default)]
struct Usage {
    /// By class, and what their records are compressed with ("-": no server told).
    kinds: BTreeMap<(String, String), Kind>,
    /// Chunks that have another class or compression than their directory wants.
    left: u64,
}

/// Chunks of one kind.
#[derive(Default)]
struct Kind {
    chunks: u64,
    bytes: u64,
    /// Bytes their copies and shards take on the disks of the servers that told.
    disk_bytes: u64,
}

/// What a directory wants.
#[derive(Clone)]
struct Wanted {
    class: String,
    compression: String,
}

/// Runs the command.
pub(super) fn run(path: &Path, wait: bool, json: bool) -> Result<(), Failure> {
    let path = super::canonical(path)?;
    loop {
        let wanted = Wanted { class: class_of(&path)?.word, compression: compression_of(&path)?.word };
        let mut usage = Usage::default();
        let device = std::fs::symlink_metadata(&path).map_err(Failure::new)?.dev();
        walk(&path, device, &wanted, &mut usage)?;
        if !wait || usage.left == 0 {
            show(&usage, json);
            return Ok(());
        }
        eprintln!("dgfs: {} chunks have another class or compression yet", usage.left);
        // Storage daemons move them by themselves; nothing tells when the last one is through.
        std::thread::sleep(LOOK);
    }
}

fn walk(path: &Path, device: u64, wanted: &Wanted, usage: &mut Usage) -> Result<(), Failure> {
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
    let (class, compression) = (super::own(path, "dgfs.policy"), super::own(path, "dgfs.compression"));
    let wanted = Wanted {
        class: class.unwrap_or_else(|| wanted.class.clone()),
        compression: compression.unwrap_or_else(|| wanted.compression.clone()),
    };
    for entry in std::fs::read_dir(path).map_err(failed)? {
        walk(&entry.map_err(failed)?.path(), device, &wanted, usage)?;
    }
    Ok(())
}

fn count(path: &Path, wanted: &Wanted, usage: &mut Usage) -> Result<(), Failure> {
    for page in InfoPages::of(path) {
        let page = match page {
            // Gone since its directory was read.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => return Ok(()),
            page => page.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?,
        };
        for chunk in page.pointer("/chunks").and_then(Value::as_array).into_iter().flatten() {
            count_chunk(chunk, wanted, usage);
        }
    }
    Ok(())
}

fn count_chunk(chunk: &Value, wanted: &Wanted, usage: &mut Usage) {
    let class = chunk.pointer("/class").and_then(Value::as_str).unwrap_or("r1");
    let len = chunk.pointer("/len").and_then(Value::as_u64).unwrap_or(0);
    let copies = chunk.pointer("/stored").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let how = |copy: &Value| copy.pointer("/compression").and_then(Value::as_str).unwrap_or("-").to_owned();
    let other = copies.iter().map(how).find(|how| *how != wanted.compression);
    usage.left += u64::from(other.is_some() || !is_wanted(class, &wanted.class, len));
    let compression = other.or_else(|| copies.first().map(how)).unwrap_or_else(|| "-".to_owned());
    let kind = usage.kinds.entry((class.to_owned(), compression)).or_default();
    kind.chunks += 1;
    kind.bytes += len;
    let on_disk = |copy: &Value| copy.pointer("/disk_bytes").and_then(Value::as_u64).unwrap_or(0);
    kind.disk_bytes += copies.iter().map(on_disk).sum::<u64>();
}

/// Small chunks stay copies where the policy says coded.
fn is_wanted(class: &str, wanted: &str, len: u64) -> bool {
    let (Ok(class), Ok(wanted)) = (class.parse::<Class>(), wanted.parse::<Class>()) else { return class == wanted };
    let is_small = matches!(wanted.shape(), Shape::Coded { .. }) && len < u64::from(CODED_BYTES_MIN);
    class == wanted || (is_small && class == wanted.as_copies())
}

fn show(usage: &Usage, json: bool) {
    if json {
        let kinds: Vec<Value> = usage
            .kinds
            .iter()
            .map(|((class, compression), Kind { chunks, bytes, disk_bytes })| {
                json!({ "class": class, "compression": compression, "chunks": chunks, "bytes": bytes,
                        "disk_bytes": disk_bytes })
            })
            .collect();
        println!("{}", json!({ "kinds": kinds, "left": usage.left }));
        return;
    }
    for ((class, compression), Kind { chunks, bytes, disk_bytes }) in &usage.kinds {
        println!("{class:<10} {compression:<5} {chunks} chunks, {bytes} bytes, {disk_bytes} on disk");
    }
    println!("{} chunks have another class or compression than their directory wants", usage.left);
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
