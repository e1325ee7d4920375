//! The truth of a volume: namespace, tags, locks, map, change log, garbage.
//!
//! Never talks to a storage daemon and never touches file bytes beyond the
//! inline ones. A call enters at [`service`] (the shell), is decided in `core`
//! (the state machine) over [`rows`], and lasts in an [`engine`].

pub mod service;

mod cluster;
mod core;
mod placement;

pub mod daemon;
pub mod engine;
pub mod format;
pub mod metrics;
mod pages;
pub mod rows;
pub mod salvage;
