//! The file system as a library: sessions, caches, write-back, read-ahead,
//! retries. Mounts, tools and tests use it alike.
//!
//! Never knows FUSE and never decides metadata rules (meta does).

pub mod vfs;
