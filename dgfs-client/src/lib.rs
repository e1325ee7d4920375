//! The file system as a library: sessions, caches, write-back, read-ahead,
//! retries. Mounts, tools and tests use it alike.
//!
//! Never knows FUSE and never decides metadata rules (meta does). A request
//! enters by [`vfs`], finds its open file in `handles`, its bytes in `file`,
//! and leaves by `meta_link` (metadata) or `stores` (chunks). `session` keeps
//! the session alive, `writer` sends what is dirty before it grows old. Requests
//! below a virtual `.tags` directory enter by [`tags`] and leave by its `link`.

pub mod coding;
pub mod config;
pub mod metrics;
pub mod past;
pub mod vfs;

mod budget;
mod cache;
mod core;
mod dirs;
mod file;
mod grants;
mod handles;
mod kept_back;
mod ledger;
mod locks;
mod meta_link;
mod names;
mod op_window;
mod operation;
mod policy;
pub mod reader;
mod recalls;
mod registering;
mod session;
pub mod stores;
mod sync;
pub mod tags;
mod writer;
mod xattrs;

#[cfg(test)]
mod testing;
