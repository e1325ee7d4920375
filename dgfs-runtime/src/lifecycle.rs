//! How a process begins and ends: its tokio runtime and its request to stop.
//!
//! Never ends the process itself. Always: a stop that was asked for stays
//! asked for, and whoever asks later hears of it at once.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// The request to stop, shared by all parts of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self { asked: Arc::new(watch::Sender::new(false)) }
    }

    /// Asks the process to stop.
    pub fn ask(&self) {
        self.asked.send_replace(true);
    }

    /// Has somebody asked?
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until somebody asks. Cancelling the wait is harmless.
    pub async fn asked(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives in `self`, so the wait ends with a request only.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    /// From now on SIGTERM and SIGINT ask for a stop instead of ending the process.
    ///
    /// # Errors
    /// Those of installing a signal handler.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn ask_on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            info!(signal = name, "stopping");
            shutdown.ask();
        });
        Ok(())
    }
}

/// A multi-threaded tokio runtime of `worker_threads` (at least 1) threads called `name`. More workers make small
/// operations slower: one for every few cores is a good number.
///
/// # Errors
/// Those of starting threads.
pub fn build_runtime(name: &str, worker_threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(worker_threads.max(1)).thread_name(name).enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::{Shutdown, build_runtime};

    #[test]
    fn a_stop_asked_for_earlier_is_heard_at_once() {
        let runtime = build_runtime("dgfs-test", 0).unwrap();
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_asked());
        shutdown.ask();
        runtime.block_on(shutdown.asked());
        assert!(shutdown.is_asked());
    }

    #[test]
    fn a_waiter_is_woken_by_the_request() {
        let runtime = build_runtime("dgfs-test", 1).unwrap();
        let shutdown = Shutdown::new();
        let waiter = runtime.spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.asked().await }
        });
        shutdown.ask();
        runtime.block_on(waiter).unwrap();
    }

    #[test]
    fn sigterm_asks_for_a_stop() {
        let runtime = build_runtime("dgfs-test", 1).unwrap();
        runtime.block_on(async {
            let shutdown = Shutdown::new();
            shutdown.ask_on_signals().unwrap();
            // SAFETY: kill has no memory effects; the signal goes to this process, which handles it since the line above.
            assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGTERM) }, 0);
            shutdown.asked().await;
        });
    }

    #[test]
    fn worker_threads_carry_the_name() {
        let runtime = build_runtime("dgfs-test", 1).unwrap();
        let name = runtime.block_on(runtime.spawn(async { std::thread::current().name().map(str::to_owned) }));
        assert_eq!(name.unwrap().as_deref(), Some("dgfs-test"));
    }
}
