//! What a service knows of its cluster besides files: who is there, what happened, how the engine is.
//!
//! Never in the way of a change: announcements live in memory, events are queued, the engine's server is asked in the
//! background. Always: answers about the cluster come from the active writer.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use dgfs_proto::ids::{ServerId, SessionId};
use dgfs_proto::limits::{EVENTS_PAGE_MAX, MEMBERS_PAGE_MAX, POLL_MS};
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{Announce, EventKind, MemberStatus, MetaReply, ProcessKind, WatchReply, WatchRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::announce::ClockOffset;
use dgfs_runtime::channel::Peer;

use crate::core::Seen;
use crate::engine::{EngineError, EngineHealth, RowRange, Table};
use crate::rows::Row;
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;
use crate::service::now;

mod engine;
mod journal;
mod members;
mod numbers;
mod observe;

pub(crate) use self::journal::Journal;
pub(crate) use self::numbers::Op;
pub(crate) use self::observe::Observer;

use self::members::Members;
use self::numbers::Numbers;

/// Kept by a service over all its times as standby and as the active one.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) numbers: Numbers,
    pub(crate) journal: Journal,
    members: Mutex<Members>,
    /// This process, once it is known where it listens.
    me: Mutex<Option<Announce>>,
    pub(crate) offset: ClockOffset,
    /// Who waits to take over, as the engine told last.
    standbys: Mutex<Vec<Announce>>,
    health: Mutex<Health>,
    /// What was seen at the last tick.
    seen: Mutex<Option<Seen>>,
}

/// The server that holds the rows, as it was found last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// It was asked.
    pub(crate) known: bool,
    /// None: it does not answer.
    pub(crate) found: Option<EngineHealth>,
    /// Somebody was told that it does not answer, …
    away: bool,
    /// … or that it is not durable.
    not_durable: bool,
}

impl Watch {
    /// What the processes of the cluster are, this one and those who wait among them.
    fn everybody(&self, now_ms: u64) -> Vec<MemberStatus> {
        let mut all = self.members.lock().list(now_ms);
        let here = |who: Announce| MemberStatus { who, silent_ms: 0 };
        all.extend(self.me.lock().clone().map(here));
        all.extend(self.standbys.lock().iter().cloned().map(here));
        all.sort_by_key(|one| one.who.instance);
        all.dedup_by_key(|one| one.who.instance);
        all
    }

    /// Who this process is.
    pub(crate) fn introduce(&self, who: Announce) {
        *self.me.lock() = Some(who);
    }

    /// This process, once it is known.
    pub(crate) fn me(&self) -> Option<Announce> {
        self.me.lock().clone()
    }

    /// Standbys heard of lately.
    pub(crate) fn standbys(&self) -> usize {
        self.standbys.lock().len()
    }

    /// The engine's server.
    pub(crate) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// What was seen at the last tick of the active writer.
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.seen.lock().clone()
    }

    /// Another writer begins, or this one has ended: what was seen and who was there is not known any more.
    pub(crate) fn forget(&self) {
        *self.members.lock() = Members::default();
        *self.seen.lock() = None;
        self.standbys.lock().clear();
    }
}

impl Active {
    /// Something happened to the cluster. An embedded volume is no cluster.
    pub(crate) fn note(&self, kind: EventKind, subject: &str, text: &str) {
        if !self.options.exclusive {
            self.watch.journal.note(now(&self.options.clock), kind, subject, text);
        }
    }

    /// Answers about the cluster.
    pub(crate) async fn answer_watch(&self, peer: &Peer, request: WatchRequest) -> Result<MetaReply, Dead> {
        match request {
            WatchRequest::Announce(who) => Ok(self.hear(peer, who)),
            WatchRequest::Leave { instance } => {
                self.watch.members.lock().leave(peer, instance);
                Ok(MetaReply::Done)
            }
            WatchRequest::Members { after, limit } => {
                let limit = limit.clamp(1, MEMBERS_PAGE_MAX) as usize;
                let behind = |one: &MemberStatus| after.is_none_or(|after| one.who.instance > after);
                let page = self.processes().into_iter().filter(behind).take(limit).collect();
                Ok(MetaReply::Watch(WatchReply::Members(page)))
            }
            WatchRequest::Events { after, limit, wait } => {
                self.events(after, limit.clamp(1, EVENTS_PAGE_MAX) as usize, wait).await
            }
        }
    }

    fn hear(&self, peer: &Peer, who: Announce) -> MetaReply {
        let now_ms = self.options.clock.monotonic_ms();
        let heard = self.watch.members.lock().hear(peer, who, now_ms).cloned();
        match heard {
            Ok(who) => {
                if let Some(server) = who.server.filter(|_| who.kind == ProcessKind::Stored) {
                    self.core.lock().note_announced(server, &who);
                }
                MetaReply::Watch(WatchReply::Heard { time: now(&self.options.clock) })
            }
            Err(status) => MetaReply::Refused(status),
        }
    }

    /// Every process there is, by number; and storage servers that do not answer, as they announced themselves last.
    pub(crate) fn processes(&self) -> Vec<MemberStatus> {
        let mut all = self.watch.everybody(self.options.clock.monotonic_ms());
        let core = self.core.lock();
        let time = now(&self.options.clock).as_ms();
        let silent: BTreeMap<ServerId, u64> =
            core.cluster.members().map(|member| (member.row.id, time.saturating_sub(member.seen_ms))).collect();
        for (id, who) in &core.announced {
            let there = all.iter().any(|one| one.who.server == Some(*id));
            if let (false, Some(silent_ms)) = (there, silent.get(id)) {
                all.push(MemberStatus { who: who.clone(), silent_ms: *silent_ms });
            }
        }
        drop(core);
        all.sort_by_key(|one| one.who.instance);
        all
    }

    /// A page of the journal behind `after`.
    async fn events(&self, after: u64, limit: usize, wait: bool) -> Result<MetaReply, Dead> {
        let deadline = tokio::time::sleep(Duration::from_millis(POLL_MS));
        tokio::pin!(deadline);
        loop {
            let grew = self.watch.journal.grew.notified();
            tokio::pin!(grew);
            grew.as_mut().enable();
            let kept = self.watch.journal.kept();
            let (first, head) = (kept.first, kept.head);
            if head > after || !wait || self.is_dead() {
                let events = self.events_between(after.saturating_add(1).max(first), head, limit).await?;
                return Ok(events.map_or(MetaReply::Refused(Status::Corrupt), |events| {
                    MetaReply::Watch(WatchReply::Events { events, first, head })
                }));
            }
            tokio::select! {
                () = grew => {}
                () = &mut deadline => {
                    return Ok(MetaReply::Watch(WatchReply::Events { events: Vec::new(), first, head }));
                }
            }
        }
    }

    /// None when a row is damaged.
    async fn events_between(
        &self,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Option<Vec<dgfs_proto::meta::ClusterEvent>>, Dead> {
        if from > to {
            return Ok(Some(Vec::new()));
        }
        let range = RowRange { table: Table::Watch, partition: 0, from, to, limit };
        let rows = self.persistently("read the journal", || self.engine.list(range)).await?;
        let event = |(key, bytes)| match Row::decode(key, bytes) {
            Ok(Row::Happened(event)) => Some(event),
            Ok(_) | Err(_) => None,
        };
        Ok(rows.iter().map(|(key, bytes)| event((*key, bytes))).collect())
    }

    /// One look at the cluster: events of what changed, and numbers for metrics.
    pub(crate) fn observe(&self, observer: &mut Observer, expired: &[SessionId]) {
        let seen = {
            let mut core = self.core.lock();
            core.forget_removed();
            core.seen(now(&self.options.clock), observer.health_of())
        };
        *self.watch.seen.lock() = Some(seen.clone());
        for (kind, subject, text) in observer.look(self.options.clock.monotonic_ms(), seen, expired) {
            self.note(kind, &subject, &text);
        }
    }

    /// Writes what happened, as one batch behind those of changes.
    pub(crate) async fn write_journal(&self) -> Result<(), Dead> {
        // A full engine keeps its room for files; events wait, and are dropped at last.
        if self.refuses(true) {
            return Ok(());
        }
        let events = self.watch.journal.take(now(&self.options.clock));
        if events.is_empty() {
            return Ok(());
        }
        let (ticket, kept) = {
            let mut core = self.core.lock();
            let ticket = core.append_journal(&events);
            (ticket, core.journal)
        };
        match self.commit_up_to(ticket).await? {
            Fate::Committed => self.watch.journal.written(kept),
            Fate::Refused => self.watch.journal.put_back(events),
        }
        Ok(())
    }

    /// The engine did not do what it was asked for; told once until it does again.
    pub(crate) fn engine_failed(&self, error: &EngineError) {
        self.watch.numbers.engine_failed();
        if matches!(error, EngineError::Unavailable(_)) {
            self.engine_is_away(&error.to_string());
        }
    }

    fn engine_is_away(&self, why: &str) {
        if !std::mem::replace(&mut self.watch.health.lock().away, true) {
            self.note(EventKind::EngineLost, &self.engine.describe(), why);
        }
    }

    /// The engine did what it was asked for.
    pub(crate) fn engine_answers(&self) {
        if std::mem::replace(&mut self.watch.health.lock().away, false) {
            self.note(EventKind::EngineBack, &self.engine.describe(), "it answers again");
        }
    }

    fn engine_is_durable(&self, not_durable: Option<&str>) {
        let before = std::mem::replace(&mut self.watch.health.lock().not_durable, not_durable.is_some());
        match (before, not_durable) {
            (false, Some(why)) => self.note(EventKind::EngineNotDurable, &self.engine.describe(), why),
            (true, None) => self.note(EventKind::EngineDurable, &self.engine.describe(), "its settings fit again"),
            (true, Some(_)) | (false, None) => {}
        }
    }
}

/// Says once what is wrong with the settings of the engine's server, and once that it is mended.
#[derive(Debug, Default)]
struct Complaint {
    made: bool,
}

impl Complaint {
    fn about(&mut self, not_durable: Option<&str>) {
        match (not_durable, std::mem::replace(&mut self.made, not_durable.is_some())) {
            (Some(why), false) => {
                warn!(
                    "what is answered may be lost: the metadata engine's settings do not fit its durability level: {why}"
                );
            }
            (None, true) => tracing::info!("the metadata engine's settings fit its durability level again"),
            (Some(_), true) | (None, false) => {}
        }
    }
}

/// A server's state as one word, for labels.
pub(crate) const fn is_out(standing: Standing) -> bool {
    matches!(standing, Standing::Out)
}
