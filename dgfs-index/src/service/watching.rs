//! Events as they are applied, for those who watch.
//!
//! Never tells a user of inodes that he cannot reach; what is gone already is told to those only who see everything, or who had
//! been told of it as fitting. Always: what fitted when a watch was answered last and does not any more is told as having left.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringTreemap;

use dgfs_proto::graph::answer::Told;
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphRequest, Viewer};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::PAGE_BYTES_MAX;
use dgfs_proto::log::{Change, Event};
use dgfs_proto::query::Query;
use dgfs_proto::status::Status;

use crate::index::Shared;
use crate::query::results::Results;
use crate::query::{Ask, Deadline, Refusal};
use crate::recent::Remembered;
use crate::service::IndexService;
use crate::service::watches::{Inos, Watched};
use crate::step::inos_of_event;

/// Events of one answer.
const EVENTS_MAX: usize = 512;
/// Inodes that are told to have left with one change; the rest is told with the next one.
const LEFT_MAX: usize = 1000;

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
        let watched = sought.map(|sought| Watched { sought, viewer: call.viewer.clone() });
        let mut before = match &watched {
            Some(watched) => Some(self.fitted(watched, at, patience).await?),
            None => None,
        };
        let late = self.sleep(patience);
        tokio::pin!(late);
        loop {
            applied.mark_unchanged();
            let events = index.recent_after(at, EVENTS_MAX).ok_or(Status::Stale)?;
            if let Some(last) = events.last() {
                at = last.event.seq;
            }
            let more = events.len() == EVENTS_MAX;
            let look = Look { events, viewer: call.viewer.clone(), watched: watched.clone(), before: before.clone() };
            let service = Arc::clone(self);
            let seen = self.runtime.spawn_blocking(move || service.visible(look, patience)).await;
            let (mut seen, now) = seen.unwrap_or(Err(Status::Io.into()))?;
            if let Some(cut) = fit(&mut seen) {
                at = cut;
            }
            before = before.zip(now).map(|(before, now)| still_fitting(&before, &now, &seen));
            if let (Some(watched), Some(inos)) = (&watched, &before) {
                self.watches.put(watched.clone(), at, Arc::clone(inos));
            }
            if !seen.is_empty() {
                return Ok((at, GraphAnswer::Told(seen)));
            }
            if more {
                continue;
            }
            tokio::select! {
                changed = applied.changed() => changed.map_err(|_| Status::Unavailable)?,
                () = &mut late => return Ok((at, GraphAnswer::Told(Vec::new()))),
            }
        }
    }

    /// What fitted when the watch was answered up to `at`; where that is not remembered, what fits now.
    async fn fitted(self: &Arc<Self>, watched: &Watched, at: Seq, patience: Duration) -> Result<Inos, Refusal> {
        if let Some(inos) = self.watches.get(watched, at) {
            return Ok(inos);
        }
        let (service, watched) = (Arc::clone(self), watched.clone());
        let look = move || {
            service.parts.index.read(|shared| {
                let ask = service.asking(shared, &watched.viewer, patience);
                let fits = service.fitting(&ask, &watched.sought, &watched.viewer)?;
                Ok(inos_of(&fits, &ask))
            })
        };
        self.runtime.spawn_blocking(look).await.unwrap_or(Err(Status::Io.into()))
    }

    fn asking<'a>(&'a self, shared: &'a Shared, viewer: &'a Viewer, patience: Duration) -> Ask<'a> {
        let clock = &self.parts.clock;
        Ask {
            graph: &shared.graph,
            readers: &shared.readers,
            viewer,
            deadline: Deadline { clock, at: clock.monotonic().saturating_add(patience), gives_way: None },
            now_ns: i64::try_from(clock.wall_ns()).unwrap_or(i64::MAX),
        }
    }

    fn fitting<'a>(&self, ask: &Ask<'a>, sought: &Sought, viewer: &'a Viewer) -> Result<Arc<Results>, Refusal> {
        let cache = &self.parts.index.cache;
        if sought.query == Query::default() {
            return cache.everything(ask, sought.scope, viewer);
        }
        cache.results(ask, sought, viewer)
    }

    /// What of the events is told, and what fits now.
    fn visible(&self, look: Look, patience: Duration) -> Result<(Vec<Told>, Option<Inos>), Refusal> {
        let Look { events, viewer, watched, before } = look;
        let sees_all = viewer.uid == 0;
        let mut told: Vec<Told> = events.into_iter().map(told).collect();
        if told.is_empty() || (sees_all && watched.is_none()) {
            return Ok((told, before));
        }
        self.parts.index.read(|shared| {
            let ask = self.asking(shared, &viewer, patience);
            let reached = self.parts.index.cache.everything(&ask, Ino::ROOT, &viewer)?;
            let fits = match &watched {
                Some(watched) => self.fitting(&ask, &watched.sought, &viewer)?,
                None => Arc::clone(&reached),
            };
            let now = watched.is_some().then(|| inos_of(&fits, &ask));
            if let (Some(before), Some(now)) = (&before, &now) {
                tell_what_left(&mut told, &(&**before - &**now));
            }
            let within = |docs: &roaring::RoaringBitmap, ino: Ino| {
                shared.graph.columns.doc(ino).is_some_and(|doc| docs.contains(doc))
            };
            told.retain_mut(|one| {
                let inos = one.event.as_ref().map(inos_of_event).unwrap_or_default();
                let left = &one.left;
                let may_be_told = |ino: &Ino| *ino == Ino::ROOT || left.contains(ino) || within(&reached.docs, *ino);
                let reachable = sees_all || inos.iter().all(may_be_told);
                if reachable && inos.iter().any(|ino| left.contains(ino) || within(&fits.docs, *ino)) {
                    return true;
                }
                one.event = None;
                one.retagged.clear();
                !one.left.is_empty()
            });
            Ok((told, now))
        })
    }
}

/// What is looked at for one answer.
struct Look {
    events: Vec<Remembered>,
    viewer: Viewer,
    watched: Option<Watched>,
    before: Option<Inos>,
}

fn inos_of(results: &Results, ask: &Ask<'_>) -> Inos {
    Arc::new(results.docs.iter().filter_map(|doc| ask.graph.columns.ino(doc)).map(Ino::get).collect())
}

fn told(remembered: Remembered) -> Told {
    let Remembered { event, retagged } = remembered;
    Told { seq: event.seq, at: event.at, event: Some(without_bytes(event)), retagged, left: Vec::new() }
}

/// Tells what does not fit any more with the last change that names it, if there is one that took it from its place or changed its
/// tags with that. What none names (it lay in a directory that was moved, a tag that it carries got another meaning, or its time
/// is over) is told with the last change of all.
fn tell_what_left(told: &mut [Told], gone: &RoaringTreemap) {
    let mut gone = gone.clone();
    for only_places in [true, false] {
        for one in told.iter_mut().rev() {
            let Some(event) = one.event.as_ref().filter(|event| !only_places || takes_away(event)) else { continue };
            let named = inos_of_event(event).into_iter().filter(|ino| gone.remove(ino.get()));
            one.left.extend(named.take(LEFT_MAX));
        }
    }
    if let Some(last) = told.last_mut() {
        let room = LEFT_MAX.saturating_sub(last.left.len());
        last.left.extend(gone.iter().take(room).filter_map(Ino::new));
    }
}

fn takes_away(event: &Event) -> bool {
    matches!(event.change, Change::Unlinked { .. } | Change::Renamed { .. } | Change::Tagged { .. })
}

/// What is to be known of for the next answer: what fits, and what left and was not told yet.
fn still_fitting(before: &RoaringTreemap, now: &RoaringTreemap, seen: &[Told]) -> Inos {
    let mut inos = before | now;
    for left in seen.iter().flat_map(|one| &one.left) {
        inos.remove(left.get());
    }
    Arc::new(inos)
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
fn fit(events: &mut Vec<Told>) -> Option<Seq> {
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
