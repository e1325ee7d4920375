//! The kernel adapter and the `dgfs` command.
//!
//! Never holds file-system meaning: `dgfs-client` decides, this crate
//! translates, mounts, unmounts and starts processes.
//! A request passes [`adapter`] → `dgfs_client::vfs::Vfs`; a command passes [`cli`] → [`mount`], and [`embedded`] (all in
//! one process) or [`volume`] (a cluster); daemons are those of their crates.

pub mod adapter;
mod asking;
pub mod cli;
pub mod client_metrics;
pub mod embedded;
pub mod errno;
pub mod locks;
pub mod metrics;
pub mod mount;
pub mod profile;
pub mod volume;
