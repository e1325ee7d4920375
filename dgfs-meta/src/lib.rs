//! The truth of a volume: namespace, tags, locks, map, change log, garbage.
//!
//! Never talks to a storage daemon and never touches file bytes beyond the
//! inline ones.

mod core;
pub mod engine;
pub mod format;
pub mod rows;
pub mod service;
