//! Certificates, clocks, replicas of Redis, Neo4j and taggers.
//!
//! Never leaves a setting changed.

use dgfs_tests::faults::Fault;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[];
