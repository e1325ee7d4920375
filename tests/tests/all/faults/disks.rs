//! Disks that are full, read-only, slow or wrong, and copies that are missing.
//!
//! Never leaves a file system behind.

use dgfs_tests::faults::Fault;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[];
