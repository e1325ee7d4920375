//! Tells the service manager (systemd) how this process is: that it serves,
//! that it lives, that it stops.
//!
//! Never ends the process, and without a service manager does nothing. Always:
//! a sign of life is given by way of the runtime's timer and its pool for
//! blocking work, so a process in which one of them is stuck gives none.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::debug;

use crate::lifecycle::Shutdown;

/// Signs of life in the time after which the service manager gives a process up: two may be lost.
const SIGNS_PER_LIMIT: u32 = 3;

/// The service manager of this process, if it has one. Dropped, no more signs of life are given.
#[derive(Debug)]
pub struct Supervisor {
    tasks: Vec<JoinHandle<()>>,
}

impl Supervisor {
    /// Gives signs of life from now on where the service manager wants them, and says when `shutdown` is asked for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn attach(shutdown: &Shutdown) -> Self {
        let mut tasks = vec![tokio::spawn(say_stopping(shutdown.clone()))];
        if let Some(limit) = sd_notify::watchdog_enabled() {
            tasks.push(tokio::spawn(give_signs_of_life(limit, || say(&[NotifyState::Watchdog]))));
        }
        Self { tasks }
    }

    /// It serves; `status` is a line for people.
    pub fn ready(&self, status: &str) {
        say(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// What it is at, a line for people.
    pub fn status(&self, status: &str) {
        say(&[NotifyState::Status(status)]);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A sign of life by another way than the runtime of [`Supervisor::attach`]: for a process that knows why that one is stuck, and that to
/// be ended would not help.
pub fn give_sign_of_life() {
    if sd_notify::watchdog_enabled().is_some() {
        say(&[NotifyState::Watchdog]);
    }
}

async fn say_stopping(shutdown: Shutdown) {
    shutdown.asked().await;
    say(&[NotifyState::Stopping, NotifyState::Status("stopping: what was begun is finished first")]);
}

async fn give_signs_of_life(limit: Duration, sign: impl Fn() + Clone + Send + 'static) {
    let mut due = tokio::time::interval(limit / SIGNS_PER_LIMIT);
    loop {
        due.tick().await;
        // Waited for: while the pool does not come to it, there is no sign and no second one queues behind it.
        if spawn_blocking(sign.clone()).await.is_err() {
            return;
        }
    }
}

/// A service manager that cannot be told will notice by itself.
fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::give_signs_of_life;

    const LIMIT: Duration = Duration::from_millis(60);
    /// Much longer than a sign needs, also on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A runtime with one thread of each kind, and its signs of life.
    fn living() -> (Runtime, Receiver<()>) {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
        let (signs, seen) = channel();
        runtime.spawn(give_signs_of_life(LIMIT, move || signs.send(()).unwrap_or_default()));
        (runtime, seen)
    }

    fn falls_silent(seen: &Receiver<()>) {
        // One may have been given before the fault.
        while seen.try_recv().is_ok() {}
        assert_eq!(seen.recv_timeout(LIMIT * 10), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_process_that_lives_says_so_again_and_again() {
        let (_runtime, seen) = living();
        for _ in 0..3 {
            seen.recv_timeout(PATIENCE).unwrap();
        }
    }

    #[test]
    fn a_runtime_whose_threads_are_held_gives_no_sign_until_they_are_free() {
        let (runtime, seen) = living();
        seen.recv_timeout(PATIENCE).unwrap();
        let (held, is_held) = channel();
        let (free, until_free) = channel::<()>();
        runtime.spawn(async move {
            held.send(()).unwrap();
            let _ = until_free.recv();
        });
        is_held.recv_timeout(PATIENCE).unwrap();
        falls_silent(&seen);
        drop(free);
        seen.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn a_pool_for_blocking_work_that_is_stuck_gives_no_sign_until_it_goes_on() {
        let (runtime, seen) = living();
        seen.recv_timeout(PATIENCE).unwrap();
        let (held, is_held) = channel();
        let (free, until_free) = channel::<()>();
        runtime.spawn_blocking(move || {
            held.send(()).unwrap();
            let _ = until_free.recv();
        });
        is_held.recv_timeout(PATIENCE).unwrap();
        falls_silent(&seen);
        drop(free);
        seen.recv_timeout(PATIENCE).unwrap();
    }
}
