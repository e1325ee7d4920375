//! Lock waits: parked here, tried again when locks are loosened.

use std::sync::Arc;

use tokio::sync::Notify;

use dgfs_proto::limits::LOCK_WAITS_MAX;
use dgfs_proto::meta::MetaReply;
use dgfs_proto::status::Status;

use crate::core::{Once, Outcome};
use crate::service::active::{Active, Dead};
use crate::service::now;

impl Active {
    /// Answers once the lock is held, the wait is cancelled, or the session is dead.
    pub(crate) async fn wait_for_lock(&self, once: &Once<'_>) -> Result<MetaReply, Dead> {
        let wait = (once.session, once.op);
        let cancelled = Arc::new(Notify::new());
        {
            let mut waits = self.waits.lock();
            if waits.keys().filter(|(session, _)| *session == once.session).count() >= LOCK_WAITS_MAX {
                return Ok(MetaReply::Refused(Status::NoLocks));
            }
            waits.insert(wait, Arc::clone(&cancelled));
        }
        let reply = self.try_until_held(once, &cancelled).await;
        self.waits.lock().remove(&wait);
        self.core.lock().end_lock_wait(wait);
        // Those behind it may go on.
        self.locks_changed.notify_waiters();
        reply
    }

    async fn try_until_held(&self, once: &Once<'_>, cancelled: &Notify) -> Result<MetaReply, Dead> {
        let mut waited = false;
        loop {
            let changed = self.locks_changed.notified();
            tokio::pin!(changed);
            // From here on no loosening is missed.
            changed.as_mut().enable();
            let time = now(&self.options.clock);
            let reply = self.settle(|core, attempt| core.mutate(time, once, attempt)).await?;
            if reply != MetaReply::Refused(Status::WouldBlock) {
                return Ok(reply);
            }
            if self.is_dead() {
                return Err(Dead);
            }
            let begins = !waited;
            waited = true;
            if self.core.lock().would_deadlock(once) {
                return Ok(MetaReply::Refused(Status::Deadlock));
            }
            if begins {
                // With this wait another one may wait, through it, for a waiter that lets it go first: that one need not any more.
                self.locks_changed.notify_waiters();
                continue;
            }
            tokio::select! {
                () = changed => {}
                () = cancelled.notified() => {
                    return match self.core.lock().answer_interrupted(once) {
                        Outcome::Answer { reply, .. } => Ok(reply),
                        Outcome::More | Outcome::Need(_) | Outcome::Recall(..) => Ok(MetaReply::Refused(Status::Interrupted)),
                    };
                }
            }
        }
    }
}
