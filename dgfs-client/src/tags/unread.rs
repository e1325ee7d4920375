//! How much memory answers to one user may take: of questions that are worked on, and of answers that were not read.
//!
//! Never refuses a question for how many there are; they wait for each other. Always: what was held is given back when its
//! holder is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Long answers of one user that are put together at a time: each takes some ten MiB meanwhile.
const AT_ONCE: usize = 8;
/// Bytes of answers that one user has not read.
const UNREAD_BYTES_MAX: usize = 64 << 20;
/// Users that are told apart; beyond, those who hold nothing are forgotten.
const USERS_MAX: usize = 1024;

struct User {
    turns: Arc<Semaphore>,
    bytes: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Unread(Mutex<HashMap<u32, User>>);

impl Unread {
    /// Waits for a turn to put a long answer together.
    pub(crate) async fn turn(&self, uid: u32) -> Option<OwnedSemaphorePermit> {
        let turns = self.with(uid, |user| Arc::clone(&user.turns));
        // It is never closed.
        turns.acquire_owned().await.ok()
    }

    /// Room for an answer; none: too much was not read yet.
    pub(crate) fn hold(self: &Arc<Self>, uid: u32, bytes: usize) -> Option<Holding> {
        let fits = self.with(uid, |user| {
            let fits = user.bytes + bytes <= UNREAD_BYTES_MAX;
            user.bytes += if fits { bytes } else { 0 };
            fits
        });
        fits.then(|| Holding { of: Arc::clone(self), uid, bytes })
    }

    fn with<T>(&self, uid: u32, work: impl FnOnce(&mut User) -> T) -> T {
        let mut users = self.0.lock();
        if users.len() >= USERS_MAX {
            users.retain(|_, user| user.bytes > 0 || Arc::strong_count(&user.turns) > 1);
        }
        work(users.entry(uid).or_insert_with(|| User { turns: Arc::new(Semaphore::new(AT_ONCE)), bytes: 0 }))
    }
}

/// Room that is taken.
pub(crate) struct Holding {
    of: Arc<Unread>,
    uid: u32,
    bytes: usize,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.of.with(self.uid, |user| user.bytes = user.bytes.saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{UNREAD_BYTES_MAX, Unread};

    #[test]
    fn what_is_read_makes_room_again_and_users_do_not_share() {
        let unread = Arc::new(Unread::default());
        let half = unread.hold(7, UNREAD_BYTES_MAX / 2).unwrap();
        let rest = unread.hold(7, UNREAD_BYTES_MAX / 2).unwrap();
        assert!(unread.hold(7, 1).is_none() && unread.hold(8, UNREAD_BYTES_MAX).is_some());
        drop(half);
        assert!(unread.hold(7, 1).is_some() && unread.hold(7, UNREAD_BYTES_MAX).is_none());
        drop(rest);
        assert!(unread.hold(7, UNREAD_BYTES_MAX).is_some());
    }
}
