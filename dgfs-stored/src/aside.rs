//! A runtime of one thread beside the one of calls: numbers are shown and heartbeats sent there.
//!
//! Never answers a chunk call, nor uses a disk on its thread. Always: what runs here goes on while every thread of the other
//! runtime waits for a disk that hangs, or nobody would hear of that disk.

use std::future::Future;
use std::io;

use dgfs_runtime::lifecycle::build_runtime;
use tokio::runtime::{EnterGuard, Runtime};

/// The runtime. Dropped, what runs on it ends at its next pause.
pub(crate) struct Aside(Option<Runtime>);

impl Aside {
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        build_runtime("dgfs-aside", 1).map(|runtime| Self(Some(runtime)))
    }

    /// While the answer lives, what this thread makes (tasks, channels) runs there.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }

    /// Runs `work` there; none when it panicked, which has been printed. It goes on when the answer is not waited for.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let task = self.0.as_ref()?.spawn(work);
        task.await.ok()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // A runtime must not be waited for within another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
