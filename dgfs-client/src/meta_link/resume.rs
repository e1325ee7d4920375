//! Finding the active server and taking the session up there.
//!
//! Never makes a session sole: only a notice does. Always: opens are told again, so that a server that took over knows them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::RESUMED_OPENS_MAX;
use dgfs_proto::meta::{MetaReply, MetaRequest, SessionRequest, VolumeInfo};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::CallError;

use super::{MetaLink, OPEN_TRY, TRY};
use crate::ledger::Opens;
use crate::metrics::count;
use crate::operation::{Backoff, Op};

/// How one try to take up the session ended.
enum Resumed {
    Yes(Box<VolumeInfo>),
    Away,
    Dead,
    Refused(Status),
}

impl MetaLink {
    /// Finds the active server and takes the session up there, unless somebody did since `seen`.
    pub(crate) async fn mend(&self, op: &Op, seen: u64) -> Result<Option<Box<VolumeInfo>>, Status> {
        // Somebody else may be at it, and for longer than a soft operation may take.
        let patience = if op.soft { Duration::ZERO } else { op.left(Duration::from_secs(3600)) };
        let Ok(_mending) = tokio::time::timeout(patience, self.mending.lock()).await else {
            return Err(Status::Unavailable);
        };
        if self.generation() != seen {
            return Ok(None);
        }
        let mut backoff = Backoff::new();
        loop {
            for _ in 0..self.channels.len() {
                match self.resume(op).await {
                    Resumed::Yes(volume) => return Ok(Some(volume)),
                    Resumed::Dead => return Err(Status::Stale),
                    Resumed::Refused(status) => return Err(status),
                    Resumed::Away => {
                        let next = (self.active.load(Ordering::Acquire) + 1) % self.channels.len().max(1);
                        self.active.store(next, Ordering::Release);
                    }
                }
            }
            backoff.pause(op).await?;
        }
    }

    /// Asks whether this server is the active one, where there is no session to be taken up.
    async fn greet(&self, op: &Op) -> Resumed {
        match self.attempt(op, MetaRequest::Volume, TRY).await.map(|(reply, _)| reply) {
            Ok(MetaReply::Volume(volume)) => {
                self.generation.fetch_add(1, Ordering::AcqRel);
                Resumed::Yes(Box::new(volume))
            }
            Ok(MetaReply::Refused(Status::NotActive | Status::Busy | Status::Unavailable)) => Resumed::Away,
            Ok(MetaReply::Refused(status)) => Resumed::Refused(status),
            Ok(_) => Resumed::Refused(Status::Malformed),
            Err(CallError::Rejected { .. }) => Resumed::Refused(Status::Io),
            Err(CallError::Unreachable { .. } | CallError::TimedOut { .. }) => Resumed::Away,
        }
    }

    async fn resume(&self, op: &Op) -> Resumed {
        if self.guest {
            return self.greet(op).await;
        }
        let resume = self.session();
        let opens = if resume.is_some() { self.ledger.take_all() } else { Opens::default() };
        let patience = if resume.is_some() { TRY } else { OPEN_TRY };
        let answer = self.open_session(op, resume, &opens.all, patience).await;
        match &answer {
            Ok(MetaReply::Session { .. }) => self.ledger.told_together(&opens),
            Ok(_) | Err(_) => self.ledger.give_own_back(&opens.own),
        }
        match answer {
            Ok(MetaReply::Session { id, sole, volume }) => {
                if resume.is_some() {
                    count(&self.counters.resumes);
                    tracing::info!(session = id.get(), "the session goes on");
                }
                self.session.store(id.get(), Ordering::Release);
                // Taking a session up never makes it sole: only a notice does, and notices are carried out in their order.
                if sole && resume.is_some() {
                    self.answered.fetch_add(1, Ordering::AcqRel);
                } else {
                    self.set_sole(sole);
                }
                self.generation.fetch_add(1, Ordering::AcqRel);
                Resumed::Yes(Box::new(volume))
            }
            Ok(MetaReply::Refused(Status::Stale)) if resume.is_some() => {
                self.declare_dead();
                Resumed::Dead
            }
            Ok(MetaReply::Refused(Status::NotActive | Status::Busy | Status::Unavailable)) => Resumed::Away,
            Ok(MetaReply::Refused(status)) => Resumed::Refused(status),
            Ok(_) => Resumed::Refused(Status::Malformed),
            Err(CallError::Rejected { .. }) => Resumed::Refused(Status::Io),
            Err(CallError::Unreachable { .. } | CallError::TimedOut { .. }) => Resumed::Away,
        }
    }

    /// Opens or takes up a session; more opens than one message carries go in several, each of which says so again.
    async fn open_session(
        &self,
        op: &Op,
        resume: Option<SessionId>,
        opens: &[(Ino, u32)],
        patience: Duration,
    ) -> Result<MetaReply, CallError> {
        let (first, rest) = opens.split_at(opens.len().min(RESUMED_OPENS_MAX));
        let open = |opens: &[(Ino, u32)]| {
            let (client, opens) = (self.client.clone(), opens.to_vec());
            MetaRequest::Session(SessionRequest::Open { client, key: self.key, resume, opens })
        };
        let mut answer = self.attempt(op, open(first), patience).await?.0;
        if resume.is_none() {
            // Opening is listening, too: there was nothing to hear before.
            self.heard.fetch_max(self.alive.load(Ordering::Acquire), Ordering::AcqRel);
        }
        for page in rest.chunks(RESUMED_OPENS_MAX) {
            if !matches!(answer, MetaReply::Session { .. }) {
                break;
            }
            answer = self.attempt(op, open(page), patience).await?.0;
        }
        Ok(answer)
    }
}
