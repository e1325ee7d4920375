//! Builds the index anew from the metadata, while the old one goes on answering; and compares it with them.
//!
//! Never changes the index that answers before the new one is whole. Always: a rebuild begins with the log's end S, reads
//! everything, then applies the log from S; what was changed while it read is told by the log, and applying that to what
//! may have seen it already ends in the same state (see [`crate::step`]). A rebuild that was killed leaves nothing that
//! counts, and begins anew.

mod check;

use std::sync::Arc;

use thiserror::Error;
use tracing::info;

use dgfs_proto::graph::{Catalogue, GraphNode};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::limits::LIST_MAX;
use dgfs_runtime::lifecycle::Shutdown;

use crate::follower::whole_changes;
use crate::index::{Index, OpenError};
use crate::meta_link::{LogPage, MetaLink, Silence};
use crate::step::{Step, steps_of_event, steps_of_node};
use crate::store::{Mark, Store, StoreError, digest};

pub(crate) use check::check;

/// Inodes of one page.
const PAGE: usize = LIST_MAX;
/// The service hears that the log is still needed once for so many pages.
const PAGES_PER_REMINDER: u64 = 64;

/// Why a rebuild did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum RebuildError {
    /// The metadata service is away.
    #[error("the metadata service is not reachable")]
    Away,
    /// The log was cut meanwhile, or is another one.
    #[error("the change log was replaced while the index was built")]
    Log,
    /// The new database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug; the log has more.
    #[error("building the index ended early; see the log")]
    Panicked,
    /// The process stops.
    #[error("the index stops before it was built")]
    Stopped,
}

impl From<Silence> for RebuildError {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Trimmed => Self::Log,
            Silence::Away => Self::Away,
        }
    }
}

/// The metadata service, until the process is to stop: what is asked may be given up, what is written runs to its end.
struct Source<'a> {
    meta: &'a MetaLink,
    shutdown: &'a Shutdown,
}

impl Source<'_> {
    async fn or_stop<T>(&self, asked: impl Future<Output = Result<T, Silence>>) -> Result<T, RebuildError> {
        tokio::select! {
            answered = asked => Ok(answered?),
            () = self.shutdown.asked() => Err(RebuildError::Stopped),
        }
    }

    async fn nodes(&self, after: Option<Ino>) -> Result<Vec<GraphNode>, RebuildError> {
        self.or_stop(self.meta.nodes(after, PAGE)).await
    }

    async fn log_kept(&self, after: Seq) -> Result<LogPage, RebuildError> {
        self.or_stop(self.meta.log_kept(after)).await
    }
}

/// A database under construction, handed to the thread that may block and back.
struct Site {
    store: Store,
    steps: Vec<Step>,
    mark: Option<Mark>,
}

impl Site {
    /// Carries out what was gathered.
    async fn work(mut self) -> Result<Self, RebuildError> {
        tokio::task::spawn_blocking(move || {
            let steps = std::mem::take(&mut self.steps);
            self.store.prepare(steps, self.mark)?;
            self.store.commit()?;
            Ok(self)
        })
        .await
        .unwrap_or(Err(RebuildError::Panicked))
    }
}

/// Builds a new generation and lets it answer.
pub(crate) async fn rebuild(index: &Arc<Index>, meta: &MetaLink, shutdown: &Shutdown) -> Result<(), RebuildError> {
    let source = Source { meta, shutdown };
    index.set_building(Some(0));
    let begin = mark_of_head(&source).await?;
    info!(seq = %begin.seq, "index is built anew");
    let (store, generation) = index.begin_generation()?;
    let mut site = Site { store, steps: Vec::new(), mark: None };
    site = read_catalogue(site, &source).await?;
    site = read_nodes(site, index, &source, begin.seq).await?;
    site.mark = Some(begin);
    site = site.work().await?;
    site = catch_up(site, &source).await?;
    let (own, store) = (Arc::clone(index), site.store);
    let installed = tokio::task::spawn_blocking(move || own.install(store, generation)).await;
    installed.map_err(|_| RebuildError::Panicked)??;
    info!(seq = %index.applied().seq, "index was built");
    Ok(())
}

const fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

/// The log's end now; from it on, the log is kept.
async fn mark_of_head(source: &Source<'_>) -> Result<Mark, RebuildError> {
    let head = source.or_stop(source.meta.head()).await?;
    let page = source.log_kept(before(head)).await?;
    Ok(match page.events.first() {
        Some(event) if event.seq == head => Mark { seq: head, at: event.at, digest: digest(event) },
        _ if head.0 == 0 => Mark { seq: head, at: dgfs_proto::attr::Timestamp::default(), digest: 0 },
        _ => return Err(RebuildError::Log),
    })
}

async fn read_catalogue(mut site: Site, source: &Source<'_>) -> Result<Site, RebuildError> {
    let mut after: Option<TagId> = None;
    loop {
        let Catalogue { tags, saved } = source.or_stop(source.meta.catalogue(after)).await?;
        let last = tags.last().map(|(id, _)| *id);
        site.steps.extend(tags.into_iter().map(|(id, facts)| Step::Tag(id, Some(facts))));
        site.steps.extend(saved.into_iter().map(|(name, expression)| Step::Saved(name, Some(expression))));
        site = site.work().await?;
        // Numbers must grow: a service that repeats itself must not keep us here.
        match last {
            Some(last) if after.is_none_or(|after| last > after) => after = Some(last),
            Some(_) => return Err(RebuildError::Log),
            None => return Ok(site),
        }
    }
}

async fn read_nodes(mut site: Site, index: &Index, source: &Source<'_>, begin: Seq) -> Result<Site, RebuildError> {
    let mut after: Option<Ino> = None;
    let (mut read, mut pages) = (0, 0u64);
    let mut page = source.nodes(after).await?;
    loop {
        let Some(last) = page.last().map(|node| node.facts.ino) else { return Ok(site) };
        if after.is_some_and(|after| last <= after) {
            return Err(RebuildError::Log);
        }
        after = Some(last);
        read += page.len() as u64;
        pages += 1;
        for node in page {
            steps_of_node(node, &mut site.steps);
        }
        if pages.is_multiple_of(PAGES_PER_REMINDER) {
            source.log_kept(before(begin)).await?;
        }
        // The next page is on its way while this one is written.
        let (next, worked) = tokio::join!(source.nodes(after), site.work());
        site = worked?;
        page = next?;
        index.set_building(Some(read));
    }
}

/// Applies the log up to its end, as it was asked for last.
async fn catch_up(mut site: Site, source: &Source<'_>) -> Result<Site, RebuildError> {
    loop {
        let (seq, known) = (site.store.applied().seq, site.store.digest());
        let page = source.log_kept(before(seq)).await?;
        let mut events = page.events;
        if seq.0 > 0 {
            if events.first().is_none_or(|first| first.seq != seq || digest(first) != known) {
                return Err(RebuildError::Log);
            }
            events.remove(0);
        }
        let events = source.or_stop(whole_changes(source.meta, events)).await?;
        let Some(last) = events.last() else { return Ok(site) };
        for event in &events {
            steps_of_event(event, &mut site.steps);
        }
        site.mark = Some(Mark { seq: last.seq, at: last.at, digest: digest(last) });
        let done = last.seq >= page.head;
        site = site.work().await?;
        if done {
            return Ok(site);
        }
    }
}
