//! Events as they are applied, for those who watch.
//!
//! Never tells a user of inodes that he cannot reach; what is gone already is told to those only who see everything.

use std::sync::Arc;
use std::time::Duration;

use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphRequest, Viewer};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::PAGE_BYTES_MAX;
use dgfs_proto::log::{Change, Event};
use dgfs_proto::query::Query;
use dgfs_proto::status::Status;

use crate::query::{Ask, Deadline, Refusal};
use crate::service::IndexService;
use crate::step::inos_of_event;

/// Events of one answer.
const EVENTS_MAX: usize = 512;

impl IndexService {
    pub(super) async fn watch(
        self: &Arc<Self>,
        call: GraphCall,
        patience: Duration,
    ) -> Result<(Seq, GraphAnswer), Refusal> {
        let GraphRequest::Watch { after, sought } = call.request else { return Err(Status::Malformed.into()) };
        let index = &self.parts.index;
        let mut applied = index.subscribe();
        let mut at = after.unwrap_or_else(|| index.applied().seq);
        let late = self.sleep(patience);
        tokio::pin!(late);
        loop {
            applied.mark_unchanged();
            let events = index.recent_after(at, EVENTS_MAX).ok_or(Status::Stale)?;
            if let Some(last) = events.last() {
                at = last.seq;
            }
            let more = events.len() == EVENTS_MAX;
            let (viewer, sought) = (call.viewer.clone(), sought.clone());
            let service = Arc::clone(self);
            let seen = self.runtime.spawn_blocking(move || service.visible(events, &viewer, sought, patience)).await;
            let mut seen = seen.unwrap_or(Err(Status::Io.into()))?;
            if let Some(cut) = fit(&mut seen) {
                at = cut;
            }
            if !seen.is_empty() {
                return Ok((at, GraphAnswer::Events(seen)));
            }
            if more {
                continue;
            }
            tokio::select! {
                changed = applied.changed() => changed.map_err(|_| Status::Unavailable)?,
                () = &mut late => return Ok((at, GraphAnswer::Events(Vec::new()))),
            }
        }
    }

    fn visible(
        &self,
        events: Vec<Event>,
        viewer: &Viewer,
        sought: Option<Sought>,
        patience: Duration,
    ) -> Result<Vec<Event>, Refusal> {
        let sees_all = viewer.uid == 0;
        let events: Vec<Event> = events.into_iter().map(without_bytes).collect();
        if events.is_empty() || (sees_all && sought.is_none()) {
            return Ok(events);
        }
        let clock = &self.parts.clock;
        self.parts.index.read(|shared| {
            let ask = Ask {
                graph: &shared.graph,
                readers: &shared.readers,
                viewer,
                deadline: Deadline { clock, at: clock.monotonic().saturating_add(patience), gives_way: None },
                now_ns: i64::try_from(clock.wall_ns()).unwrap_or(i64::MAX),
            };
            let cache = &self.parts.index.cache;
            let reached = cache.everything(&ask, Ino::ROOT, viewer)?;
            let fits = match sought {
                Some(Sought { scope, query }) if query == Query::default() => cache.everything(&ask, scope, viewer)?,
                Some(sought) => cache.results(&ask, &sought, viewer)?,
                None => Arc::clone(&reached),
            };
            let within = |docs: &roaring::RoaringBitmap, ino: Ino| {
                shared.graph.columns.doc(ino).is_some_and(|doc| docs.contains(doc))
            };
            let shown = |event: &Event| {
                let inos = inos_of_event(event);
                let reachable = sees_all || inos.iter().all(|ino| *ino == Ino::ROOT || within(&reached.docs, *ino));
                reachable && inos.iter().any(|ino| within(&fits.docs, *ino))
            };
            Ok(events.into_iter().filter(shown).collect())
        })
    }
}

/// Who watches is told that data changed, not where they lie.
fn without_bytes(mut event: Event) -> Event {
    if let Change::Data(data) = &mut event.change {
        data.slots.clear();
        data.old_inline = None;
    }
    event
}

/// Cuts events to what one message takes; the last seq kept where some were cut.
fn fit(events: &mut Vec<Event>) -> Option<Seq> {
    let mut room = PAGE_BYTES_MAX;
    let fitting = events.iter().take_while(|event| {
        let bytes = postcard::to_allocvec(event).map_or(room, |bytes| bytes.len());
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    // One event always fits: the log's pages are bounded alike.
    let kept = fitting.count().max(1);
    if kept >= events.len() {
        return None;
    }
    events.truncate(kept);
    events.last().map(|event| event.seq)
}
