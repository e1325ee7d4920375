//! `dgfs fsck --salvage`: brings back what is readable of an embedded volume's damaged metadata.
//!
//! Never touches file contents, and keeps the damaged metadata beside the new ones. Nobody may use the volume meanwhile.

use std::path::Path;

use serde_json::json;

use dgfs_meta::salvage::salvage;
use dgfs_runtime::disk::DirectoryLock;
use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::{Failure, paths};

/// Errors were mended, as e2fsck(8) says it.
const CODE_MENDED: u8 = 1;

/// Salvages the volume in `directory` and says what is lost; the exit code.
pub(super) fn run(directory: &Path, as_json: bool) -> Result<u8, Failure> {
    let meta = directory.join("meta");
    if !meta.exists() {
        return Err(Failure::new(format!("{} holds no metadata", directory.display())));
    }
    let holder = format!("being salvaged by pid {} on host {}", std::process::id(), paths::host());
    let _lock = DirectoryLock::acquire(directory, &holder).map_err(Failure::new)?;
    let report = build_runtime("dgfs", 2).map_err(Failure::new)?.block_on(salvage(&meta)).map_err(Failure::new)?;
    if as_json {
        println!("{}", json!({ "inodes": report.inodes, "lost": report.lost, "damaged": report.damaged }));
        return Ok(CODE_MENDED);
    }
    for lost in &report.lost {
        println!("lost: {lost}");
    }
    println!(
        "{} files and directories are there; the damaged metadata are in {}",
        report.inodes,
        report.damaged.display()
    );
    println!("next: dgfs fsck --data-dir {} checks that their contents are there, too", directory.display());
    Ok(CODE_MENDED)
}
