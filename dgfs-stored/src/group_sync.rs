//! Many callers share one disk sync.
//!
//! Never knows what is synced. Always: a caller is answered by a sync that
//! began after it asked; after one failed sync every later answer is a failure
//! (what the disk holds is then unknown until a restart reads it).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    asked: u64,
    done: u64,
    running: bool,
    failed: bool,
}

/// A sync failed, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncFailed;

type Work = dyn Fn() -> io::Result<()> + Send + Sync;

/// The queue in front of one `sync` function.
pub(crate) struct GroupSync {
    work: Box<Work>,
    state: Mutex<State>,
    woken: Condvar,
    notify: Notify,
    syncs: AtomicU64,
}

impl GroupSync {
    pub(crate) fn new(work: Box<Work>) -> Arc<Self> {
        Arc::new(Self {
            work,
            state: Mutex::new(State::default()),
            woken: Condvar::new(),
            notify: Notify::new(),
            syncs: AtomicU64::new(0),
        })
    }

    /// Syncs carried out.
    pub(crate) fn count(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Has one failed?
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Waits for a sync on this thread.
    pub(crate) fn wait_blocking(&self) -> Result<(), SyncFailed> {
        let mut state = self.state.lock();
        state.asked += 1;
        let ticket = state.asked;
        loop {
            if let Some(answer) = answer_of(&state, ticket) {
                return answer;
            }
            if state.running {
                self.woken.wait(&mut state);
            } else {
                state.running = true;
                drop(state);
                let running = Running(self);
                self.run_once();
                drop(running);
                state = self.state.lock();
            }
        }
    }

    /// Waits for a sync; the disk is waited for on a blocking thread.
    pub(crate) async fn wait(self: &Arc<Self>) -> Result<(), SyncFailed> {
        let Ok(runtime) = Handle::try_current() else { return self.wait_blocking() };
        let ticket = {
            let mut state = self.state.lock();
            state.asked += 1;
            state.asked
        };
        loop {
            let notified = self.notify.notified();
            let lead = {
                let mut state = self.state.lock();
                if let Some(answer) = answer_of(&state, ticket) {
                    return answer;
                }
                !std::mem::replace(&mut state.running, true)
            };
            if lead {
                let running = OwnedRunning(Arc::clone(self));
                // If the runtime ends before it runs, the guard lets the next one lead.
                drop(runtime.spawn_blocking(move || running.0.run_while_asked()));
            }
            notified.await;
        }
    }

    fn run_while_asked(&self) {
        loop {
            self.run_once();
            let state = self.state.lock();
            if state.failed || state.done >= state.asked {
                break;
            }
        }
    }

    fn run_once(&self) {
        let target = self.state.lock().asked;
        let result = (self.work)();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        match result {
            Ok(()) => state.done = state.done.max(target),
            Err(error) => {
                state.failed = true;
                tracing::error!(%error, "a disk sync failed: puts are refused until the daemon is restarted");
            }
        }
        drop(state);
        self.woken.notify_all();
        self.notify.notify_waiters();
    }

    fn stop_running(&self) {
        self.state.lock().running = false;
        self.woken.notify_all();
        self.notify.notify_waiters();
    }
}

fn answer_of(state: &State, ticket: u64) -> Option<Result<(), SyncFailed>> {
    if state.failed {
        Some(Err(SyncFailed))
    } else if state.done >= ticket {
        Some(Ok(()))
    } else {
        None
    }
}

struct Running<'a>(&'a GroupSync);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.stop_running();
    }
}

struct OwnedRunning(Arc<GroupSync>);

impl Drop for OwnedRunning {
    fn drop(&mut self) {
        self.0.stop_running();
    }
}
