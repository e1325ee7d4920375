//! What fits and can be reached, kept for a moment: a listing is asked for page by page and name by name.
//!
//! Never outlives the state of the graph that it was made from. Always: at most [`CACHED_MAX`] results of together at most
//! [`CACHED_DOCS_MAX`] inodes are kept.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
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
use crate::query::evaluate::{Asker, Scores};
use crate::query::naming::{is_taken, resolve, with_id};
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

/// What fits and can be reached.
pub(crate) struct Results {
    pub(crate) docs: RoaringBitmap,
    pub(crate) plan: Vec<String>,
    scores: Scores,
    listing: OnceLock<Listing>,
}

/// Hits by inode number, each with the name that it is reached by.
struct Listing {
    hits: Vec<(Ino, Doc, NameIx)>,
    /// Whose a name is: the lowest inode's.
    owners: HashMap<NameIx, Ino, BuildHasherDefault<NumberHasher>>,
}

impl Listing {
    fn position(&self, ino: Ino) -> Option<&(Ino, Doc, NameIx)> {
        self.hits.binary_search_by_key(&ino, |hit| hit.0).ok().and_then(|at| self.hits.get(at))
    }
}

impl Results {
    fn listing(&self, ask: &Ask<'_>, view: &View<'_>) -> &Listing {
        self.listing.get_or_init(|| {
            let hit = |doc| Some((ask.graph.columns.ino(doc)?, doc, view.admitted(doc)?.name));
            let mut hits: Vec<(Ino, Doc, NameIx)> = self.docs.iter().filter_map(hit).collect();
            hits.sort_unstable();
            let mut owners = HashMap::with_capacity_and_hasher(hits.len(), BuildHasherDefault::default());
            for (ino, _, name) in &hits {
                owners.entry(*name).or_insert(*ino);
            }
            Listing { hits, owners }
        })
    }

    /// Hits behind `after`, and whether they are the last.
    pub(crate) fn page(&self, ask: &Ask<'_>, view: &View<'_>, after: Option<Ino>, limit: usize) -> (Vec<Hit>, bool) {
        let listing = self.listing(ask, view);
        let first = after.map_or(0, |after| listing.hits.partition_point(|hit| hit.0 <= after));
        let rest = listing.hits.get(first..).unwrap_or_default();
        let page = rest.iter().take(limit).filter_map(|hit| self.show(ask, listing, *hit)).collect();
        (page, rest.len() <= limit)
    }

    fn show(&self, ask: &Ask<'_>, listing: &Listing, hit: (Ino, Doc, NameIx)) -> Option<Hit> {
        let (ino, doc, name_ix) = hit;
        let base = ask.graph.name(name_ix);
        let base_of = |ino| listing.position(ino).map(|hit| ask.graph.name(hit.2).to_vec());
        let own = listing.owners.get(&name_ix) == Some(&ino) && !is_taken(base, base_of);
        let name = if own { Name::new(base) } else { Name::new(&with_id(base, ino)) };
        let permille =
            if self.scores.is_empty() { UNRANKED } else { self.scores.get(&doc).copied().unwrap_or(UNRANKED) };
        Some(Hit { ino, kind: ask.graph.columns.facts(doc).kind, name: name.ok()?, permille })
    }

    /// The hit that is shown under a name.
    pub(crate) fn entry(&self, ask: &Ask<'_>, view: &View<'_>, name: &Name) -> Option<Hit> {
        let listing = self.listing(ask, view);
        let base_of = |ino| listing.position(ino).map(|hit| ask.graph.name(hit.2).to_vec());
        let owner = |name: &[u8]| ask.graph.names.find(name).and_then(|name| listing.owners.get(&name)).copied();
        let ino = resolve(name, base_of, owner)?;
        let mut hit = self.show(ask, listing, *listing.position(ino)?)?;
        // Asked for by its id it is answered by its id, also where its base name would do.
        hit.name = name.clone();
        Some(hit)
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
        Ok(self.keep(ask, key, Results { docs, plan: found.plan, scores: found.scores, listing: OnceLock::new() }))
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
        let results = Results { docs, plan: Vec::new(), scores: Scores::new(), listing: OnceLock::new() };
        Ok(self.keep(ask, key, results))
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
