//! Locks of programs: which family a request belongs to, and who waits.
//!
//! Never talks to the file system; the adapter does.

pub mod family;
pub mod watch;
