//! Watches blocked lock waiters for signals.
//!
//! fuser 0.18 passes no INTERRUPT on, so a signalled waiter would sleep on. While requests wait, one thread looks at each
//! waiter's `/proc/<tid>/status`: a pending signal that is neither blocked nor a mere stop, or a thread
//! that is gone, ends its wait. Never asks a server; sleeps for good when nobody waits.
//! At most [`LOCK_WAITS_MAX`] waiters; more are refused.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use dgfs_client::vfs::LockTicket;
use dgfs_proto::limits::LOCK_WAITS_MAX;

/// How often waiters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A cancelled wait that has not ended is cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);
/// A waiter whose thread cannot be seen (another pid namespace) waits at most so long: nothing could end it.
const UNSEEN_WAIT: Duration = Duration::from_secs(30);

/// Ends waits. Called on the watching thread, must not block.
pub type Cancel = Box<dyn Fn(LockTicket) + Send + Sync>;

struct Waiter {
    tid: u32,
    since: Instant,
    cancelled: Option<Instant>,
}

#[derive(Default)]
struct State {
    waiters: HashMap<u64, Waiter>,
    last_ticket: u64,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    cancel: Cancel,
}

/// The waiting lock requests of a mount. Dropping it ends its thread.
pub struct LockWatch {
    inner: Arc<Inner>,
}

/// A registered waiter; dropping it ends the watch.
pub struct Watched {
    /// Names the wait.
    pub ticket: LockTicket,
    inner: Weak<Inner>,
}

impl LockWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(cancel: Cancel) -> std::io::Result<Self> {
        let inner = Arc::new(Inner { state: Mutex::default(), changed: Condvar::new(), cancel });
        let watching = Arc::clone(&inner);
        std::thread::Builder::new().name("dgfs-lock-watch".to_owned()).spawn(move || watching.watch())?;
        Ok(Self { inner })
    }

    /// Watches the thread `tid` until the result is dropped; `None` when too many wait.
    #[must_use]
    pub fn add(&self, tid: u32) -> Option<Watched> {
        let mut state = self.inner.state.lock();
        if state.waiters.len() >= LOCK_WAITS_MAX {
            return None;
        }
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.waiters.insert(number, Waiter { tid, since: Instant::now(), cancelled: None });
        self.inner.changed.notify_one();
        Some(Watched { ticket: LockTicket(number), inner: Arc::downgrade(&self.inner) })
    }
}

impl Drop for LockWatch {
    fn drop(&mut self) {
        self.inner.state.lock().closed = true;
        self.inner.changed.notify_one();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.state.lock().waiters.remove(&self.ticket.0);
        }
    }
}

impl Inner {
    fn watch(&self) {
        while let Some(waiters) = self.next_round() {
            for (number, tid, since) in waiters {
                if must_end(tid, since) {
                    (self.cancel)(LockTicket(number));
                    if let Some(waiter) = self.state.lock().waiters.get_mut(&number) {
                        waiter.cancelled = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// The waiters to look at, after a pause; `None` at the end.
    fn next_round(&self) -> Option<Vec<(u64, u32, Instant)>> {
        let mut state = self.state.lock();
        while state.waiters.is_empty() && !state.closed {
            self.changed.wait(&mut state);
        }
        let until = Instant::now() + LOOK_EVERY;
        while !state.closed && !self.changed.wait_until(&mut state, until).timed_out() {}
        if state.closed {
            return None;
        }
        let due = |waiter: &Waiter| waiter.cancelled.is_none_or(|at| at.elapsed() >= CANCEL_AGAIN);
        let waiters = state.waiters.iter().filter(|(_, waiter)| due(waiter));
        Some(waiters.map(|(number, waiter)| (*number, waiter.tid, waiter.since)).collect())
    }
}

fn must_end(tid: u32, since: Instant) -> bool {
    if tid == 0 {
        return since.elapsed() >= UNSEEN_WAIT;
    }
    match std::fs::read_to_string(format!("/proc/{tid}/status")) {
        Ok(status) => signalled(&status),
        Err(_) => true,
    }
}

/// Does a thread with this `status` have a signal to take? A stop signal without a handler is none: a stopped program
/// goes on waiting when it continues.
#[must_use]
pub fn signalled(status: &str) -> bool {
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
    };
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let stops = stops.iter().fold(0_u64, |set, signal| set | 1 << (signal - 1));
    let pending = mask("SigPnd:") | mask("ShdPnd:");
    pending & !mask("SigBlk:") & !(stops & !mask("SigCgt:")) != 0
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{LockWatch, signalled};

    fn status(pending: u64, shared: u64, blocked: u64, caught: u64) -> String {
        format!(
            "Name:\tx\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t0\nSigCgt:\t{caught:016x}\n"
        )
    }

    const fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn a_pending_signal_ends_a_wait_unless_it_is_blocked() {
        assert!(!signalled(&status(0, 0, 0, 0)));
        assert!(signalled(&status(bit(libc::SIGKILL), 0, 0, 0)));
        assert!(signalled(&status(0, bit(libc::SIGALRM), 0, 0)));
        assert!(!signalled(&status(0, bit(libc::SIGALRM), bit(libc::SIGALRM), 0)));
    }

    #[test]
    fn a_stop_without_a_handler_does_not_end_a_wait() {
        assert!(!signalled(&status(0, bit(libc::SIGTSTP), 0, 0)));
        assert!(signalled(&status(0, bit(libc::SIGTSTP), 0, bit(libc::SIGTSTP))));
    }

    #[test]
    fn a_waiter_whose_thread_is_gone_is_cancelled_and_a_living_one_is_not() {
        let (send, receive) = mpsc::channel();
        let watch = LockWatch::start(Box::new(move |ticket| {
            let _ = send.send(ticket);
        }))
        .unwrap();
        // Pid 1 lives and has no signal to take; no thread has the largest number.
        let living = watch.add(1).unwrap();
        let gone = watch.add(u32::MAX).unwrap();
        assert_eq!(receive.recv().unwrap(), gone.ticket);
        drop(gone);
        drop(living);
        drop(watch);
        assert!(receive.recv().is_err(), "the thread ends with the watch");
    }
}
