//! Looks for versions that nothing refers to.
//!
//! Never decides that one is an orphan: meta does. *Orphans* are versions put and never committed, or dropped and brought back
//! by a crash before the next checkpoint. After the start, and every [`PASS`], the held versions older than [`AGE_S`] that were
//! not asked about before are shown to meta.

use std::time::Duration;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::meta::{LiveQuery, MetaReply, ServerRequest};
use tokio::time::Instant;

use crate::beat::{Failure, Link};
use crate::store::{Held, Store};

/// A version is asked about when it is older: a commit follows its put within seconds.
const AGE_S: u64 = 300;
/// How often the held versions are gone through.
const PASS: Duration = Duration::from_secs(3600);
/// Every so many passes ask about all versions again, also those once called live: a session that lived then may be gone.
const FULL_PASS: u64 = 24;
/// Questions in one call.
const QUESTIONS_MAX: usize = 256;
/// Entries looked at for the questions of one heartbeat.
const SCAN_MAX: usize = 16 * 1024;
const PAGE: usize = 1024;

/// The orphan collector: where its pass stands.
#[derive(Default)]
pub(crate) struct Orphans {
    pass: Option<Pass>,
    passes: u64,
    last_begun: Option<Instant>,
    /// Versions put up to then were asked about.
    asked_to: u64,
}

/// One way through the held versions.
struct Pass {
    after: Option<VersionId>,
    /// Seconds since 1970 between which the put must lie.
    from: u64,
    to: u64,
}

impl Orphans {
    /// Asks about some versions, when it is time.
    pub(crate) async fn step(&mut self, link: &Link) -> Result<(), Failure> {
        let Some(pass) = self.current(link.store.now()) else { return Ok(()) };
        let (after, from, to) = (pass.after, pass.from, pass.to);
        let found = link.blocking(move |store| questions(store, after, from, to)).await?;
        if !found.questions.is_empty() {
            let asked = ServerRequest::CheckLive(found.questions.iter().map(question_of).collect());
            let MetaReply::Live(live) = link.ask(asked).await? else {
                return Err(Failure::Later("the metadata service answered a question with something else".to_owned()));
            };
            if live.len() != found.questions.len() {
                return Err(Failure::Later("the metadata service answered another number of questions".to_owned()));
            }
            let orphans: Vec<VersionId> =
                found.questions.iter().zip(live).filter(|(_, live)| !live).map(|(held, _)| held.held.id).collect();
            if !orphans.is_empty() {
                tracing::info!(count = orphans.len(), "versions that nothing refers to are dropped");
            }
            link.drop_versions(orphans).await?;
        }
        match found.next {
            Some(next) => pass.after = Some(next),
            None => {
                self.asked_to = to;
                self.pass = None;
            }
        }
        Ok(())
    }

    /// Everything is asked about again from the start: others dropped things while this server was away.
    pub(crate) fn begin_anew(&mut self) {
        self.passes = 0;
        self.last_begun = None;
        self.pass = None;
    }

    fn current(&mut self, now: u64) -> Option<&mut Pass> {
        if self.pass.is_none() && self.last_begun.is_none_or(|begun| begun.elapsed() >= PASS) {
            let from = if self.passes.is_multiple_of(FULL_PASS) { 0 } else { self.asked_to };
            self.passes += 1;
            self.last_begun = Some(Instant::now());
            self.pass = Some(Pass { after: None, from, to: now.saturating_sub(AGE_S) });
        }
        self.pass.as_mut()
    }
}

struct Found {
    questions: Vec<Held>,
    /// Where to go on; none at the end.
    next: Option<VersionId>,
}

fn questions(store: &Store, after: Option<VersionId>, from: u64, to: u64) -> Result<Found, String> {
    let mut questions = Vec::new();
    let mut next = after;
    let mut scanned = 0;
    while scanned < SCAN_MAX {
        let page = store.list(next, PAGE).map_err(|status| format!("list the held versions: {status}"))?;
        for held in &page {
            next = Some(held.held.id);
            if held.put_at >= from && held.put_at <= to {
                questions.push(*held);
                if questions.len() == QUESTIONS_MAX {
                    return Ok(Found { questions, next });
                }
            }
        }
        scanned += page.len();
        if page.len() < PAGE {
            return Ok(Found { questions, next: None });
        }
    }
    Ok(Found { questions, next })
}

pub(crate) fn question_of(held: &Held) -> LiveQuery {
    LiveQuery { id: held.held.id, owner: held.held.owner, index: held.held.index }
}
