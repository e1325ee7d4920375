//! What a process that reads untrusted content may not do.
//!
//! Never relies on one fence: limits of the kernel bound memory, time and files; a filter of system calls and, where it
//! is allowed, an empty network namespace take the network away; the filter takes away what changes a file without writing it, and
//! signals; Landlock takes writing away where the kernel has it; a namespace of processes ends with the first of them.
//! A fence that is required and cannot be set keeps the process from starting.

mod filter;
mod sys;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub(crate) use sys::{Announced, kill_group, processor_time, reap, take_stdout};

/// How much longer a job may take by the clock than of processor time.
const CLOCK_FACTOR: u32 = 6;

/// Whether a process may use the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// No socket can be made.
    Refused,
    /// As the parent may.
    Allowed,
}

/// The limits of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Processor time of one job, of the process itself; then it is killed. By the clock it has [`Limits::clock_time`].
    pub job_time: Duration,
    /// Jobs of one process; then another takes its place, so that what leaks is given back.
    pub jobs_max: u32,
    /// Descriptors that may be open.
    pub open_files: u64,
    /// Whether it may use the network.
    pub network: Network,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The dictionaries and a picture of 64 megapixels take half of it.
            memory_bytes: 1 << 30,
            job_time: Duration::from_secs(10),
            jobs_max: 500,
            open_files: 64,
            network: Network::Refused,
        }
    }
}

impl Limits {
    /// Time of one job by the clock: a machine that is busy with other things gives a process a part of a processor, which is no
    /// fault of the file.
    pub fn clock_time(&self) -> Duration {
        self.job_time.saturating_mul(CLOCK_FACTOR)
    }

    /// Seconds of processor time over the life of a process: what all its jobs may take together. A worker that has lost
    /// its parent cannot burn more.
    pub fn cpu_seconds(&self) -> u64 {
        self.job_time.as_secs().max(1).saturating_mul(u64::from(self.jobs_max.max(1)))
    }
}

/// Which fences a process has found around itself.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(default)]
pub struct InForce {
    /// It can gain no rights by starting programs.
    pub no_new_privileges: bool,
    /// A filter refuses system calls.
    pub system_call_filter: bool,
    /// Making a socket is refused.
    pub no_network: bool,
    /// Version of Landlock that forbids writing; 0 without it.
    pub landlock: u32,
    /// Bytes of address space.
    pub memory_bytes: u64,
}

/// Makes `command` start behind `limits`: bounded, niced, in a process group of its own, dead with the thread that
/// started it, without a core file, without the network unless allowed, unable to write files or to change what is told of them, and,
/// where the kernel allows it, the first process of a namespace that ends with it.
///
/// # Errors
///
/// Where the fences cannot be prepared.
pub(crate) fn confine(command: &mut Command, limits: &Limits) -> io::Result<Announced> {
    sys::confine(command, limits)
}

/// Closes what a worker no longer needs once it runs: opening files, starting programs and processes. Says what is in
/// force. A kernel without filters leaves what [`confine`] has set, and the answer shows it.
pub fn seal() -> InForce {
    sys::seal()
}
