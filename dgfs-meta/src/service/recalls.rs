//! Pushes: what sessions are told through their polls, and operations that wait until it was carried out.
//!
//! Never decides what is to be recalled (the core does). Always: an operation that waits is tried again once everything it
//! waits for was carried out, or its holder is dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::ids::SessionId;
use dgfs_proto::limits::{LIST_MAX, POLL_MS};
use dgfs_proto::meta::{MetaReply, Notice};
use dgfs_proto::status::Status;

use crate::core::{WaitId, Wanted};
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;
use crate::service::now;

/// Wakes the poll of each session by itself.
#[derive(Debug, Default)]
pub(crate) struct Bells(Mutex<HashMap<SessionId, Arc<Notify>>>);

impl Bells {
    fn of(&self, session: SessionId) -> Arc<Notify> {
        Arc::clone(self.0.lock().entry(session).or_default())
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }
}

/// What a session says with its poll.
pub(crate) struct Heard {
    pub(crate) done: u64,
    pub(crate) received: u64,
    pub(crate) recalled: Vec<u64>,
}

/// An operation that may have to wait for recalls; its wait ends with it.
pub(crate) struct Waiting<'a> {
    active: &'a Active,
    id: Option<WaitId>,
}

impl<'a> Waiting<'a> {
    pub(crate) const fn new(active: &'a Active) -> Self {
        Self { active, id: None }
    }

    pub(crate) const fn id(&self) -> Option<WaitId> {
        self.id
    }

    /// Recalls what an operation needs and waits for it.
    pub(crate) async fn until_recalled(&mut self, session: SessionId, wanted: Vec<Wanted>) -> Result<(), Dead> {
        let rung = {
            let mut core = self.active.core.lock();
            self.id = Some(core.recall(self.id, wanted, now(&self.active.options.clock)));
            core.leases.take_rung()
        };
        self.active.ring(&rung);
        loop {
            let recalled = self.active.recalled.notified();
            tokio::pin!(recalled);
            recalled.as_mut().enable();
            if self.active.is_dead() {
                return Err(Dead);
            }
            if self.id.is_none_or(|id| self.active.core.lock().is_recalled(session, id)) {
                return Ok(());
            }
            recalled.await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.active.core.lock().leases.end_wait(id);
        }
    }
}

impl Active {
    fn ring(&self, sessions: &[SessionId]) {
        sessions.iter().for_each(|session| self.bells.of(*session).notify_one());
    }

    /// Takes back what sessions hold too much of.
    pub(crate) fn evict_leases(&self) {
        let rung = {
            let mut core = self.core.lock();
            core.leases.evict();
            core.leases.take_rung()
        };
        self.ring(&rung);
    }

    /// Answers when a session has something to be told, or nothing after a while.
    pub(crate) async fn poll(&self, id: SessionId, heard: &Heard) -> Result<MetaReply, Dead> {
        if heard.recalled.len() > LIST_MAX {
            return Ok(MetaReply::Refused(Status::Malformed));
        }
        let deadline = tokio::time::sleep(Duration::from_millis(POLL_MS));
        tokio::pin!(deadline);
        if !self.core.lock().touch(id, now(&self.options.clock)) {
            return Ok(MetaReply::Refused(Status::Stale));
        }
        // Only of a session that there is: whoever asks under other numbers must not fill the memory.
        let bell = self.bells.of(id);
        let mut told = false;
        loop {
            let changed = self.sessions_changed.notified();
            if self.may_be_replaced() {
                return Ok(MetaReply::Refused(Status::NotActive));
            }
            let (notice, recalls, ticket) = {
                let mut core = self.core.lock();
                let time = now(&self.options.clock);
                if !core.touch(id, time) {
                    self.bells.forget(id);
                    return Ok(MetaReply::Refused(Status::Stale));
                }
                let notice = core.notice(id, heard.done);
                let recalls = core.listen((id, time), heard.received, if told { &[] } else { &heard.recalled });
                (notice, recalls, core.unsettled_ticket())
            };
            // A writer that takes over must not find the others again.
            if matches!(notice, Some((_, Notice::Sole))) && self.commit_up_to(ticket).await? == Fate::Refused {
                continue;
            }
            if !told {
                // What was carried out may be what others wait for.
                told = true;
                self.sessions_changed.notify_waiters();
                self.recalled.notify_waiters();
            }
            if notice.is_some() || self.is_dead() {
                return Ok(MetaReply::Notice(notice));
            }
            if let Some((number, recalls)) = recalls {
                return Ok(MetaReply::Recalls { number, recalls });
            }
            tokio::select! {
                () = changed => {}
                () = bell.notified() => {}
                () = &mut deadline => return Ok(MetaReply::Notice(None)),
            }
        }
    }

    /// A session carried recalls out.
    pub(crate) fn recalled(&self, id: SessionId, ids: &[u64]) -> MetaReply {
        if ids.len() > LIST_MAX {
            return MetaReply::Refused(Status::Malformed);
        }
        {
            let mut core = self.core.lock();
            if !core.touch(id, now(&self.options.clock)) {
                return MetaReply::Refused(Status::Stale);
            }
            core.leases.carried_out(id, ids);
        }
        self.recalled.notify_waiters();
        MetaReply::Done
    }
}
