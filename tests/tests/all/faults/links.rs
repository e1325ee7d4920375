//! Links that are cut, both ways or one, and clients that ask too much.
//!
//! Never leaves a rule of a network behind.

use dgfs_tests::faults::Fault;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[];
