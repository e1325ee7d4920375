//! Follows the change log from the event that was applied last.
//!
//! Never takes a log for the one it knows without having compared that event: after another log (the metadata was brought
//! back from a backup), or where the log begins later, the index is built anew. The metadata service keeps what is not
//! applied, because each request under the consumer's name says how far it is.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use dgfs_proto::ids::Seq;
use dgfs_proto::log::Event;
use dgfs_runtime::lifecycle::Shutdown;

use crate::index::Index;
use crate::meta_link::{LogPage, MetaLink, Silence};
use crate::rebuild::rebuild;
use crate::store::{StoreError, digest};

/// Pause after an error.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a page, so that events gather and share a transaction, while nobody waits for them.
const GATHER: Duration = Duration::from_millis(15);

/// Pages that one change may take: more than any does.
const PAGES_PER_CHANGE_MAX: usize = 64;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Go on after a moment in which events gather.
    Gather,
    /// Go on at once.
    Again,
    /// Something is away: try again later.
    Pause,
    /// What is there does not lead to what the log says.
    Rebuild,
}

/// What a look at the log brought.
enum Fetched {
    /// Events to apply, whole changes.
    Events(Vec<Event>),
    /// Nothing to apply.
    Nothing(Next),
}

/// Follows until `shutdown`. When it returns, nothing of it is under way any more: another index may open the directory.
pub async fn follow(index: Arc<Index>, meta: Arc<MetaLink>, shutdown: Shutdown) {
    info!(seq = %index.applied().seq, "index follows the change log");
    loop {
        // Questions to the metadata service may be given up at any time; what writes runs to its end.
        let fetched = tokio::select! {
            fetched = fetch(&index, &meta) => fetched,
            () = index.rebuild.notified() => Fetched::Nothing(Next::Rebuild),
            () = shutdown.asked() => return,
        };
        let next = match fetched {
            Fetched::Events(events) => apply(&index, events).await,
            Fetched::Nothing(next) => next,
        };
        let pause = match next {
            Next::Again => continue,
            Next::Gather if index.is_wanted() => continue,
            Next::Gather => GATHER,
            Next::Pause => PAUSE,
            Next::Rebuild => {
                let built = rebuild(&index, &meta, &shutdown).await;
                index.set_building(None);
                match built {
                    Ok(()) => continue,
                    Err(error) => {
                        warn!(%error, "the index was not built; trying again");
                        PAUSE
                    }
                }
            }
        };
        let hurried = async {
            // A query that waits ends the gathering; it cannot bring back who is away.
            if next == Next::Gather { index.hurry.notified().await } else { std::future::pending().await }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hurried => {}
            () = shutdown.asked() => return,
        }
    }
}

async fn fetch(index: &Index, meta: &MetaLink) -> Fetched {
    let Some((seq, known)) = index.last_event() else { return Fetched::Nothing(Next::Rebuild) };
    let kept_from = Seq(seq.0.saturating_sub(1));
    let page = match meta.log_kept(kept_from).await {
        Ok(page) => page,
        Err(silence) => return Fetched::Nothing(after_silence(silence)),
    };
    let Some(mut new) = behind_known(page, seq, known, index) else {
        warn!(%seq, "the change log is another one than the index followed; building anew");
        return Fetched::Nothing(Next::Rebuild);
    };
    if new.is_empty() {
        match meta.log_next(seq).await {
            Ok(page) => {
                index.hear_head(page.head);
                new = page.events;
            }
            Err(silence) => return Fetched::Nothing(after_silence(silence)),
        }
    }
    if new.is_empty() {
        return Fetched::Nothing(Next::Again);
    }
    if new.first().is_some_and(|event| event.seq != seq.next()) {
        warn!(%seq, "the change log has a gap behind what the index applied; building anew");
        return Fetched::Nothing(Next::Rebuild);
    }
    match whole_changes(meta, new).await {
        Ok(new) => Fetched::Events(new),
        Err(silence) => Fetched::Nothing(after_silence(silence)),
    }
}

fn after_silence(silence: Silence) -> Next {
    match silence {
        Silence::Trimmed => {
            warn!("the change log begins behind what the index applied; building anew");
            Next::Rebuild
        }
        Silence::Away => Next::Pause,
    }
}

/// The events behind the one that was applied last, if that one is the log's, too.
fn behind_known(page: LogPage, seq: Seq, known: u64, index: &Index) -> Option<Vec<Event>> {
    index.hear_head(page.head);
    let mut events = page.events;
    if seq.0 == 0 {
        return Some(events);
    }
    let first = events.first()?;
    if first.seq != seq || digest(first) != known {
        return None;
    }
    events.remove(0);
    Some(events)
}

/// Cuts events behind the last change that is there as a whole; where not even the first one is, the rest of it is fetched.
pub(crate) async fn whole_changes(meta: &MetaLink, mut events: Vec<Event>) -> Result<Vec<Event>, Silence> {
    for _ in 0..PAGES_PER_CHANGE_MAX {
        if let Some(last) = events.iter().rposition(|event| !event.continues) {
            events.truncate(last + 1);
            return Ok(events);
        }
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(events) };
        let more = meta.log_next(last).await?.events;
        if more.first().is_some_and(|event| event.seq != last.next()) {
            return Err(Silence::Trimmed);
        }
        events.extend(more);
    }
    warn!(seq = ?events.last().map(|event| event.seq), "the change log has a change without an end");
    Err(Silence::Away)
}

/// Applies events on a thread that may wait for the disk.
async fn apply(index: &Arc<Index>, events: Vec<Event>) -> Next {
    let index = Arc::clone(index);
    let applied = tokio::task::spawn_blocking(move || index.apply(&events)).await;
    match applied.unwrap_or(Err(StoreError::Damaged("applying events ended early; the log has more"))) {
        Ok(()) => Next::Gather,
        Err(error) if error.is_lost() => {
            warn!(%error, "the index is damaged; building anew");
            Next::Rebuild
        }
        Err(error) => {
            warn!(%error, "events could not be applied; trying again");
            Next::Pause
        }
    }
}
