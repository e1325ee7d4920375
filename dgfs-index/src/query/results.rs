//! What fits and can be reached, kept for a moment: a listing is asked for page by page and name by name.
//!
//! Never outlives the state of the graph that it was made from. Always: at most [`CACHED_MAX`] results of together at most
//! [`CACHED_DOCS_MAX`] inodes are kept; a large result is put in order only when it is looked at again and again, as a first
//! page or a name can be had by passing over it once.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use dgfs_proto::graph::Viewer;
use dgfs_proto::graph::answer::Hit;
use dgfs_proto::graph::request::Sought;
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::query::Query;
use dgfs_proto::status::Status;

use crate::graph::columns::{Doc, NumberHasher};
use crate::graph::names::NameIx;
use crate::query::evaluate::{Asker, PlanStep, Scores};
use crate::query::naming::{Kept, ids_in, is_taken, with_id};
use crate::query::view::View;
use crate::query::{Ask, Refusal};

/// Results kept.
const CACHED_MAX: usize = 16;
/// Inodes in all of them: about 50 bytes each once listed.
const CACHED_DOCS_MAX: u64 = 4_000_000;
/// A result that depends on the clock (`@recent`) must not be kept for long.
const CACHED_FOR: Duration = Duration::from_secs(10);
/// A hit that nothing ranks.
const UNRANKED: u16 = 1000;

/// Up to so many hits are put in order at the first look: that costs no more than passing over them.
const ORDERED_AT_ONCE_MAX: u64 = 4096;
/// Looks at a larger result that pass over all of it: `stat`, open and the first page of `ls`, and a name or two. The next one
/// puts it in order (some ten times the cost) for all that follow.
const LOOKS_MAX: u32 = 6;

/// A hit and the name that it is reached by.
type Named = (Ino, Doc, NameIx);
/// Whose a name is: the lowest inode's.
type Owners = HashMap<NameIx, Ino, BuildHasherDefault<NumberHasher>>;

/// What fits and can be reached.
pub(crate) struct Results {
    pub(crate) docs: RoaringBitmap,
    pub(crate) plan: Vec<PlanStep>,
    scores: Scores,
    kept: Kept,
    listing: OnceLock<Listing>,
    looks: AtomicU32,
}

/// Hits by inode number.
struct Listing {
    hits: Vec<Named>,
    owners: Owners,
}

/// Is there anything in the volume that could be shown under this name?
pub(crate) fn may_be_shown(ask: &Ask<'_>, name: &Name) -> bool {
    ask.graph.names.find(name.as_bytes()).is_some() || ids_in(name.as_bytes()).next().is_some()
}

impl Results {
    fn new(docs: RoaringBitmap, plan: Vec<PlanStep>, scores: Scores, kept: Kept) -> Self {
        Self { docs, plan, scores, kept, listing: OnceLock::new(), looks: AtomicU32::new(0) }
    }

    /// The hits in order, if that is worth while now.
    fn listing(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<&Listing> {
        let is_ordered = self.listing.get().is_some() || self.docs.len() <= ORDERED_AT_ONCE_MAX;
        if !is_ordered && self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX {
            return None;
        }
        Some(self.listing.get_or_init(|| {
            let hit = |doc| Some((ask.graph.columns.ino(doc)?, doc, view.admitted(doc)?.name));
            let mut hits: Vec<Named> = self.docs.iter().filter_map(hit).collect();
            hits.sort_unstable();
            let mut owners = Owners::with_capacity_and_hasher(hits.len(), BuildHasherDefault::default());
            for (ino, _, name) in &hits {
                owners.entry(*name).or_insert(*ino);
            }
            Listing { hits, owners }
        }))
    }

    /// Hits behind `after`, and whether they are the last.
    ///
    /// # Errors
    /// `Unavailable` when time is up.
    pub(crate) fn page(
        &self,
        ask: &Ask<'_>,
        view: &View<'_>,
        after: Option<Ino>,
        limit: usize,
    ) -> Result<(Vec<Hit>, bool), Refusal> {
        if let Some(Listing { hits, owners }) = self.listing(ask, view) {
            let first = after.map_or(0, |after| hits.partition_point(|hit| hit.0 <= after));
            let rest = hits.get(first..).unwrap_or_default();
            let page = rest.iter().take(limit).filter_map(|hit| self.show(ask, view, owners, *hit)).collect();
            return Ok((page, rest.len() <= limit));
        }
        let (hits, end) = self.lowest(ask, view, after, limit)?;
        let owners = self.owners(ask, view, &hits)?;
        Ok((hits.into_iter().filter_map(|hit| self.show(ask, view, &owners, hit)).collect(), end))
    }

    /// The lowest hits behind `after`, found by passing over all, and whether they are the last.
    fn lowest(
        &self,
        ask: &Ask<'_>,
        view: &View<'_>,
        after: Option<Ino>,
        limit: usize,
    ) -> Result<(Vec<Named>, bool), Refusal> {
        let mut lowest: BinaryHeap<(Ino, Doc)> = BinaryHeap::with_capacity(limit + 1);
        let (mut behind, mut steps) = (0, 0);
        for doc in &self.docs {
            ask.deadline.check_sometimes(&mut steps)?;
            let Some(ino) = ask.graph.columns.ino(doc).filter(|ino| Some(*ino) > after) else { continue };
            behind += 1;
            if lowest.len() < limit {
                lowest.push((ino, doc));
            } else if lowest.peek().is_some_and(|highest| ino < highest.0) {
                lowest.pop();
                lowest.push((ino, doc));
            }
        }
        let named = |(ino, doc)| Some((ino, doc, view.admitted(doc)?.name));
        Ok((lowest.into_sorted_vec().into_iter().filter_map(named).collect(), behind <= limit))
    }

    /// Whose the names of `hits` are among all hits. A name that the volume has once needs no look at the others.
    fn owners(&self, ask: &Ask<'_>, view: &View<'_>, hits: &[Named]) -> Result<Owners, Refusal> {
        // Backwards, so that the lowest stays.
        let mut owners: Owners = hits.iter().rev().map(|(ino, _, name)| (*name, *ino)).collect();
        let mut several: Owners = owners.clone();
        several.retain(|name, _| ask.graph.names.links(*name) > 1);
        if several.is_empty() {
            return Ok(owners);
        }
        let columns = &ask.graph.columns;
        let mut steps = 0;
        for doc in &self.docs {
            ask.deadline.check_sometimes(&mut steps)?;
            if !columns.links(doc).any(|link| several.contains_key(&link.name)) {
                continue;
            }
            if let (Some(ino), Some(link)) = (columns.ino(doc), view.admitted(doc))
                && let Some(owner) = owners.get_mut(&link.name)
            {
                *owner = ino.min(*owner);
            }
        }
        Ok(owners)
    }

    /// The name that a hit is reached by.
    fn base(&self, ask: &Ask<'_>, view: &View<'_>, ino: Ino) -> Option<Named> {
        let doc = ask.graph.columns.doc(ino).filter(|doc| self.docs.contains(*doc))?;
        Some((ino, doc, view.admitted(doc)?.name))
    }

    fn show(&self, ask: &Ask<'_>, view: &View<'_>, owners: &Owners, hit: Named) -> Option<Hit> {
        let (ino, doc, name_ix) = hit;
        let base = ask.graph.name(name_ix);
        let base_of = |ino| self.base(ask, view, ino).map(|hit| ask.graph.name(hit.2).to_vec());
        let own = owners.get(&name_ix) == Some(&ino) && !self.kept.has(base) && !is_taken(base, base_of);
        let name = if own { Name::new(base) } else { Name::new(&with_id(base, ino)) };
        let permille =
            if self.scores.is_empty() { UNRANKED } else { self.scores.get(&doc).copied().unwrap_or(UNRANKED) };
        Some(Hit { ino, kind: ask.graph.columns.facts(doc).kind, name: name.ok()?, permille })
    }

    /// The hit that is shown under a name: with its own id, or as its base name's owner.
    ///
    /// # Errors
    /// `NotFound`, and `Unavailable` when time is up.
    pub(crate) fn entry(&self, ask: &Ask<'_>, view: &View<'_>, name: &Name) -> Result<Hit, Refusal> {
        let by_id = ids_in(name.as_bytes()).filter_map(|ino| self.base(ask, view, ino));
        let mut shown = by_id.filter(|hit| with_id(ask.graph.name(hit.2), hit.0) == name.as_bytes());
        let found = match shown.next() {
            Some(hit) => hit,
            None => self.owner(ask, view, name)?.ok_or(Status::NotFound)?,
        };
        // Asked for by its id it is answered by its id, also where its base name would do.
        let kind = ask.graph.columns.facts(found.1).kind;
        let permille = self.scores.get(&found.1).copied().unwrap_or(UNRANKED);
        Ok(Hit { ino: found.0, kind, name: name.clone(), permille })
    }

    fn owner(&self, ask: &Ask<'_>, view: &View<'_>, name: &Name) -> Result<Option<Named>, Refusal> {
        if self.kept.has(name.as_bytes()) {
            return Ok(None);
        }
        let Some(name_ix) = ask.graph.names.find(name.as_bytes()) else { return Ok(None) };
        if let Some(listing) = self.listing(ask, view) {
            return Ok(listing.owners.get(&name_ix).and_then(|ino| self.base(ask, view, *ino)));
        }
        let columns = &ask.graph.columns;
        let (mut lowest, mut steps): (Option<Named>, u32) = (None, 0);
        for doc in &self.docs {
            ask.deadline.check_sometimes(&mut steps)?;
            if columns.links(doc).any(|link| link.name == name_ix)
                && let (Some(ino), Some(link)) = (columns.ino(doc), view.admitted(doc))
                && link.name == name_ix
                && lowest.is_none_or(|known| ino < known.0)
            {
                lowest = Some((ino, doc, name_ix));
            }
        }
        Ok(lowest)
    }
}

/// What a result was made for.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    stamp: u64,
    scope: Ino,
    /// None: everything, directories too.
    query: Option<Query>,
    viewer: Viewer,
}

struct Cached {
    key: Key,
    since: Duration,
    results: Arc<Results>,
}

/// Results of the last questions.
#[derive(Default)]
pub(crate) struct ResultCache {
    kept: Mutex<VecDeque<Cached>>,
}

impl ResultCache {
    /// What fits and can be reached.
    ///
    /// # Errors
    /// `NotFound` for saved queries and inodes that are named and are not there, `Unavailable` when time is up.
    pub(crate) fn results<'a>(
        &self,
        ask: &Ask<'a>,
        sought: &Sought,
        viewer: &'a Viewer,
    ) -> Result<Arc<Results>, Refusal> {
        let key = self.key(ask, sought.scope, Some(sought.query.clone()), viewer);
        if let Some(known) = self.known(ask, &key) {
            return Ok(known);
        }
        scope_exists(ask, sought.scope, viewer)?;
        let found = ask.find(&sought.query, Asker { scope: sought.scope, viewer })?;
        let view = View::new(ask.graph, sought.scope, viewer);
        let docs = view.cut(found.docs, &ask.deadline)?;
        Ok(self.keep(ask, key, Results::new(docs, found.plan, found.scores, Kept::by(&sought.query))))
    }

    /// Everything below a directory that can be reached, directories too.
    pub(crate) fn everything<'a>(
        &self,
        ask: &Ask<'a>,
        scope: Ino,
        viewer: &'a Viewer,
    ) -> Result<Arc<Results>, Refusal> {
        let key = self.key(ask, scope, None, viewer);
        if let Some(known) = self.known(ask, &key) {
            return Ok(known);
        }
        scope_exists(ask, scope, viewer)?;
        let docs = View::new(ask.graph, scope, viewer).cut(ask.graph.columns.live().clone(), &ask.deadline)?;
        Ok(self.keep(ask, key, Results::new(docs, Vec::new(), Scores::new(), Kept::default())))
    }

    fn key(&self, ask: &Ask<'_>, scope: Ino, query: Option<Query>, viewer: &Viewer) -> Key {
        Key { stamp: ask.graph.applied.stamp, scope, query, viewer: viewer.clone() }
    }

    fn known(&self, ask: &Ask<'_>, key: &Key) -> Option<Arc<Results>> {
        let now = ask.deadline.clock.monotonic();
        let mut kept = self.kept.lock();
        kept.retain(|cached| cached.key.stamp == key.stamp && now.saturating_sub(cached.since) < CACHED_FOR);
        kept.iter().find(|cached| cached.key == *key).map(|cached| Arc::clone(&cached.results))
    }

    fn keep(&self, ask: &Ask<'_>, key: Key, results: Results) -> Arc<Results> {
        let results = Arc::new(results);
        let mut kept = self.kept.lock();
        kept.push_back(Cached { key, since: ask.deadline.clock.monotonic(), results: Arc::clone(&results) });
        let mut docs: u64 = kept.iter().map(|cached| cached.results.docs.len()).sum();
        while kept.len() > CACHED_MAX || (docs > CACHED_DOCS_MAX && kept.len() > 1) {
            docs -= kept.pop_front().map_or(0, |cached| cached.results.docs.len());
        }
        results
    }

    /// Forgets everything: the graph is another one.
    pub(crate) fn clear(&self) {
        self.kept.lock().clear();
    }
}

/// Is the scope a directory that the viewer can reach? The root always is.
fn scope_exists(ask: &Ask<'_>, scope: Ino, viewer: &Viewer) -> Result<(), Refusal> {
    if scope == Ino::ROOT {
        return Ok(());
    }
    let doc = ask.graph.columns.doc(scope).ok_or(Status::NotFound)?;
    let columns = &ask.graph.columns;
    if !columns.live().contains(doc) || !View::new(ask.graph, Ino::ROOT, viewer).leads_to(doc) {
        return Err(Status::NotFound.into());
    }
    if columns.directories().contains(doc) { Ok(()) } else { Err(Status::NotDirectory.into()) }
}
